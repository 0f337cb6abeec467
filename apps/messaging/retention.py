"""Forgetting what applications no longer keep: `settings.retention_days`, else `RETENTION_DAYS_DEFAULT` (0: for ever),
and never longer than their plan does.

A month that nobody needs any more is dropped as a partition, which costs nothing by its size. Partitions are shared, so
an application that keeps less than the others has its rows deleted: batch by batch, since the messages of a batch and
their events are ranges of their primary keys, and the oldest first, so that it can stop and go on anywhere.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.billing.entitlements import plan_of
from apps.messaging import charges, partitions
from apps.messaging.models import (
    BatchState,
    Dispatch,
    DispatchBatch,
    DispatchState,
    FollowUp,
    GatewayRequest,
    MessageRequeue,
)
from apps.messaging.stopping import is_stopping
from apps.subscriptions.services import subscription_events_forget
from apps.tenants.models import Application
from automata_signal.celery import Task, send_tasks
from automata_signal.ids import IdRange, first_id_at
from automata_signal.time_limits import limit_lock_waits, limit_statements

log = logging.getLogger(__name__)

SLICE_MESSAGES = 5_000
"""Messages deleted in one transaction: 0.1 s, and nobody waits for it, since nobody else changes rows so old."""
SLICE_BATCHES = 500
TASK_MAX_S = 20.0
"""Then the deletion goes on in a new task, and other tasks of the control queue get their turn."""
COUNT_MAX_S = 3_600
"""A month is read once before it is dropped: the ledger keeps the number of its messages."""
DROP_LOCK_WAIT_S = 2.0
"""Dropping a partition needs its parent for itself; while it waits, everybody waits. If it is busy, tomorrow."""


def kept_since(application: Application, now: datetime) -> datetime | None:
    """What is older is not kept; None: everything is. Nothing is kept for longer than the application's plan keeps."""
    chosen = int(application.settings.get("retention_days") or settings.RETENTION_DAYS_DEFAULT)
    limits = [days for days in (chosen, plan_of(application).retention_days_max) if days]
    return now - timedelta(days=min(limits)) if limits else None


def _applications() -> QuerySet[Application]:
    """With their plans at hand."""
    return Application.objects.select_related("billing__plan").defer("billing__alert_webhook_secret")


# --- Whole months ------------------------------------------------------------------------------------------------


def drop_unneeded_partitions(*, now: datetime | None = None) -> list[str]:
    """Drop the months of which no application keeps a row; returns the names of the partitions."""
    now = now or timezone.now()
    dropped = []
    for table in partitions.FILLFACTORS:
        for partition in partitions.list_partitions(table):
            if partitions.next_month(partition.month) <= now.date() and not _is_needed(partition, now):
                dropped += _drop(partition.name)
    if dropped:
        log.info("partitions were dropped: %s", ", ".join(dropped))
    return dropped


def _is_needed(partition: partitions.Partition, now: datetime) -> bool:
    """Whether an application that keeps this month has rows in it: one probe of an index for each."""
    end = partitions.month_start(partitions.next_month(partition.month))
    for application in _applications():
        since = kept_since(application, now)
        if (since is None or end > since) and _has_rows(partition, application.pk):
            return True
    return False


def _has_rows(partition: partitions.Partition, application_id: UUID) -> bool:
    """Asks the messages of the month, by `message_by_application`; where there are none there are no events."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM messaging_message WHERE application_id = %s AND id >= %s AND id < %s)",
            [
                application_id,
                partitions.month_start_id(partition.month),
                partitions.month_start_id(partitions.next_month(partition.month)),
            ],
        )
        (answer,) = cursor.fetchone()
    return bool(answer)


def _drop(name: str) -> list[str]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            limit_statements(COUNT_MAX_S)
            limit_lock_waits(DROP_LOCK_WAIT_S)
            gone = _charged(name) if name.startswith("messaging_message_p") else []
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
            for application_id, channel_type, sent, opened in gone:
                charges.forget(application_id=application_id, channel_type=channel_type, sent=sent, opened=opened)
    except OperationalError as error:
        log.warning("a partition could not be dropped now", extra={"cause": str(error)})
        return []
    return [name]


def _charged(name: str) -> list[tuple[UUID, str, int, int]]:
    """What quotas know of the partition's messages: application, channel, how many were sent, how many are open.

    Reads the partition as a whole, and locks nothing: nobody keeps it, so nothing of it is being sent.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_id, channel_type, count(sent_at),"
            f" count(*) FILTER (WHERE status IN ('pending', 'errored')) FROM {name} GROUP BY 1, 2 ORDER BY 1, 2"
        )
        rows: list[tuple[UUID, str, int, int]] = cursor.fetchall()
    return rows


# --- Rows of one application --------------------------------------------------------------------------------------


@dataclass
class Deleted:
    """What one slice took away."""

    messages: int = 0
    batches: int = 0
    dispatches: int = 0
    subscription_events: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __add__(self, other: Deleted) -> Deleted:
        return Deleted(**{name: count + getattr(other, name) for name, count in vars(self).items()})


