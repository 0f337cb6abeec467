"""Orders to send, and their batches: made, paused, resumed and canceled without touching their messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from apps.messaging.adapters.registry import subscription_types_of
from apps.messaging.content import ContentSource
from apps.messaging.courtesy.wanted import audience_predicate
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, Message, MessageStatus, Purpose
from apps.messaging.queues import QueuedBatch, enqueue_on_commit
from apps.messaging.splitting import BUCKET
from apps.subscriptions.targeting import REACHABLE, compile_criteria
from apps.tenants.models import Application
from automata_signal.celery import Task, send_tasks
from automata_signal.ids import IdRange, new_id
from automata_signal.prepared import insert_row

EXPIRY_GRACE_S = 60
"""A time to live of 0 means one attempt by the provider; until then the message still has to reach it."""


def dispatch_create(
    *,
    application: Application,
    channel_type: str,
    priority: str,
    content: ContentSource,
    ttl_s: int,
    campaign_id: UUID | None = None,
    audience: dict[str, Any] | None = None,
    messages_per_minute: int | None = None,
    purpose: str = Purpose.TRANSACTIONAL,
    category: str = "",
    **more: Any,
) -> Dispatch:
    """Write down what to send. `audience` is criteria with segments resolved, or None if recipients are named.

    `messages_per_minute` is the throttle, for all workers together; None is as fast as it goes. `more` is
    what only a few say: of a chain's step (`chains.steps`), of a request for confirmation (`notices`).
    """
    dispatch = Dispatch(
        application=application,
        campaign_id=campaign_id,
        template_version=content.template_version,
        channel_type=channel_type,
        priority=priority,
        title=content.title,
        body=content.body,
        data=dict(content.data),
        options=dict(content.options),
        variables=dict(content.variables),
        is_personalised=content.is_personalised,
        languages={key: dict(words) for key, words in content.languages.items()},
        purpose=purpose,
        category=category,
        audience=audience,
        ttl_s=ttl_s,
        messages_per_minute=messages_per_minute,
        **more,
    )
    insert_row(dispatch)
    return dispatch


def dispatch_again(dispatch: Dispatch, **changes: Any) -> Dispatch:
    """The same order once more, with `changes`; not saved yet."""
    columns = {column.attname: getattr(dispatch, column.attname) for column in Dispatch._meta.concrete_fields}
    fresh = {"id": new_id(), "state": DispatchState.ACTIVE, "created_at": timezone.now(), "reserved_at": None}
    return Dispatch(**columns | fresh | changes)


def expires_at(due_at: datetime, ttl_s: int) -> datetime:
    return due_at + timedelta(seconds=max(ttl_s, EXPIRY_GRACE_S))


FIRST_LOOK_S = 5.0


def follow_up_at(dispatch: Dispatch, due_at: datetime) -> datetime | None:
    """When a new batch of the dispatch is first looked at for the next step of its chain; None if there is none."""
    return None if dispatch.wait_s is None else due_at + timedelta(seconds=FIRST_LOOK_S)


class Sliced(NamedTuple):
    """What one step of a fan-out did. `last_id` is None when the audience is exhausted."""

    last_id: UUID | None
    batch_ids: list[UUID]
    recipients: int


# Reads subscriptions in the order of `subscription_by_application`, so each step reads on where the last one stopped.
# Only the first and the last of each slice are grouped: all of them would be sorted once more, a third of the time.
_SLICES = """
    WITH reachable AS (
        SELECT s.id, s.type FROM {tables}
        WHERE s.application_id = %s AND s.type = ANY(%s) AND {reachable}
          AND (%s::uuid IS NULL OR s.id > %s) AND ({predicate})
        ORDER BY s.id LIMIT %s
    ), numbered AS (
        SELECT id, type, row_number() OVER of_type AS number, lead(id) OVER of_type IS NULL AS is_last
        FROM reachable WINDOW of_type AS (PARTITION BY type ORDER BY id)
    ), ends AS (
        SELECT id, type, number, (number - 1) / {size} AS slice FROM numbered WHERE number %% {size} < 2 OR is_last
    )
    SELECT type, (array_agg(id ORDER BY number))[1], (array_agg(id ORDER BY number DESC))[1],
           max(number) - min(number) + 1
    FROM ends GROUP BY type, slice ORDER BY 3
