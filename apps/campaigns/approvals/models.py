"""Who asked for the launch of what, and what somebody else said to it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id


class ApprovalState(models.TextChoices):
    ASKED = "asked", _("Waiting for approval")
    APPROVED = "approved", _("Approved")
    REJECTED = "rejected", _("Rejected")
    WITHDRAWN = "withdrawn", _("Withdrawn")


CURRENT = (ApprovalState.ASKED, ApprovalState.APPROVED)


class CampaignApproval(models.Model):
    """One question and its answer. Of a campaign at most one is asked or approved; the others are its history.

    It is an outbox too: who may approve is told by e-mail (`told_at`), with back-off (`tell_due_at`).
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    campaign = models.ForeignKey("campaigns.MessageCampaign", models.CASCADE, related_name="approvals")
    state = models.CharField(_("state"), max_length=12, choices=ApprovalState.choices, default=ApprovalState.ASKED)
    digest = models.CharField(max_length=64, editable=False)
    """Of what would be launched (`approvals.digest`)."""
    recipients = models.PositiveBigIntegerField(_("recipients"), null=True)
    """As they were counted when it was asked; null: more than could be counted."""
    asked_by = models.CharField(_("asked by"), max_length=200)
    asked_by_id = models.UUIDField(null=True, editable=False)
    """The operator; null: an API key."""
    asked_at = models.DateTimeField(_("asked"), default=timezone.now)
    note = models.CharField(_("note"), max_length=1_000, blank=True)
    decided_by = models.CharField(_("decided by"), max_length=200, blank=True)
    decided_by_id = models.UUIDField(null=True, editable=False)
    decided_at = models.DateTimeField(_("decided"), null=True)
    comment = models.CharField(_("comment"), max_length=1_000, blank=True)
    """Of who decided; of a withdrawn one, why."""
    tell_due_at = models.DateTimeField(null=True, editable=False)
    """When those who may approve are to be told; null: they were, or it was given up."""
    tell_attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    told_at = models.DateTimeField(_("told"), null=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        constraints = (
            models.UniqueConstraint(
                fields=("campaign",), condition=models.Q(state__in=CURRENT), name="one_current_approval"
            ),
        )
        indexes = (
            models.Index(fields=("application", "id"), name="approval_by_application"),
            models.Index(
                fields=("tell_due_at",), name="approval_untold", condition=models.Q(tell_due_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.campaign} · {self.get_state_display()}"
