"""That each report is sent once: a row for each schedule and period, attempts with pauses, and who has it already.

Sending by SMTP is no transaction, so what a worker had sent but not written down when it was killed goes out again,
under the same Message-ID; that is at most one letter.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Any
from uuid import UUID

from django.core.mail import get_connection
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.analytics.models.reports import ReportRun, ReportSchedule, RunState
from apps.analytics.reports import letter, periods, preview
from apps.analytics.reports.services import recipients_of
from apps.billing.entitlements import has_feature
from apps.billing.models import Feature
from apps.tenants.models import Operator
from automata_signal.celery import Task, send_tasks

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 8
RETRY_FIRST_S, RETRY_MAX_S = 60, 3_600
"""Doubled after each attempt: all told somewhat more than two hours."""
LEASE_S = 600
"""After that a worker that does not come back is taken for dead."""
SMTP_TIMEOUT_S = 20
SWEEP_MAX = 500
"""Schedules, and reports, that one sweep looks at."""


def send_due(now: datetime | None = None) -> int:
    """Open the reports that are due, and queue what waits to be sent. How many were opened.

    Runs each minute. Index `report_due`, and `report_run_due` for what waits.
    """
    now = now or timezone.now()
    due = ReportSchedule.objects.filter(is_active=True, next_at__lte=now).order_by("next_at")
    opened = sum(_open(schedule_id, now) for schedule_id in list(due.values_list("pk", flat=True)[:SWEEP_MAX]))
    waiting = ReportRun.objects.filter(due_at__lte=now).order_by("due_at").values_list("pk", flat=True)[:SWEEP_MAX]
    send_tasks([Task("analytics.send_report", [str(run_id)], "control") for run_id in waiting])
    return opened


@transaction.atomic
def _open(schedule_id: UUID, now: datetime) -> bool:
    """Make the row of the last period of a schedule that is due. False if somebody else has, if the application is
    stopped, or its plan has no reports any more. Of several that were missed only the last is made up for."""
    schedule = (
        ReportSchedule.objects.select_related("application")
        .select_for_update(of=("self",), skip_locked=True)
        .filter(pk=schedule_id, is_active=True, next_at__lte=now)
        .first()
    )
    if schedule is None:
        return False
    period = periods.latest(schedule, now)
    ReportSchedule.objects.filter(pk=schedule.pk).update(next_at=periods.next_at(schedule, now))
    if not schedule.application.is_active or not has_feature(schedule.application, Feature.EXPORTS):
        return False
    _, is_new = ReportRun.objects.get_or_create(
        schedule=schedule,
        period_start=period.first,
        defaults={"application_id": schedule.application_id, "period_end": period.end, "due_at": now},
    )
    return is_new


def send(run_id: UUID) -> bool:
    """Send a report to everybody who should have it and has not. Whether it is done with now.

    Does nothing if another worker has it, or it is not due. A failure of the mail server is written on the row, and
    tried again later; after `ATTEMPTS_MAX` the report is given up.
    """
    run = _claim(run_id)
    if run is None:
        return False
    if run.attempts > ATTEMPTS_MAX:
        return _finish(run, RunState.FAILED, run.error or "The worker that sent it did not come back.")
    schedule = run.schedule
    wanted = [one for one in recipients_of(schedule) if one.pk not in {*run.delivered_to, *run.refused}]
    if not wanted and not run.delivered_to:
        return _finish(run, RunState.FAILED, "Nobody who may read the statistics is named, or all have unsubscribed.")
    period = periods.Period(run.period_start, run.period_end, periods.zone_of(schedule))
    try:
        if wanted:
            _send_all(run, wanted, letter.Draft.of(schedule, period))
    except (SMTPException, OSError) as error:
        return _put_off(run, error)
    if not run.delivered_to:
        return _finish(run, RunState.FAILED, run.error)
    ReportSchedule.objects.filter(pk=schedule.pk).update(last_period=run.period_start)
    return _finish(run, RunState.SENT)


def send_to(schedule_id: UUID, operator_id: UUID) -> bool:
    """Send the report of the last period to one person who may read it, now; nothing is written. False if there is
    no such person or report any more. Raises what the mail server makes of it."""
    schedule = ReportSchedule.objects.select_related("application").filter(pk=schedule_id).first()
    operator = Operator.objects.filter(pk=operator_id, is_active=True).first()
    if schedule is None or operator is None:
        return False
    preview.drafted(schedule).to(operator, _connection()).send()
    return True


def _claim(run_id: UUID) -> ReportRun | None:
    now = timezone.now()
    claimed = ReportRun.objects.filter(pk=run_id, due_at__lte=now).update(
        due_at=now + timedelta(seconds=LEASE_S), attempts=F("attempts") + 1
    )
    if not claimed:
        return None
    return ReportRun.objects.select_related("schedule__application").get(pk=run_id)


def _send_all(run: ReportRun, wanted: list[Operator], draft: letter.Draft) -> None:
    """A letter of their own to each: nobody learns the others' addresses. Raises what is no fault of one address."""
    with _connection() as connection:
        for operator in wanted:
            try:
                draft.to(operator, connection, run_id=run.pk).send()
            except SMTPRecipientsRefused as error:
                if _is_temporary(error):
                    raise
                run.refused = [*run.refused, operator.pk]
                run.error = f"Refused: {_words(error)}"[:500]
            else:
                run.delivered_to = [*run.delivered_to, operator.pk]
            run.save(update_fields=["delivered_to", "refused", "error"])


def _connection() -> Any:
    return get_connection(timeout=SMTP_TIMEOUT_S)


def _is_temporary(error: SMTPRecipientsRefused) -> bool:
    return any(code < 500 for code, _answer in error.recipients.values())


def _words(error: Exception) -> str:
    """What the server said, without the address that it said it of."""
    if isinstance(error, SMTPRecipientsRefused):
        return "; ".join(f"{code}" for code, _answer in error.recipients.values())
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}" if code else f"{type(error).__name__}: {error}"


def _put_off(run: ReportRun, error: Exception) -> bool:
    run.error = _words(error)[:500]
    if run.attempts >= ATTEMPTS_MAX:
        return _finish(run, RunState.FAILED)
    wait_s = min(RETRY_FIRST_S * 2 ** (run.attempts - 1), RETRY_MAX_S)
    run.due_at = timezone.now() + timedelta(seconds=wait_s)
    run.save(update_fields=["error", "due_at"])
    log.warning("a report could not be sent", extra={"report_run_id": str(run.pk), "cause": run.error})
    return False


def _finish(run: ReportRun, state: RunState, error: str | None = None) -> bool:
    run.state = state
    run.error = run.error if error is None else error
    run.due_at = None
    run.finished_at = timezone.now()
    run.save(update_fields=["state", "error", "due_at", "finished_at"])
    if state == RunState.FAILED:
        log.error("a report was given up", extra={"report_run_id": str(run.pk), "cause": run.error})
    return True
