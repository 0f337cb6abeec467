"""Who went on to the next step of a chain."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id


class FollowUp(models.Model):
    """A user for whom a step of a chain was taken, or would have been. Written once for each user and step."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    dispatch_id = models.UUIDField(_("step"))
    """The dispatch of the step that was gone to."""
    user_id = models.UUIDField(_("user"))
    after_message_id = models.UUIDField(_("after"), null=True)
    """The message of the step before that did not reach the user; null: there was none."""
    because = models.CharField(_("because of"), max_length=100)
    """`no_receipt`, the reason why the message failed, or `not_reachable` by the step before."""
    messages = models.PositiveSmallIntegerField(_("messages"), default=0)
    problem = models.CharField(_("problem"), max_length=100, blank=True)
    """Why the step has no message: `not_reachable` (the next one is tried), `quota_exceeded`, `content`."""
    created_at = models.DateTimeField(_("at"), default=timezone.now)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("follow-up")
        verbose_name_plural = _("follow-ups")
        constraints = (models.UniqueConstraint(fields=("dispatch_id", "user_id"), name="one_follow_up_per_user"),)
        indexes = (models.Index(fields=("application", "id"), name="follow_up_by_application"),)

    def __str__(self) -> str:
        return f"{self.user_id} · {self.because}"