def delete_old(*, max_s: float = TASK_MAX_S, now: datetime | None = None) -> bool:
    """Delete what applications no longer keep until nothing is left or `max_s` are over; True if there is more to do.

    Of two at a time one has nothing to do.
    """
    now = now or timezone.now()
    began, total, more = time.monotonic(), Deleted(), False
    for application in _applications().order_by("id"):
        since = kept_since(application, now)
        while since is not None and (deleted := delete_slice(application, since)):
            total += deleted
            if time.monotonic() - began > max_s or is_stopping():
                more = True
                break
        if more:
            break
    if total:
        what = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in vars(total).items())
        log.info("old rows were deleted: %s in %.1f s", what, time.monotonic() - began)
    return more


def queue_delete_old() -> None:
    """If the broker does not answer, beat's next tick goes on."""
    send_tasks([Task("messaging.delete_old", [], "control")])


@transaction.atomic
def delete_slice(application: Application, since: datetime) -> Deleted:
    """Delete the application's oldest rows from before `since`, one slice; nothing is left when it deleted nothing.

    A batch that is not done yet stays, whatever its age (paused, or scheduled far ahead), and so does one whose chain
    goes on.
    """
    if not _is_ours(application.pk):
        return Deleted()
    before = first_id_at(int(since.timestamp() * 1_000))
    batches = _oldest_batches(application, before)
    sent: Counter[str] = Counter()
    deleted = Deleted(batches=len(batches))
    for batch in batches:
        assert batch.first_id is not None
        deleted.messages += _delete_range(application.pk, IdRange(batch.first_id), sent)
    DispatchBatch.objects.for_application(application).filter(pk__in=[batch.pk for batch in batches]).delete()
    deleted.dispatches = _delete_dispatches(application, {batch.dispatch_id for batch in batches})
    MessageRequeue.objects.for_application(application).filter(pk__lt=before, finished_at__isnull=False).delete()
    for rows in (FollowUp.objects, GatewayRequest.objects):  # by their index on application and id
        old = rows.for_application(application).filter(pk__lt=before).order_by("pk")
        rows.filter(pk__in=list(old.values_list("pk", flat=True)[:SLICE_MESSAGES])).delete()
    deleted.subscription_events = subscription_events_forget(
        application_id=application.pk, before_id=before, limit=SLICE_MESSAGES
    )
    for channel_type, messages in sorted(sent.items()):
        charges.forget(application_id=application.pk, channel_type=channel_type, sent=messages)
    return deleted


def _is_ours(application_id: UUID) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"retention:{application_id}"])
        (answer,) = cursor.fetchone()
    return bool(answer)


def _oldest_batches(application: Application, before: UUID) -> list[DispatchBatch]:
    """Some `SLICE_MESSAGES` worth of batches. Index: `batch_by_message_range`."""
    done = DispatchBatch.objects.for_application(application).filter(
        first_id__lt=before, state=BatchState.DONE, follow_up_at=None
    )
    chosen: list[DispatchBatch] = []
    messages = 0
    for batch in done.order_by("first_id")[:SLICE_BATCHES]:
        if chosen and messages + batch.recipient_count > SLICE_MESSAGES:
            break
        chosen.append(batch)
        messages += batch.recipient_count
    return chosen


def _delete_range(application_id: UUID, ids: IdRange, sent: Counter[str]) -> int:
    """How many messages were deleted; `sent` gets how many of them a provider had taken, by channel."""
    parameters = [ids.base, ids.last, application_id]
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM messaging_messageevent WHERE id BETWEEN %s AND %s AND application_id = %s", parameters
        )
        cursor.execute("DELETE FROM messaging_inboxitem WHERE id BETWEEN %s AND %s AND application_id = %s", parameters)
        cursor.execute(
            "WITH deleted AS (DELETE FROM messaging_message WHERE id BETWEEN %s AND %s AND application_id = %s"
            " RETURNING channel_type, sent_at)"
            " SELECT channel_type, count(*), count(sent_at) FROM deleted GROUP BY 1",
            parameters,
        )
        rows = cursor.fetchall()
    sent.update({channel_type: taken for channel_type, _, taken in rows})
    return sum(messages for _, messages, _ in rows)


def _delete_dispatches(application: Application, dispatch_ids: set[UUID]) -> int:
    """Those that have no batch left. A paused one stays: its campaign may have more to cut. The steps of a chain that
    were never taken go with its first."""
    of_application = Dispatch.objects.for_application(application)
    over = of_application.filter(pk__in=dispatch_ids, chain_step=0, batches=None)
    chains = set(over.values_list("chain_id", flat=True)) - {None}
    ids = {*dispatch_ids, *of_application.filter(chain_id__in=chains).values_list("pk", flat=True)}
    rows = of_application.filter(pk__in=ids, batches=None)
    _, by_model = rows.exclude(state=DispatchState.PAUSED).delete()
    return by_model.get(Dispatch._meta.label, 0)
