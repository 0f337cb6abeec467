"""Invitations: who was asked into an application, by whom, and what became of it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from automata_signal.ids import new_id


class InvitationState(models.TextChoices):
    OPEN = "open", _("open")
    ACCEPTED = "accepted", _("accepted")
    REVOKED = "revoked", _("revoked")
    EXPIRED = "expired", _("expired")


class Invitation(models.Model):
    """The link's token is made when the e-mail is sent, and only its digest is kept. Nothing here says whether the
    address is an operator's already."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey("tenants.Application", models.CASCADE, related_name="invitations")
    email = models.EmailField(_("e-mail"))
    name = models.CharField(_("name"), max_length=200, blank=True)
    role = models.CharField(_("role"), max_length=16)
    invited_by = models.ForeignKey(
        "tenants.Operator", models.SET_NULL, null=True, editable=False, related_name="+", verbose_name=_("invited by")
    )
    digest = models.BinaryField(max_length=32, null=True, unique=True, editable=False)
    created_at = models.DateTimeField(_("invited"), default=timezone.now, editable=False)
    sent_at = models.DateTimeField(_("e-mail sent"), null=True, editable=False)
    asked_at = models.DateTimeField(default=timezone.now, editable=False)
    """When the e-mail was last asked for."""
    expires_at = models.DateTimeField(_("works until"), editable=False)
    accepted_at = models.DateTimeField(_("accepted"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("application", "email"),
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="one_open_invitation",
            ),
        )

    def __str__(self) -> str:
        return self.email

    @property
    def state(self) -> InvitationState:
        if self.accepted_at is not None:
            return InvitationState.ACCEPTED
        if self.revoked_at is not None:
            return InvitationState.REVOKED
        return InvitationState.EXPIRED if self.expires_at <= timezone.now() else InvitationState.OPEN
