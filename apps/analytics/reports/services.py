"""Changing the schedules of reports."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.utils import timezone

from apps.analytics.models.reports import ReportKind, ReportSchedule, Weekday
from apps.analytics.reports import periods
from apps.billing.entitlements import require_feature
from apps.billing.models import Feature
from apps.tenants.models import Application, Membership, Operator, Role
from apps.tenants.scopes import ROLE_SCOPES
from automata_signal.errors import Conflict, NotFound, ValidationFailed

SCHEDULES_MAX = 20
"""Of an application."""
MEMBERS_MAX = 100
READ = "analytics:read"
READERS = tuple(role for role in Role.values if READ in ROLE_SCOPES[role])
"""The roles that may get a report."""
_UNSUBSCRIBE_SALT = "analytics.reports.unsubscribe"


def schedule_get(*, application: Application, schedule_id: UUID) -> ReportSchedule:
    """Raises `NotFound`, also for another application's schedule."""
    rows = ReportSchedule.objects.for_application(application).select_related("application")
    schedule = rows.filter(pk=schedule_id).first()
    if schedule is None:
        raise NotFound("There is no such report.")
    return schedule


def readers_of(application: Application) -> list[Operator]:
    """The members who may read the application's statistics, by address."""
    rows = Membership.objects.filter(application=application, role__in=READERS, operator__is_active=True)
    return [row.operator for row in rows.select_related("operator").order_by("operator__email")]


def recipients_of(schedule: ReportSchedule) -> list[Operator]:
    """Who gets the report now: those named, as long as they may read the statistics and have not unsubscribed."""
    rows = Membership.objects.filter(
        application_id=schedule.application_id, role__in=READERS, operator__is_active=True
    ).select_related("operator")
    return [
        row.operator
        for row in rows.order_by("operator__email")
        if (row.role in schedule.roles or row.operator_id in schedule.members)
        and row.operator_id not in schedule.opted_out
    ]


@transaction.atomic
def schedule_create(
    *,
    application: Application,
    kind: str,
    hour: int = 9,
    weekday: int = Weekday.MONDAY,
    roles: Collection[str] = (),
    members: Collection[str] = (),
    language: str | None = None,
    is_active: bool = True,
    by: str = "",
) -> ReportSchedule:
    """Have a report sent from the next time on. `members` are addresses of members who may read the statistics.

    Raises `ValidationFailed`, `Forbidden` if the plan has no reports, and `Conflict` when the application has
    `SCHEDULES_MAX` already.
    """
    require_feature(application, Feature.EXPORTS)
    Application.objects.select_for_update().filter(pk=application.pk).get()  # of two at once, one counts the other
    if ReportSchedule.objects.for_application(application).count() >= SCHEDULES_MAX:
        raise Conflict(f"An application has at most {SCHEDULES_MAX} scheduled reports.", code="TOO_MANY_REPORTS")
    schedule = ReportSchedule(application=application, created_by=by[:200])
    language = language or _language_of(application)
    _set(schedule, kind=kind, hour=hour, weekday=weekday, language=language, is_active=is_active)
    _set_recipients(schedule, roles, members)
    return _save(schedule, by)


@transaction.atomic
def schedule_update(
    *,
    schedule: ReportSchedule,
    roles: Collection[str] | None = None,
    members: Collection[str] | None = None,
    by: str = "",
    **changes: Any,
) -> ReportSchedule:
    """Change what is given. Who is named anew gets it again although they had unsubscribed. Raises
    `ValidationFailed`."""
    row = ReportSchedule.objects.select_related("application").select_for_update(of=("self",)).get(pk=schedule.pk)
    _set(row, **changes)
    before = set(row.members)
    _set_recipients(row, row.roles if roles is None else roles, members_of(row) if members is None else members)
    row.opted_out = [key for key in row.opted_out if key in before or key not in row.members]
    return _save(row, by)


def schedule_delete(*, schedule: ReportSchedule, by: str = "") -> None:
    """End it, with the record of what it has sent."""
    schedule._change_reason = by[:100] or None  # type: ignore[attr-defined]
    schedule.delete()


def _set(schedule: ReportSchedule, **values: Any) -> None:
    checks = {
        "kind": (values.get("kind") in ReportKind.values, "is not daily or weekly"),
        "hour": (isinstance(values.get("hour"), int) and 0 <= values["hour"] <= 23, "must be from 0 to 23"),
        "weekday": (values.get("weekday") in Weekday.values, "must be from 0 (Monday) to 6 (Sunday)"),
        "language": (values.get("language") in dict(settings.LANGUAGES), "is not one that reports are written in"),
    }
    for name, value in values.items():
        is_right, problem = checks.get(name, (True, ""))
        if not is_right:
            raise ValidationFailed.of(name, problem)
        setattr(schedule, name, value)


def _set_recipients(schedule: ReportSchedule, roles: Collection[str], members: Collection[str]) -> None:
    for role in roles:
        if role not in READERS:
            raise ValidationFailed.of("roles", f"{role[:20]} is not a role that may read statistics")
    if len(members) > MEMBERS_MAX:
        raise ValidationFailed.of("members", f"at most {MEMBERS_MAX} can be named")
    known = {operator.email: operator.pk for operator in readers_of(schedule.application)}
    wanted = list(dict.fromkeys(email.strip().lower() for email in members))
    if unknown := [email for email in wanted if email not in known]:
        raise ValidationFailed.of("members", f"{unknown[0][:100]} is no member who may read statistics")
    if not roles and not wanted:
        raise ValidationFailed.of("roles", "name a role or a member who gets the report")
    schedule.roles = [role for role in READERS if role in roles]
    schedule.members = [known[email] for email in wanted]


def members_of(schedule: ReportSchedule) -> list[str]:
    """The addresses that it names, but of those who may not read the statistics any more."""
    return [operator.email for operator in readers_of(schedule.application) if operator.pk in schedule.members]


def _language_of(application: Application) -> str:
    language = application.default_language.split("-")[0].lower()
    return language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE


def _save(schedule: ReportSchedule, by: str) -> ReportSchedule:
    schedule.next_at = periods.next_at(schedule, timezone.now())
    schedule._change_reason = by[:100] or None  # type: ignore[attr-defined]
    schedule.save()
    return schedule


# --- Who does not want it any more -----------------------------------------------------------------------------------


def unsubscribe_token(schedule: ReportSchedule, operator: Operator) -> str:
    """For the link in the letter. It ends one person's report, and opens nothing."""
    return signing.dumps([schedule.pk.hex, operator.pk.hex], salt=_UNSUBSCRIBE_SALT)


@transaction.atomic
def unsubscribe(token: str) -> None:
    """Send this report to this person no more. Raises `NotFound` for a token that is not ours or of what is gone."""
    try:
        schedule_id, operator_id = signing.loads(token, salt=_UNSUBSCRIBE_SALT)
    except signing.BadSignature:
        raise NotFound("The link is not valid.") from None
    schedule = ReportSchedule.objects.select_for_update().filter(pk=schedule_id).first()
    if schedule is None:
        raise NotFound("There is no such report any more.")
    key = UUID(operator_id)
    if key not in schedule.opted_out:
        schedule.opted_out = [*schedule.opted_out, key]
        schedule._change_reason = "link in the letter"  # type: ignore[attr-defined]
        schedule.save(update_fields=["opted_out", "updated_at"])
