"""One row for each thing that somebody did. Rows are only ever added; a trigger refuses anything else."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from automata_signal.ids import new_id


class AuditEvent(models.Model):
    """Names are kept as text, without foreign keys: what was deleted is still told of."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    at = models.DateTimeField(_("when"), default=timezone.now, editable=False)
    application_id = models.UUIDField(_("application"), null=True, editable=False)
    """Null: the whole platform's, such as a sign-in."""
    operator_id = models.UUIDField(_("operator"), null=True, editable=False)
    actor = models.CharField(_("who"), max_length=200, editable=False)
    """The operator's e-mail at that time, or what else it was: `key as_sk_…`, `system`."""
    action = models.CharField(_("what"), max_length=60, editable=False)
    """`area.verb`: `sign_in.refused`, `campaign.launch`, `export.download`."""
    area = models.GeneratedField(
        expression=models.Func(models.F("action"), models.Value("."), models.Value(1), function="split_part"),
        output_field=models.CharField(_("area"), max_length=60),
        db_persist=True,
    )
    """What stands before the point, so that an index finds it."""
    object_label = models.CharField(_("kind"), max_length=60, blank=True, editable=False)
    """`app.Model`."""
    object_id = models.CharField(_("id"), max_length=64, blank=True, editable=False)
    object_name = models.CharField(_("of"), max_length=200, blank=True, editable=False)
    changes = models.JSONField(_("changes"), default=dict, editable=False)
    """Field → [before, after]; secrets masked."""
    details = models.JSONField(_("details"), default=dict, editable=False)
    ip = models.GenericIPAddressField(_("from"), null=True, editable=False)
    user_agent = models.CharField(_("browser"), max_length=300, blank=True, editable=False)
    request_id = models.CharField(_("request"), max_length=64, blank=True, editable=False)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ("-id",)
        indexes = (
            models.Index(fields=("application_id", "-id"), name="audit_by_application"),
            models.Index(fields=("operator_id", "-id"), name="audit_by_operator"),
            models.Index(fields=("object_id", "-id"), name="audit_by_object"),
            models.Index(fields=("area", "-id"), name="audit_by_area"),
            models.Index(fields=("application_id", "area", "-id"), name="audit_by_application_area"),
            models.Index(fields=("actor", "-id"), name="audit_by_actor"),
            models.Index(fields=("ip", "-id"), name="audit_by_address"),
        )

    def __str__(self) -> str:
        return f"{self.actor}: {self.action}"
