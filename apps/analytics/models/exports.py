"""Files of rows that somebody asked for. The row is also the record of who took what, so nothing deletes it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id


class ExportState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    RUNNING = "running", _("Running")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")
    EXPIRED = "expired", _("Expired")
    """Its file was deleted."""


OPEN_STATES = (ExportState.WAITING, ExportState.RUNNING)


class Export(models.Model):
    """One file: which rows of which kind, how far it is, and who asked (`apps.analytics.exports`).

    The file is a row of parts, one for each step, in the private storage. What is in `parts` is committed with the
    checkpoint, so that a killed worker neither loses nor doubles a row.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="exports", db_index=False)
    kind = models.CharField(_("kind"), max_length=32)
    filters = models.JSONField(_("filters"), default=dict)
    columns = ArrayField(models.CharField(max_length=64), verbose_name=_("columns"), default=list)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    with_bom = models.BooleanField(_("with BOM"), default=False)
    is_gzipped = models.BooleanField(_("gzip"), default=False)
    is_masked = models.BooleanField(_("masked"), default=True)
    """Personal data is masked. Decided when it was asked for; who may not see it cannot load a file that has it."""
    requested_by = models.CharField(_("requested by"), max_length=200)
    requested_from = models.GenericIPAddressField(_("from"), null=True)

    state = models.CharField(_("state"), max_length=12, choices=ExportState.choices, default=ExportState.WAITING)
    rows_written = models.BigIntegerField(_("rows"), default=0)
    rows_read = models.BigIntegerField(_("rows looked at"), default=0)
    rows_estimated = models.BigIntegerField(_("rows to look at, about"), default=0)
    bytes_written = models.BigIntegerField(_("bytes"), default=0)
    after_key = models.CharField(max_length=64, blank=True)
    """Checkpoint: everything up to this key is in `parts`."""
    parts = models.JSONField(default=list)
    """Names in the private storage, in order, with the bytes of each."""
    sha256 = models.CharField(_("SHA-256"), max_length=64, blank=True)
    last_error = models.CharField(_("failed because"), max_length=300, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    """Steps in a row that the database broke off."""

    lease_id = models.UUIDField(null=True)
    """Of who is at work, and the name of the part that is being written."""
    lease_until = models.DateTimeField(null=True)
    stepped_at = models.DateTimeField(default=timezone.now)
    """The one that has waited longest goes on next."""
    created_at = models.DateTimeField(_("requested"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)
    expires_at = models.DateTimeField(_("file kept until"), null=True)
    downloads_count = models.PositiveIntegerField(_("downloads"), default=0)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        indexes = (
            models.Index(fields=("application", "id"), name="export_by_application"),
            models.Index(fields=("stepped_at",), name="export_open", condition=Q(state__in=OPEN_STATES)),
            models.Index(fields=("expires_at",), name="export_expiring", condition=Q(state=ExportState.DONE)),
        )

    def __str__(self) -> str:
        return f"{self.kind} · {self.id}"

    @property
    def file_name(self) -> str:
        """As it is saved by who loads it."""
        return f"{self.kind}-{self.created_at:%Y%m%dT%H%M%SZ}.csv{'.gz' if self.is_gzipped else ''}"

    @property
    def progress(self) -> float:
        """0 to 1; 1 only when it is done."""
        if self.state in (ExportState.DONE, ExportState.EXPIRED):
            return 1.0
        return min(0.99, round(self.rows_read / max(self.rows_estimated, self.rows_read, 1), 4))


class ExportDownload(models.Model):
    """Somebody has loaded the file of an export; written, never changed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    export = models.ForeignKey(Export, models.CASCADE, related_name="downloads")
    downloaded_by = models.CharField(_("by"), max_length=200)
    downloaded_from = models.GenericIPAddressField(_("from"), null=True)
    downloaded_at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        verbose_name = _("download")
        verbose_name_plural = _("downloads")

    def __str__(self) -> str:
        return f"{self.downloaded_by} · {self.downloaded_at:%Y-%m-%d %H:%M:%S}"
