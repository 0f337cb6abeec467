"""A report before it is due: to look at, or to one member's own address."""

from __future__ import annotations

from django.utils import timezone

from apps.analytics.models.reports import ReportSchedule
from apps.analytics.reports import letter, periods
from apps.analytics.reports.services import readers_of
from apps.tenants.access import count_request, refuse_excess
from apps.tenants.models import Operator
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Unavailable, ValidationFailed

SENDS_PER_MINUTE = 5
"""To one person."""
LOOKS_PER_MINUTE = 60
"""Previews of an application."""


def drafted(schedule: ReportSchedule) -> letter.Draft:
    """The report of the last period that has ended, as it would be sent now."""
    return letter.Draft.of(schedule, periods.latest(schedule, timezone.now()))


def shown(schedule: ReportSchedule) -> letter.Draft:
    """The same for somebody who looks at it. Raises `Throttled`: drawing takes a web process a tenth of a second."""
    refuse_excess(count_request((f"report-preview:{schedule.application_id.hex}", LOOKS_PER_MINUTE)))
    return drafted(schedule)


def send_now(*, schedule: ReportSchedule, operator: Operator | None, member: str = "") -> Operator:
    """Queue the report of the last period for one member: the one whose address is given, else `operator`.

    Raises `ValidationFailed` if that is nobody who may read the application's statistics, `Throttled`, and
    `Unavailable` while nothing can be queued.
    """
    email = member.strip().lower() or (operator.email if operator else "")
    if not email:
        raise ValidationFailed.of("member", "name a member: a key has no address")
    found = next((reader for reader in readers_of(schedule.application) if reader.email == email), None)
    if found is None and operator is not None and operator.is_superuser and email == operator.email:
        found = operator
    if found is None:
        raise ValidationFailed.of("member", "is no member who may read statistics")
    refuse_excess(count_request((f"report:{found.pk.hex}", SENDS_PER_MINUTE)))
    if not send_tasks([Task("analytics.send_report_to", [str(schedule.pk), str(found.pk)], "control")]):
        raise Unavailable("E-mail cannot be queued now; try again in a moment.")
    return found
