"""What keeps the promise that nothing is lost: batches that are due, abandoned or canceled are found in PostgreSQL."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.messaging import dispatch, lifecycle
from apps.messaging.dispatches import request_cancel
from apps.messaging.models import (
    BatchState,
    DispatchBatch,
    DispatchState,
    Message,
    MessageStatus,
)
from apps.messaging.queues import QueuedBatch, enqueue, queue_length, queue_name
from apps.messaging.recorders import record
from apps.messaging.stopping import is_stopping
from apps.tenants.models import Application
from apps.tenants.operations.switches import stopped_channels
from automata_signal.ids import IdRange
from automata_signal.metrics import BATCHES_ABANDONED

log = logging.getLogger(__name__)

QUEUE_AT_ONCE = 2_000
CANCELS_AT_ONCE = 100
LOST_AFTER_S = 5
"""A batch that was queued so long ago, while its queue is empty, was lost by the broker."""
LOST_ANYHOW_AFTER_S = 900
"""… and one that was queued so long ago is queued again even if the queue is long: a second task for it is harmless."""
TIMED_OUT = "receipt_timeout"


def queue_due() -> int:
    """Queue the batches that are due and are in no queue; returns how many. HIGH first."""
    now = timezone.now()
    lost_before = now - timedelta(seconds=LOST_AFTER_S)
    due = (
        DispatchBatch.objects.filter(state=BatchState.WAITING, due_at__lte=now)
        .exclude(dispatch__state=DispatchState.PAUSED)
        .exclude(Q(dispatch__channel_type__in=stopped_channels()), ~Q(dispatch__state=DispatchState.CANCELED))
        .filter(Q(queued_at=None) | Q(queued_at__lt=lost_before))
        .select_related("dispatch")
        .order_by("due_at")[:QUEUE_AT_ONCE]
    )
    by_queue: dict[str, list[DispatchBatch]] = defaultdict(list)
    for batch in due:
        by_queue[queue_name(batch.dispatch.channel_type, batch.priority)].append(batch)
    return sum(_queue(queue, by_queue[queue]) for queue in sorted(by_queue, key=_urgency))


def _urgency(queue: str) -> int:
    return settings.PRIORITIES.index(queue.rpartition(".")[2])


def _queue(queue: str, batches: list[DispatchBatch]) -> int:
    """Queue those that were never queued, and those that the broker has lost."""
    now = timezone.now()
    length = queue_length(queue)
    if length is None:
        return 0
    long_ago = now - timedelta(seconds=LOST_ANYHOW_AFTER_S)
    chosen = [b for b in batches if b.queued_at is None or length == 0 or b.queued_at < long_ago]
    ids = [batch.pk for batch in chosen]
    DispatchBatch.objects.filter(pk__in=ids, state=BatchState.WAITING).update(queued_at=now)
    enqueue([QueuedBatch(b.pk, b.application_id, b.dispatch.channel_type, b.priority) for b in chosen])
    return len(ids)


def free_abandoned() -> int:
    """Give back the batches of workers that died: their lease has run out. Returns how many."""
    now = timezone.now()
    abandoned = DispatchBatch.objects.filter(state=BatchState.CLAIMED, lease_until__lt=now)
    freed = abandoned.update(state=BatchState.WAITING, due_at=now, queued_at=None, lease_id=None, lease_until=None)
    if freed:
        BATCHES_ABANDONED.inc(freed)
        log.warning("batches of dead workers were freed", extra={"batches": freed})
    return freed


def fail_canceled(dispatch_id: UUID) -> None:
    """Fail what has not left of a canceled dispatch; what a worker holds, that worker fails."""
    waiting = DispatchBatch.objects.filter(
        dispatch_id=dispatch_id, dispatch__state=DispatchState.CANCELED, state=BatchState.WAITING
    )
    for batch_id in waiting.order_by("id").values_list("pk", flat=True):
        if is_stopping():
            request_cancel(dispatch_id)
            return
        dispatch.run_batch(batch_id)


def continue_cancels() -> int:
    """Ask again to fail what waits for a later attempt though its dispatch was canceled: the broker lost the task.
    Returns of how many dispatches. What is due is found by `queue_due`. Index: `batch_waiting`."""
    waiting = DispatchBatch.objects.filter(
        state=BatchState.WAITING, due_at__gt=timezone.now(), dispatch__state=DispatchState.CANCELED
    )
    ids = list(waiting.values_list("dispatch_id", flat=True).distinct()[:CANCELS_AT_ONCE])
    for dispatch_id in ids:
        request_cancel(dispatch_id)
    return len(ids)


def expire_unreceived() -> int:
    """Fail, as timed out, what was sent and had no receipt in the time that its application set. Returns how many."""
    failed = 0
    for application in Application.objects.filter(settings__receipt_timeout_hours__gt=0):
        limit = timezone.now() - timedelta(hours=application.settings["receipt_timeout_hours"])
        done = DispatchBatch.objects.for_application(application).filter(
            state=BatchState.DONE, receipts_closed=False, finished_at__lt=limit
        )
        for batch in done.order_by("pk")[:QUEUE_AT_ONCE]:
            failed += _close_receipts(application, batch)
    return failed


def _close_receipts(application: Application, batch: DispatchBatch) -> int:
    assert batch.first_id is not None
    with transaction.atomic():
        batches = DispatchBatch.objects.for_application(application).filter(pk=batch.pk)
        list(batches.select_for_update(no_key=True).values_list("pk"))  # before its messages, as everybody locks them
        in_batch = Message.objects.for_application(application).filter(
            id__range=(batch.first_id, IdRange(batch.first_id).last)
        )
        unreceived = in_batch.filter(status=MessageStatus.SUCCESSFUL).values_list("id", flat=True)
        counts = lifecycle.apply(
            "fail",
            source=lifecycle.SUCCESSFUL,
            ids=list(unreceived),
            application_id=application.pk,
            at=timezone.now(),
            reason=TIMED_OUT,
        )
        batches.update(receipts_closed=True, **({"has_failed": True} if counts else {}))
        record(counts)
    return sum(count.messages for count in counts)