"""


def dispatch_slice(*, dispatch: Dispatch, after_id: UUID | None, limit: int, is_over_quota: bool = False) -> Sliced:
    """Cut the next `limit` subscriptions of the audience, in the order of their ids, into waiting batches.

    Those of a batch that `is_over_quota` become messages that fail: nothing is reserved for them.

    Runs in the caller's transaction, together with the caller's checkpoint; the batches are queued on commit. Nobody is
    skipped or cut twice as long as each call starts after the `last_id` of the one before.
    """
    predicate = audience_predicate(compile_criteria(dispatch.audience or {}, now=dispatch.created_at), dispatch)
    parameters = [
        dispatch.application_id,
        list(subscription_types_of(dispatch.channel_type)),
        after_id,
        after_id,
        *predicate.params,
        limit,
    ]
    sql = _SLICES.format(
        tables=predicate.from_clause, reachable=REACHABLE, predicate=predicate.sql, size=settings.BATCH_SIZE
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        slices = cursor.fetchall()
    now = timezone.now()
    batches = [_batch(dispatch, row, now, is_over_quota) for row in slices]
    DispatchBatch.objects.bulk_create(batches)
    _queue(dispatch, batches)
    recipients = sum(batch.recipient_count for batch in batches)
    last_id = slices[-1][2] if recipients == limit else None
    return Sliced(last_id, [batch.id for batch in batches], recipients)


def _batch(dispatch: Dispatch, row: Sequence[Any], now: datetime, is_over_quota: bool) -> DispatchBatch:
    type_, first, last, count = row
    return DispatchBatch(
        dispatch=dispatch,
        application_id=dispatch.application_id,
        subscription_type=type_,
        priority=dispatch.priority,
        due_at=now,
        queued_at=now,
        expires_at=expires_at(now, dispatch.ttl_s),
        first_subscription_id=first,
        last_subscription_id=last,
        recipient_count=count,
        is_over_quota=is_over_quota,
        follow_up_at=follow_up_at(dispatch, now),
    )


class SlicedParts(NamedTuple):
    """What one step did of a fan-out to several dispatches: `Sliced`, and by whom."""

    last_id: UUID | None
    batch_ids: list[UUID]
    recipients: int
    by_dispatch: dict[UUID, int]
    held_out: int
    """Recipients who get nothing, counted once they are passed."""


# As `_SLICES`, with the part of the audience that each recipient is in: the subscriptions are read once for all
# dispatches, in one statement.
_SLICES_OF_PARTS = """
    WITH reachable AS (
        SELECT id, type, width_bucket(bucket, %s::int[]) - 1 AS part FROM (
            SELECT s.id, s.type, {bucket} AS bucket FROM {tables}
            WHERE s.application_id = %s AND s.type = ANY(%s) AND {reachable}
              AND (%s::uuid IS NULL OR s.id > %s) AND ({predicate})
        ) s
        WHERE bucket < %s OR bucket >= %s
        ORDER BY id LIMIT %s
    ), numbered AS (
        SELECT id, type, part, row_number() OVER of_part AS number, lead(id) OVER of_part IS NULL AS is_last
        FROM reachable WINDOW of_part AS (PARTITION BY part, type ORDER BY id)
    ), ends AS (
        SELECT id, type, part, number, (number - 1) / {size} AS slice
        FROM numbered WHERE number %% {size} < 2 OR is_last
    )
    SELECT part, type, (array_agg(id ORDER BY number))[1], (array_agg(id ORDER BY number DESC))[1],
           max(number) - min(number) + 1
    FROM ends GROUP BY part, type, slice ORDER BY 4
