"""The record of an import: what was asked by whom, how far it is, what came of it. Kept when its file is gone."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id


class ImportKind(models.TextChoices):
    USERS = "users", _("Users")
    SUBSCRIPTIONS = "subscriptions", _("Subscriptions")


class ImportMode(models.TextChoices):
    DRY_RUN = "dry_run", _("Check only")
    APPLY = "apply", _("Check, then apply")


class ImportState(models.TextChoices):
    MAPPING = "mapping", _("Columns to be confirmed")
    """Uploaded at the console: somebody still says what its columns are."""
    WAITING = "waiting", _("Waiting")
    CHECKING = "checking", _("Being checked")
    CHECKED = "checked", _("Checked")
    RUNNING = "running", _("Being applied")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")


WORKING = (ImportState.WAITING, ImportState.CHECKING, ImportState.RUNNING)
"""A worker is at it, or is to be."""
OPEN = (*WORKING, ImportState.MAPPING, ImportState.CHECKED)


class OnConflict(models.TextChoices):
    UPDATE = "update", _("Update it")
    SKIP = "skip", _("Leave it as it is")


COUNTS = ("total_rows", "created_rows", "updated_rows", "unchanged_rows", "skipped_rows", "rejected_rows", "kept_rows")


class Import(models.Model):
    """One file, imported once. Nobody edits or deletes it: it says who has put which data here, with what consent."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="imports")
    kind = models.CharField(_("of"), max_length=16, choices=ImportKind.choices)
    mode = models.CharField(_("mode"), max_length=8, choices=ImportMode.choices, default=ImportMode.DRY_RUN)
    state = models.CharField(_("state"), max_length=10, choices=ImportState.choices, default=ImportState.WAITING)

    file_name = models.CharField(_("file"), max_length=200)
    """As the sender calls it."""
    stored_as = models.CharField(max_length=200, blank=True, editable=False)
    """Its name in the private storage; empty when it was deleted."""
    file_bytes = models.BigIntegerField(_("bytes"))
    sha256 = models.CharField("SHA-256", max_length=64)
    encoding = models.CharField(_("encoding"), max_length=10)
    delimiter = models.CharField(_("delimiter"), max_length=1)
    header = models.JSONField(_("columns"))
    """The names in the file's first line."""
    mapping = models.JSONField(_("mapping"), default=dict)
    """Column of the file → field, for columns that are not called as their fields are."""
    default_type = models.CharField(_("type of all"), max_length=16, blank=True)
    on_conflict = models.CharField(
        _("what there is already"), max_length=6, choices=OnConflict.choices, default="update"
    )
    clear_empty = models.BooleanField(_("an empty cell clears"), default=False)
    resubscribe = models.BooleanField(_("subscribe those who had ended"), default=False)

    first_offset = models.BigIntegerField(default=0, editable=False)
    """Where the first line after the header begins."""
    first_line = models.PositiveIntegerField(default=2, editable=False)
    byte_offset = models.BigIntegerField(_("read"), default=0, editable=False)
    """The checkpoint: every byte before it is done."""
    line = models.PositiveIntegerField(_("line"), default=2, editable=False)
    total_rows = models.PositiveIntegerField(_("rows"), default=0)
    created_rows = models.PositiveIntegerField(_("created"), default=0)
    updated_rows = models.PositiveIntegerField(_("updated"), default=0)
    unchanged_rows = models.PositiveIntegerField(_("unchanged"), default=0)
    skipped_rows = models.PositiveIntegerField(_("skipped"), default=0)
    """Were there before, and were to be left alone."""
    rejected_rows = models.PositiveIntegerField(_("rejected"), default=0)
    kept_rows = models.PositiveIntegerField(_("not subscribed again"), default=0)
    """Asked to be subscribed and had ended before; among the rows of the other counts."""
    check_counts = models.JSONField(_("what the check counted"), null=True, editable=False)
    reject_parts = models.JSONField(default=list, editable=False)
    """Lines at which the parts of the rejects file begin."""

    failures = models.PositiveSmallIntegerField(default=0, editable=False)
    """Steps in a row that ended in an error of ours."""
    last_error = models.TextField(_("last error"), blank=True)
    requested_by = models.CharField(_("uploaded by"), max_length=200)
    applied_by = models.CharField(_("applied by"), max_length=200, blank=True)
    ended_by = models.CharField(_("canceled by"), max_length=200, blank=True)
    ip = models.CharField(_("from"), max_length=45, blank=True)
    created_at = models.DateTimeField(_("uploaded"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("last step"), default=timezone.now, editable=False)
    checked_at = models.DateTimeField(_("checked"), null=True, editable=False)
    applied_at = models.DateTimeField(_("begun"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, editable=False)
    deleted_at = models.DateTimeField(_("file deleted"), null=True, editable=False)
    """When the file and its rejects were deleted."""

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        indexes = (
            models.Index(fields=("application", "id"), name="import_by_application"),
            models.Index(fields=("updated_at",), name="import_working", condition=models.Q(state__in=WORKING)),
            models.Index(fields=("updated_at",), name="import_with_files", condition=models.Q(deleted_at=None)),
        )

    def __str__(self) -> str:
        return f"{self.file_name} · {self.get_state_display()}"

    @property
    def is_working(self) -> bool:
        return self.state in WORKING

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def has_rejects(self) -> bool:
        """Whether there is a rejects file to be downloaded."""
        return bool(self.reject_parts) and self.deleted_at is None

    @property
    def percent(self) -> int:
        """How much of the file the present pass has read."""
        done, all_of_it = self.byte_offset - self.first_offset, self.file_bytes - self.first_offset
        return 100 if done >= all_of_it else int(done * 100 / all_of_it)

    @property
    def counts(self) -> dict[str, Any]:
        """What the present pass has counted: `created` for `created_rows`, and so on."""
        return {name.removesuffix("_rows"): getattr(self, name) for name in COUNTS}
