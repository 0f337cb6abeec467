"""The tasks of the control queue; `CELERY_BEAT_SCHEDULE` says how often the sweeps run."""

from __future__ import annotations

from smtplib import SMTPException
from uuid import UUID

from celery import shared_task

from apps.analytics import audience_days, fills, forgetting
from apps.analytics.exports import running
from apps.analytics.reports import delivery
from automata_signal.celery import begun

# --- Rollups ---------------------------------------------------------------------------------------------------------


@shared_task(name="analytics.fill")
def fill() -> None:
    if fills.fill_all():
        fills.queue_fill()


@shared_task(name="analytics.take_audience_days")
def take_audience_days() -> int:
    return audience_days.audience_days_take()


@shared_task(name="analytics.forget_rollups")
def forget_rollups() -> int:
    return forgetting.rollups_forget()


# --- Reports by e-mail -----------------------------------------------------------------------------------------------


@shared_task(name="analytics.send_reports")
def send_reports() -> None:
    delivery.send_due()


@shared_task(name="analytics.send_report")
def send_report(run_id: str) -> None:
    delivery.send(UUID(run_id))


@shared_task(name="analytics.send_report_to", autoretry_for=(OSError, SMTPException), retry_backoff=True, max_retries=5)
def send_report_to(schedule_id: str, operator_id: str) -> None:
    delivery.send_to(UUID(schedule_id), UUID(operator_id))


# --- Exports -------------------------------------------------------------------------------------------------------


@shared_task(name="analytics.export_step")
def export_step(mark: str = "") -> None:
    if mark:
        begun(mark)
    running.export_step()


@shared_task(name="analytics.continue_exports")
def continue_exports() -> bool:
    return running.exports_continue()


@shared_task(name="analytics.expire_exports")
def expire_exports() -> int:
    return running.exports_expire()
