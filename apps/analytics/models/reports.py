"""Reports by e-mail: which application gets which, when and to whom, and what became of each (companion design: the
daily report at nine, the weekly analysis on Monday)."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from simple_history.models import HistoricalRecords

from apps.tenants.models import Application, Role, ScopedQuerySet
from automata_signal.ids import new_id


class ReportKind(models.TextChoices):
    DAILY = "daily", _("Daily: the day before")
    WEEKLY = "weekly", _("Weekly: the seven days before")


class Weekday(models.IntegerChoices):
    """As Python counts them."""

    MONDAY = 0, _("Monday")
    TUESDAY = 1, _("Tuesday")
    WEDNESDAY = 2, _("Wednesday")
    THURSDAY = 3, _("Thursday")
    FRIDAY = 4, _("Friday")
    SATURDAY = 5, _("Saturday")
    SUNDAY = 6, _("Sunday")


class ReportSchedule(models.Model):
    """A report that comes by itself. Hour and weekday are of the application's time zone.

    Only members of the application who may read its statistics get it, whoever is named: an address of somebody else
    cannot be given, and who leaves the application gets no more.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="report_schedules", db_index=False)
    kind = models.CharField(_("report"), max_length=8, choices=ReportKind.choices)
    hour = models.PositiveSmallIntegerField(_("hour"), default=9)
    weekday = models.PositiveSmallIntegerField(_("weekday"), choices=Weekday.choices, default=Weekday.MONDAY)
    """Of a weekly one."""
    roles = ArrayField(
        models.CharField(max_length=16, choices=Role.choices), verbose_name=_("to everybody who is"), default=list
    )
    members = ArrayField(models.UUIDField(), verbose_name=_("to members"), default=list, blank=True)
    """Ids of operators, beside the roles."""
    opted_out = ArrayField(models.UUIDField(), verbose_name=_("unsubscribed"), default=list, blank=True, editable=False)
    """Ids of operators who do not want it any more."""
    language = models.CharField(_("language"), max_length=8, choices=settings.LANGUAGES, default="en")
    is_active = models.BooleanField(_("active"), default=True)
    next_at = models.DateTimeField(_("next"), editable=False)
    """When the sweep looks at it again."""
    last_period = models.DateField(_("last sent, of"), null=True, editable=False)
    """First day of the last period that was sent."""
    created_by = models.CharField(_("by"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ScopedQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=["next_at", "last_period", "updated_at"])

    class Meta:
        verbose_name = _("scheduled report")
        verbose_name_plural = _("scheduled reports")
        indexes = (
            models.Index(fields=("application", "id"), name="report_by_application"),
            models.Index(fields=("next_at",), name="report_due", condition=Q(is_active=True)),
        )
        constraints = (
            models.CheckConstraint(condition=Q(hour__lte=23), name="report_hour_of_a_day"),
            models.CheckConstraint(condition=Q(weekday__lte=6), name="report_weekday_of_a_week"),
        )

    def __str__(self) -> str:
        return f"{self.application} · {self.get_kind_display()}"


class RunState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    """For its first attempt, or for the next one (`due_at`)."""
    SENT = "sent", _("Sent")
    FAILED = "failed", _("Failed")
    """Given up; `error` says why."""


class ReportRun(models.Model):
    """One report of one period: the row is what makes it be sent once."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    application = models.ForeignKey(Application, models.CASCADE, related_name="+", db_index=False)
    schedule = models.ForeignKey(ReportSchedule, models.CASCADE, related_name="runs", db_index=False)
    period_start = models.DateField(pgettext_lazy("period", "from"))
    period_end = models.DateField(pgettext_lazy("period", "to"))
    """The first day that is not of it."""
    state = models.CharField(_("state"), max_length=8, choices=RunState.choices, default=RunState.WAITING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    error = models.CharField(_("last error"), max_length=500, blank=True)
    delivered_to = ArrayField(models.UUIDField(), verbose_name=_("delivered to"), default=list)
    """Ids of operators whose server took it; a further attempt leaves them out."""
    refused = ArrayField(models.UUIDField(), verbose_name=_("refused"), default=list)
    """Ids of operators whose address was refused for good."""
    due_at = models.DateTimeField(_("next attempt"), null=True, default=timezone.now)
    """Null: sent, or given up. While it is being sent, when another worker may take it over."""
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("report sent")
        verbose_name_plural = _("reports sent")
        indexes = (
            models.Index(fields=("application", "id"), name="report_run_by_application"),
            models.Index(fields=("due_at",), name="report_run_due", condition=Q(due_at__isnull=False)),
        )
        constraints = (models.UniqueConstraint(fields=("schedule", "period_start"), name="one_report_per_period"),)

    def __str__(self) -> str:
        return f"{self.period_start:%Y-%m-%d} · {self.get_state_display()}"
