"""The record of a person's request: what was asked by whom, by when, how far it is, and the proof of what was done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.ids import new_id

DUE_DAYS = 10
"""To answer in: 개인정보 보호법 시행령 41 and 43 give ten days, GDPR 12 (3) a month; the shorter counts."""


class DataRequestKind(models.TextChoices):
    EXPORT = "export", _("Copy of all data")
    ERASE = "erase", _("Erasure")


class DataRequestState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    RUNNING = "running", _("Running")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")


WORKING = (DataRequestState.WAITING, DataRequestState.RUNNING)


def _due() -> Any:
    return timezone.now() + timedelta(days=DUE_DAYS)


class DataRequest(models.Model):
    """One request about one user. Nothing in the row is personal: it stays as the proof when the person is forgotten.

    Requests that were made in one go have the same `order_id`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="data_requests", db_index=False)
    user = models.ForeignKey("subscriptions.AppUser", models.CASCADE, related_name="data_requests")
    order_id = models.UUIDField(_("order"), default=new_id, editable=False)
    kind = models.CharField(_("request"), max_length=8, choices=DataRequestKind.choices)
    state = models.CharField(
        _("state"), max_length=8, choices=DataRequestState.choices, default=DataRequestState.WAITING
    )
    requested_by = models.CharField(_("entered by"), max_length=200)
    requested_from = models.GenericIPAddressField(_("from"), null=True)
    reference = models.CharField(_("reference"), max_length=100, blank=True)
    """The ticket or letter by which the person asked; not their name."""
    created_at = models.DateTimeField(_("entered"), default=timezone.now, editable=False)
    due_at = models.DateTimeField(_("due"), default=_due)

    section = models.PositiveSmallIntegerField(default=0, editable=False)
    """Checkpoint: sections before this one are done."""
    after_key = models.CharField(max_length=64, blank=True, editable=False)
    """Checkpoint within the section."""
    sections = models.PositiveSmallIntegerField(default=0, editable=False)
    """How many there are; 0 until the first step."""
    result = models.JSONField(_("result"), default=dict, blank=True)
    """Of an erasure what there was and what is left, of a copy what is in it: counts by name."""
    parts = models.JSONField(default=list, editable=False)
    """The pieces of the copy: section, name in the private storage, bytes, rows."""
    failures = models.PositiveSmallIntegerField(default=0, editable=False)
    """Steps in a row that ended in an error of ours."""
    last_error = models.CharField(_("failed because"), max_length=300, blank=True)
    ended_by = models.CharField(_("canceled by"), max_length=200, blank=True)
    updated_at = models.DateTimeField(_("last step"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, editable=False)
    expires_at = models.DateTimeField(_("file kept until"), null=True, editable=False)
    downloads_count = models.PositiveIntegerField(_("downloads"), default=0, editable=False)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("data request")
        verbose_name_plural = _("data requests")
        constraints = (
            models.UniqueConstraint(
                fields=("user", "kind"), name="one_open_data_request", condition=Q(state__in=WORKING)
            ),
        )
        indexes = (
            models.Index(fields=("application", "id"), name="data_request_by_app"),
            models.Index(fields=("order_id",), name="data_request_by_order"),
            models.Index(fields=("updated_at",), name="data_request_working", condition=Q(state__in=WORKING)),
            models.Index(fields=("expires_at",), name="data_request_files", condition=Q(expires_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.id}"

    @property
    def is_working(self) -> bool:
        return self.state in WORKING

    @property
    def is_overdue(self) -> bool:
        return self.is_working and self.due_at < timezone.now()

    @property
    def percent(self) -> int:
        if self.state == DataRequestState.DONE:
            return 100
        return min(99, int(self.section * 100 / self.sections)) if self.sections else 0

    @property
    def has_file(self) -> bool:
        """Whether there is a copy to be loaded."""
        return bool(self.parts) and self.state == DataRequestState.DONE
