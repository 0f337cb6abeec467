"""Celery's doors into messaging; each calls one function. Tasks take ids, and may run twice or late without harm."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_process_shutdown
from django.utils import timezone

from apps.messaging import dispatch, partitions, requeue, retention, sms, sweeps
from apps.messaging.chains.following import follow_up_due
from apps.messaging.courtesy.caps import counts_forget
from apps.messaging.courtesy.hours import hours_learn
from apps.messaging.gateway_requests import forget_requests
from apps.messaging.inbox.services import inbox_forget_old
from apps.messaging.kakao.services import sync_all
from apps.messaging.media.services import media_forget_unused
from apps.messaging.receipts.hooks import ask_for_reports
from apps.messaging.senders import close_senders
from apps.messaging.webhooks import tasks as webhook_tasks  # noqa: F401  (Celery looks for tasks here)
from automata_signal.celery import begun
from automata_signal.task_context import log_fields

LEARN_STEPS = 50
"""Of one task that learns active hours; the next one goes on."""


@shared_task(name="messaging.send_batch")
def send_batch(batch_id: str, application_id: str, mark: str = "") -> None:
    if mark:
        begun(mark)
    with log_fields(application_id=application_id, batch_id=batch_id):
        dispatch.run_line(UUID(batch_id), UUID(application_id))


@shared_task(name="messaging.cancel_dispatch")
def cancel_dispatch(dispatch_id: str) -> None:
    sweeps.fail_canceled(UUID(dispatch_id))


@shared_task(name="messaging.queue_due")
def queue_due() -> int:
    return sweeps.queue_due()


@shared_task(name="messaging.free_abandoned")
def free_abandoned() -> int:
    return sweeps.free_abandoned()


@shared_task(name="messaging.continue_cancels")
def continue_cancels() -> int:
    return sweeps.continue_cancels()


@shared_task(name="messaging.expire_unreceived")
def expire_unreceived() -> int:
    return sweeps.expire_unreceived()


@shared_task(name="messaging.make_partitions")
def make_partitions() -> list[str]:
    return partitions.make_partitions()


@shared_task(name="messaging.drop_partitions")
def drop_partitions() -> list[str]:
    return retention.drop_unneeded_partitions()


@shared_task(name="messaging.requeue")
def requeue_messages(requeue_id: str) -> None:
    if requeue.requeue_run(UUID(requeue_id)):
        requeue.queue_requeue(UUID(requeue_id))


@shared_task(name="messaging.continue_requeues")
def continue_requeues() -> int:
    return requeue.requeues_continue()


@shared_task(name="messaging.delete_old")
def delete_old() -> None:
    if retention.delete_old():
        retention.queue_delete_old()


@shared_task(name="messaging.forget_inbox")
def forget_inbox() -> int:
    return inbox_forget_old()


@shared_task(name="messaging.check_partitions")
def check_partitions() -> list[str]:
    return partitions.report_problems()


@shared_task(name="messaging.forget_media")
def forget_media() -> int:
    return media_forget_unused()


@worker_process_shutdown.connect
def on_worker_process_shutdown(**_: Any) -> None:
    close_senders()


@shared_task(name="messaging.sync_kakao")
def sync_kakao() -> int:
    return sync_all()


@shared_task(name="messaging.end_denied")
def end_denied() -> int:
    return sms.end_denied()


@shared_task(name="messaging.ask_for_reports")
def ask_gateways() -> None:
    ask_for_reports()


@shared_task(name="messaging.forget_gateway_requests")
def forget_gateway_requests() -> None:
    forget_requests()


@shared_task(name="messaging.follow_up")
def follow_up_chains() -> None:
    follow_up_due()


@shared_task(name="messaging.learn_hours")
def learn_hours() -> None:
    for _ in range(LEARN_STEPS):
        if not hours_learn():
            break


@shared_task(name="messaging.forget_send_counts")
def forget_send_counts() -> None:
    while counts_forget(timezone.now().date()):
        pass