"""


def dispatches_slice(
    *,
    dispatches: Sequence[Dispatch],
    held_out_from: int,
    after_id: UUID | None,
    limit: int,
    is_over_quota: bool = False,
) -> SlicedParts:
    """`dispatch_slice` of several dispatches of one campaign, whose parts of the audience follow each other without a
    gap. From the bucket `held_out_from` on people get nothing and are counted; who stands between the last part and
    those is passed over, and not counted. The limit is of recipients and held out together.
    """
    first, ends_at = dispatches[0], dispatches[-1].split_to
    bounds = [*(dispatch.split_from for dispatch in dispatches), ends_at, held_out_from]
    # Without its part, which is only one of those that are looked for.
    whole = dispatch_again(first, split_from=None, split_to=None)
    predicate = audience_predicate(compile_criteria(first.audience or {}, now=first.created_at), whole)
    parameters = [
        bounds,
        first.campaign_id,
        first.application_id,
        list(subscription_types_of(first.channel_type)),
        after_id,
        after_id,
        *predicate.params,
        ends_at,
        held_out_from,
        limit,
    ]
    sql = _SLICES_OF_PARTS.format(
        bucket=BUCKET,
        tables=predicate.from_clause,
        reachable=REACHABLE,
        predicate=predicate.sql,
        size=settings.BATCH_SIZE,
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        slices = cursor.fetchall()
    now = timezone.now()
    by_dispatch: Counter[UUID] = Counter()
    batches: list[DispatchBatch] = []
    held_out = 0
    for part, *row in slices:
        if part >= len(dispatches):
            held_out += row[-1]
            continue
        batches.append(_batch(dispatches[part], row, now, is_over_quota))
        by_dispatch[dispatches[part].pk] += row[-1]
    DispatchBatch.objects.bulk_create(batches)
    _queue(first, batches)
    recipients = by_dispatch.total()
    last_id = slices[-1][3] if recipients + held_out == limit else None
    return SlicedParts(last_id, [batch.id for batch in batches], recipients, dict(by_dispatch), held_out)


def _queue(dispatch: Dispatch, batches: Sequence[DispatchBatch]) -> None:
    enqueue_on_commit([QueuedBatch(b.id, b.application_id, dispatch.channel_type, b.priority) for b in batches])


def dispatch_pause(dispatch: Dispatch) -> None:
    """Nothing more leaves; what a worker is sending at this moment stops within a second."""
    _set_state(dispatch, DispatchState.PAUSED, from_states=[DispatchState.ACTIVE])


def dispatch_resume(dispatch: Dispatch) -> None:
    """Go on: what waits is queued again by the next sweep."""
    _set_state(dispatch, DispatchState.ACTIVE, from_states=[DispatchState.PAUSED])
    # After the commit: a claim locks its batch before it counts for the campaign, which the caller holds.
    waiting = DispatchBatch.objects.filter(dispatch=dispatch, state=BatchState.WAITING)
    transaction.on_commit(lambda: waiting.update(queued_at=None), robust=True)


def dispatch_cancel(dispatch: Dispatch) -> None:
    """Nothing more leaves; what has not left is failed as canceled, by a task that starts on commit."""
    _set_state(dispatch, DispatchState.CANCELED, from_states=[DispatchState.ACTIVE, DispatchState.PAUSED])
    transaction.on_commit(lambda: request_cancel(dispatch.pk), robust=True)


def request_cancel(dispatch_id: UUID) -> None:
    """A task that is lost is queued again by the sweep `messaging.continue_cancels`; nothing leaves meanwhile."""
    send_tasks([Task("messaging.cancel_dispatch", [str(dispatch_id)], "control")])


def _set_state(dispatch: Dispatch, state: DispatchState, *, from_states: list[DispatchState]) -> None:
    Dispatch.objects.filter(pk=dispatch.pk, state__in=from_states).update(state=state)
    dispatch.refresh_from_db(fields=["state"])


def dispatches_of(*, application_id: UUID, campaign_id: UUID) -> list[Dispatch]:
    """The orders of a campaign: its launch first, then its requeues. Index: `dispatch_by_campaign`."""
    return list(Dispatch.objects.filter(application_id=application_id, campaign_id=campaign_id).order_by("id"))


class Progress(NamedTuple):
    """How far dispatches are: recipients cut so far, those whose batch was never claimed, open messages by state."""

    total: int
    unclaimed: int
    pending: int
    errored: int


def dispatch_progress(*dispatches: Dispatch) -> Progress:
    """Of one dispatch, or of all of a campaign. Counted from the batches; messages are read only of open batches."""
    batches = _batches_of(dispatches)
    messages = Message.objects.filter(application_id__in={dispatch.application_id for dispatch in dispatches})
    sums = batches.aggregate(
        total=Sum("recipient_count", default=0),
        unclaimed=Sum("recipient_count", default=0, filter=Q(first_id=None)),
    )
    open_batches = batches.exclude(state=BatchState.DONE).exclude(first_id=None).values_list("first_id", flat=True)
    states: Counter[str] = Counter()
    for base in open_batches:
        assert base is not None
        in_batch = messages.filter(id__range=(base, IdRange(base).last), status__in=_OPEN)
        states.update({row["status"]: row["n"] for row in in_batch.values("status").annotate(n=Count("id"))})
    return Progress(sums["total"], sums["unclaimed"], states[MessageStatus.PENDING], states[MessageStatus.ERRORED])


_OPEN = (MessageStatus.PENDING, MessageStatus.ERRORED)


def dispatch_is_done(*dispatches: Dispatch) -> bool:
    """Whether every message has its final state or waits for receipts only."""
    return not _batches_of(dispatches).exclude(state=BatchState.DONE).exists()


def _batches_of(dispatches: Sequence[Dispatch]) -> QuerySet[DispatchBatch]:
    return DispatchBatch.objects.filter(
        application_id__in={dispatch.application_id for dispatch in dispatches}, dispatch__in=dispatches
    )
