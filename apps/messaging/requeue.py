"""Sending failed messages again.

`failed` is final (specification 4), so a requeued message is a new one: the same content, recipient and campaign, in a
batch of its own that lives as long again. Both name the other (`requeued_from`, `requeued_as`); the failed one stays
failed and can be requeued once. Never sent again is what a provider took (a message that failed for want of a
receipt), and what has nobody to go to any more.

What somebody stopped (`canceled`), what may have arrived (`unknown_outcome`) and what another channel was sent in place
of (`overtaken`, `already_reached`) goes again only if it is asked for by its reason, or as a single message.

A requeued message is reserved anew. Of a set, what does not fit the quota is skipped and stays as it is.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.utils import timezone

from apps.messaging import charges, retry
from apps.messaging.content import ContentSource, recipient_variables
from apps.messaging.dispatches import dispatch_again, expires_at
from apps.messaging.models import Dispatch, DispatchBatch, DispatchState, Message, MessageRequeue, MessageStatus
from apps.messaging.queues import QueuedBatch, enqueue_on_commit
from apps.messaging.recorders import PLANNED, StatusCount, record
from apps.messaging.rendering import RenderError
from apps.messaging.stopping import is_stopping
from apps.subscriptions.models import AppUser, Subscription
from apps.tenants.models import Application
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict, NotFound
from automata_signal.ids import IdRange, first_id_at, new_range
from automata_signal.time_limits import limit_statements

REQUEUE_AT_ONCE = 2_000
"""Messages in one step: what a call does itself. The control queue does the rest, step by step."""
BATCHES_AT_ONCE = 500
"""Batches that a step looks into, at most: a rare reason is not looked for in one statement."""
TASK_MAX_S = 20.0
STALLED_AFTER_S = 60
"""An order without a step for so long was lost by the broker or its worker."""
STATEMENT_MAX_S = 300

ONLY_BY_NAME = frozenset({retry.CANCELED, retry.UNKNOWN_OUTCOME, retry.OVERTAKEN, retry.ALREADY_REACHED})


@dataclass(frozen=True, slots=True)
class FailedFilter:
    """Which failed messages: all of an application unless told. `since` and `until` are when they were made."""

    campaign_id: UUID | None = None
    error_reason: str = ""
    error_class: str = ""
    """`recipient`, `sender` or `provider`."""
    since: datetime | None = None
    until: datetime | None = None


# --- One message -------------------------------------------------------------------------------------------------


class RequeuedMessage(NamedTuple):
    message_id: UUID
    """The new message."""
    is_new: bool
    """False if an earlier call has requeued it."""


def message_requeue(*, application: Application, message_id: UUID) -> RequeuedMessage:
    """Send one failed message again, whatever it failed of. A second call answers with the message of the first.

    Raises `NotFound`, or `Conflict`: MESSAGE_NOT_FAILED, MESSAGE_WAS_SENT (the provider took it), DISPATCH_STOPPED
    (its campaign is paused or canceled), RECIPIENT_UNREACHABLE, CONTENT_UNUSABLE; and as `quota_reserve`.
    """
    with transaction.atomic():
        message = Message.objects.for_application(application).select_for_update().filter(pk=message_id).first()
        if message is None:
            raise NotFound("There is no such message.")
        if message.requeued_as is not None:
            return RequeuedMessage(message.requeued_as, is_new=False)
        if message.status != MessageStatus.FAILED:
            raise Conflict(f"The message is {message.status}, not failed.", code="MESSAGE_NOT_FAILED")
        if message.sent_at is not None:
            raise Conflict("The provider took the message; it is not sent twice.", code="MESSAGE_WAS_SENT")
        failed = _failed(application.pk, message_id, message_id, limit=1)
        done = _requeue(application.pk, failed, by_name=True, at_most=False)
        if problem := next(iter(done.skipped), None):
            raise Conflict(_REFUSALS[problem].message, code=_REFUSALS[problem].code)
        return RequeuedMessage(done.made[message_id], is_new=True)


class _Refusal(NamedTuple):
    message: str
    code: str


# --- A set of messages -------------------------------------------------------------------------------------------


def requeue_start(*, application: Application, which: FailedFilter, requested_by: str = "") -> MessageRequeue:
    """Requeue what `which` names: up to `REQUEUE_AT_ONCE` messages now, the rest by the control queue.

    The order's row tells how far it is. Of two orders for the same messages each message goes to one.
    """
    now = timezone.now()
    with transaction.atomic():
        order = MessageRequeue.objects.create(
            application=application,
            campaign_id=which.campaign_id,
            error_reason=which.error_reason,
            error_class=which.error_class,
            since=which.since,
            until=min(which.until or now, now),
            requested_by=requested_by[:200],
        )
        if requeue_step(order.pk):
            transaction.on_commit(lambda: queue_requeue(order.pk), robust=True)
    order.refresh_from_db()
    return order


def requeue_get(*, application: Application, requeue_id: UUID) -> MessageRequeue:
    """The order of this application, or `NotFound`."""
    order = MessageRequeue.objects.for_application(application).filter(pk=requeue_id).first()
    if order is None:
        raise NotFound("There is no such requeue.")
    return order


def queue_requeue(requeue_id: UUID) -> None:
    """If the broker does not answer, the sweep `messaging.continue_requeues` makes up for it."""
    send_tasks([Task("messaging.requeue", [str(requeue_id)], "control")])


def requeue_run(requeue_id: UUID, *, max_s: float = TASK_MAX_S) -> bool:
    """Go on with an order until it is done or `max_s` are over; True if there is more to do."""
    ends_at = time.monotonic() + max_s
    while (more := _patient_step(requeue_id)) and time.monotonic() < ends_at and not is_stopping():
        pass
    return more


@transaction.atomic
def _patient_step(requeue_id: UUID) -> bool:
    limit_statements(STATEMENT_MAX_S)
    return requeue_step(requeue_id)


def requeues_continue() -> int:
    """Queue the orders that nobody is working on; returns how many. Index: `requeue_unfinished`."""
    stalled_before = timezone.now() - timedelta(seconds=STALLED_AFTER_S)
    stalled = MessageRequeue.objects.filter(finished_at=None, updated_at__lt=stalled_before)
    ids = list(stalled.order_by("updated_at").values_list("pk", flat=True)[:100])
    for requeue_id in ids:
        queue_requeue(requeue_id)
    return len(ids)


@transaction.atomic
def requeue_step(requeue_id: UUID) -> bool:
    """Requeue the next messages of an order and move its checkpoint, both or neither; True if there is more to do."""
    rows = MessageRequeue.objects.select_for_update(skip_locked=True)
    order = rows.filter(pk=requeue_id, finished_at=None).first()
    if order is None:
        return False
    found = _next_failed(order)
    done = _requeue(order.application_id, found.rows, by_name=order.error_reason in ONLY_BY_NAME, at_most=True)
    order.requeued += len(done.made)
    order.skipped = dict(Counter(order.skipped) + done.skipped)
    order.after_id = found.looked_at or order.after_id
    order.updated_at = timezone.now()
    order.finished_at = order.updated_at if found.is_last else None
    order.save(update_fields=["requeued", "skipped", "after_id", "updated_at", "finished_at"])
    return not found.is_last


# --- Finding -----------------------------------------------------------------------------------------------------


class _Failed(NamedTuple):
    """A failed message, with what is needed to send it again."""

    id: UUID
    dispatch_id: UUID
    campaign_id: UUID | None
    subscription_id: UUID
    user_id: UUID | None
    channel_type: str
    title: str | None
    body: str | None
    data: str | None
    error_reason: str
    subscription_type: str | None
    is_reachable: bool
    is_another_persons: bool


class _Found(NamedTuple):
    rows: list[_Failed]
    looked_at: UUID | None
    """Everything up to this id was looked at."""
    is_last: bool


def _next_failed(order: MessageRequeue) -> _Found:
    """The next failed messages of an order: batch by batch of those that have some, each a range of the primary key."""
    batches = DispatchBatch.objects.filter(application_id=order.application_id, has_failed=True)
    batches = batches.filter(first_id__lt=_first_id(order.until))
    if order.campaign_id is not None:
        batches = batches.filter(dispatch__application_id=order.application_id, dispatch__campaign_id=order.campaign_id)
    if order.since is not None:
        batches = batches.filter(first_id__gte=_first_id(order.since))
    if order.after_id is not None:
        batches = batches.filter(first_id__gte=_base_of(order.after_id))
    bases = list(batches.order_by("first_id").values_list("first_id", flat=True)[: BATCHES_AT_ONCE + 1])
    rows: list[_Failed] = []
    looked_at = None
    for base in bases[:BATCHES_AT_ONCE]:
        assert base is not None
        after = max(base, _after(order.after_id)) if order.after_id else base
        wanted = REQUEUE_AT_ONCE - len(rows)
        found = _failed(
            order.application_id,
            after,
            IdRange(base).last,
            limit=wanted,
            error_reason=order.error_reason,
            error_class=order.error_class,
        )
        rows += found
        if len(found) == wanted:
            return _Found(rows, found[-1].id, is_last=False)
        looked_at = IdRange(base).last
    return _Found(rows, looked_at, is_last=len(bases) <= BATCHES_AT_ONCE)


def _first_id(moment: datetime) -> UUID:
    return first_id_at(max(0, int(moment.timestamp() * 1_000)))


def _base_of(message_id: UUID) -> UUID:
    """The base of the batch whose range the id is in (`automata_signal.ids`)."""
    return UUID(int=message_id.int & ~0xFFFFFF)


def _after(message_id: UUID) -> UUID:
    return UUID(int=message_id.int + 1)


# By the range of the primary key. The locks are taken in its order, as by everybody who locks messages.
_FAILED = """
    SELECT m.id, m.dispatch_id, m.campaign_id, m.subscription_id, m.user_id, m.channel_type, m.title, m.body,
           m.data::text, m.error_reason, s.type, COALESCE(s.subscription_status > 0 AND NOT s.is_archived, false),
           m.user_id IS NOT NULL AND s.user_id IS DISTINCT FROM m.user_id
    FROM messaging_message m
         LEFT JOIN subscriptions_subscription s ON s.id = m.subscription_id AND s.application_id = m.application_id
    WHERE m.id BETWEEN %(first)s AND %(last)s AND m.application_id = %(application_id)s
      AND m.status = 'failed' AND m.sent_at IS NULL AND m.requeued_as IS NULL
      AND (%(error_reason)s = '' OR m.error_reason = %(error_reason)s)
      AND (%(error_class)s = '' OR m.error_details->>'class' = %(error_class)s)
    ORDER BY m.id LIMIT %(limit)s
    FOR UPDATE OF m
"""


def _failed(
    application_id: UUID, first: UUID, last: UUID, *, limit: int, error_reason: str = "", error_class: str = ""
) -> list[_Failed]:
    """Lock the failed messages from `first` to `last` that can be requeued, `limit` at most."""
    parameters: dict[str, Any] = {
        "application_id": application_id,
        "first": first,
        "last": last,
        "limit": limit,
        "error_reason": error_reason,
        "error_class": error_class,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, parameters)
        return [_Failed(*row) for row in cursor.fetchall()]


# --- Making the new messages -------------------------------------------------------------------------------------

UNREACHABLE, ANOTHER_PERSONS, NO_CONTENT = "unsubscribed", "logged_out", "render_error"
STOPPED = "dispatch_stopped"

_REFUSALS = {
    UNREACHABLE: _Refusal("The subscription has ended.", code="RECIPIENT_UNREACHABLE"),
    ANOTHER_PERSONS: _Refusal("The person has signed out of the device.", code="RECIPIENT_UNREACHABLE"),
    NO_CONTENT: _Refusal("The content still cannot be rendered for this recipient.", code="CONTENT_UNUSABLE"),
    STOPPED: _Refusal("What it was sent by is paused or canceled.", code="DISPATCH_STOPPED"),
}


@dataclass
class _Done:
    made: dict[UUID, UUID] = field(default_factory=dict)
    """The new message of each failed one."""
    skipped: Counter[str] = field(default_factory=Counter)


class _New(NamedTuple):
    """A row of messaging_message."""

    id: UUID
    dispatch_id: UUID
    campaign_id: UUID | None
    subscription_id: UUID
    user_id: UUID | None
    channel_type: str
    title: str | None
    body: str | None
    data: str | None
    requeued_from: UUID


def _requeue(application_id: UUID, rows: Sequence[_Failed], *, by_name: bool, at_most: bool) -> _Done:
    """Make a new message for each row that may go again; the rows are locked. `at_most`: for as many as the quota has
    room, else it refuses."""
    done = _Done()
    orders = Dispatch.objects.filter(application_id=application_id).in_bulk({row.dispatch_id for row in rows})
    wanted = _wanted(rows, orders, done.skipped, by_name=by_name)
    while wanted:
        try:
            with transaction.atomic():
                done.made = _make(application_id, wanted, orders, at_most=at_most)
            break
        except _Short as short:  # nothing was made: once more, with those that fit
            kept = _first_of(wanted, short.channel_type, short.fits)
            done.skipped[charges.OVER_QUOTA] += len(wanted) - len(kept)
            wanted = kept
    return done


class _Short(Exception):
    """The quota has room for some of a channel only."""

    def __init__(self, channel_type: str, fits: int) -> None:
        super().__init__(channel_type)
        self.channel_type, self.fits = channel_type, fits


def _first_of(rows: Sequence[_Failed], channel_type: str, count: int) -> list[_Failed]:
    """The rows, but of this channel only the first so many."""
    places = Counter[str]()
    kept = []
    for row in rows:
        places[row.channel_type] += 1
        if row.channel_type != channel_type or places[channel_type] <= count:
            kept.append(row)
    return kept


def _wanted(
    rows: Sequence[_Failed], orders: Mapping[UUID, Dispatch], skipped: Counter[str], *, by_name: bool
) -> list[_Failed]:
    """The rows that may go again, with their content; the others are counted as skipped."""
    wanted = []
    for row in rows:
        problem = _problem(row, orders[row.dispatch_id], by_name=by_name)
        if problem is None and row.title is None and orders[row.dispatch_id].is_personalised:
            problem, row = _rendered(row, orders[row.dispatch_id])
        if problem is not None:
            skipped[problem] += 1
        else:
            wanted.append(row)
    return wanted


def _make(
    application_id: UUID, rows: Sequence[_Failed], orders: Mapping[UUID, Dispatch], *, at_most: bool
) -> dict[UUID, UUID]:
    """The new message of each row. Last the counters and the quota, which all share. Raises `_Short`."""
    groups: dict[tuple[UUID, str], list[_Failed]] = defaultdict(list)
    for row in rows:
        groups[row.dispatch_id, row.subscription_type or ""].append(row)
    made: dict[UUID, UUID] = {}
    copies = {dispatch_id: dispatch_again(orders[dispatch_id]) for dispatch_id, _ in groups}
    batches: list[DispatchBatch] = []
    messages: list[_New] = []
    for (dispatch_id, subscription_type), failed in groups.items():
        ids, order = new_range(), copies[dispatch_id]
        batches.append(_batch(order, subscription_type, ids, len(failed)))
        for position, row in enumerate(failed):
            new = _New(ids.at(position), order.pk, *row[2:9], requeued_from=row.id)
            messages.append(new)
            made[row.id] = new.id
    Dispatch.objects.bulk_create(copies.values())
    DispatchBatch.objects.bulk_create(batches)
    _insert(application_id, messages)
    record(_counts(application_id, messages))
    enqueue_on_commit([QueuedBatch(b.pk, application_id, b.dispatch.channel_type, b.priority) for b in batches])
    channels = Counter(message.channel_type for message in messages)
    if len(channels) > 1:
        charges.hold(application_id)
    for channel_type, count in sorted(channels.items()):
        fits = charges.reserve(
            application_id=application_id, channel_type=channel_type, messages=count, at_most=at_most
        )
        if fits < count:
            raise _Short(channel_type, fits)
    return made


def _problem(row: _Failed, order: Dispatch, *, by_name: bool) -> str | None:
    """Why the message may not go again; None if it may."""
    if order.state == DispatchState.PAUSED or (order.state == DispatchState.CANCELED and not by_name):
        return STOPPED
    if row.error_reason in ONLY_BY_NAME and not by_name:
        return row.error_reason
    if not row.is_reachable:
        return UNREACHABLE
    is_personal = row.title is not None or order.audience is None
    return ANOTHER_PERSONS if row.is_another_persons and is_personal else None


def _rendered(row: _Failed, order: Dispatch) -> tuple[str | None, _Failed]:
    """The content of a message that failed because it had none; what was missing may be there now."""
    subscription = Subscription.objects.select_related("application").get(
        application_id=order.application_id, pk=row.subscription_id
    )
    user = AppUser.objects.filter(application_id=order.application_id, pk=row.user_id).first()
    variables = recipient_variables(
        external_id=user.external_id if user else "",
        properties=user.properties if user else {},
        tags=subscription.tags,
        language=subscription.device_language or subscription.application.default_language,
        country=subscription.country_code,
    )
    try:
        content = ContentSource.of_dispatch(order).render(variables)
    except RenderError:
        return NO_CONTENT, row
    data = orjson.dumps(dict(content.data)).decode()
    return None, row._replace(title=content.title, body=content.body, data=data)


def _batch(order: Dispatch, subscription_type: str, ids: IdRange, count: int) -> DispatchBatch:
    now = timezone.now()
    return DispatchBatch(
        dispatch=order,
        application_id=order.application_id,
        subscription_type=subscription_type,
        priority=order.priority,
        due_at=now,
        queued_at=now,
        expires_at=expires_at(now, order.ttl_s),
        first_id=ids.base,
        recipient_count=count,
    )


_INSERT = """
    INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                                   status, attempts, title, body, data, created_at, requeued_from)
    SELECT r.id, %s, r.dispatch_id, r.campaign_id, r.subscription_id, r.user_id, r.channel_type, 'pending', 0,
           r.title, r.body, r.data::jsonb, %s, r.requeued_from
    FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[],
                %s::text[], %s::uuid[])
         r(id, dispatch_id, campaign_id, subscription_id, user_id, channel_type, title, body, data, requeued_from)
"""
# By primary key; no index names the column, so the update stays HOT.
_MARK = """
    UPDATE messaging_message m SET requeued_as = r.new_id
    FROM unnest(%s::uuid[], %s::uuid[]) r(id, new_id)
    WHERE m.id = r.id AND m.id = ANY(%s::uuid[]) AND m.application_id = %s
"""


def _insert(application_id: UUID, messages: Sequence[_New]) -> None:
    columns = [list(column) for column in zip(*messages, strict=True)]
    old, new = [message.requeued_from for message in messages], [message.id for message in messages]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [application_id, timezone.now(), *columns])
        cursor.execute(_MARK, [old, new, old, application_id])


def _counts(application_id: UUID, messages: Iterable[_New]) -> list[StatusCount]:
    """A campaign's total grows by its requeued messages: the failed ones stay counted as failed."""
    groups = Counter(
        (message.campaign_id, message.channel_type, message.dispatch_id if message.campaign_id else None)
        for message in messages
    )
    return [
        StatusCount(application_id, campaign_id, channel_type, "", new, "", count, dispatch_id)
        for (campaign_id, channel_type, dispatch_id), count in groups.items()
        for new in (PLANNED, MessageStatus.PENDING.value)
    ]


# --- Counting ----------------------------------------------------------------------------------------------------


class DeadLetters(NamedTuple):
    """Failed messages of one reason."""

    error_reason: str
    error_class: str
    messages: int
    requeued: int
    """Of them, those that were sent again as another message."""


# Looks only into batches that have failed messages, each by the range of its primary key.
_COUNT = """
    SELECT COALESCE(f.error_reason, ''), COALESCE(f.class, ''), count(*), count(f.requeued_as)
    FROM messaging_dispatchbatch b CROSS JOIN LATERAL (
        SELECT m.error_reason, m.error_details->>'class' AS class, m.requeued_as
        FROM messaging_message m
        WHERE m.id BETWEEN b.first_id AND overlay(b.first_id::text PLACING 'ffffff' FROM 31)::uuid
          AND m.application_id = b.application_id AND m.status = 'failed'
    ) f
    WHERE b.application_id = %(application_id)s AND b.has_failed
      AND b.first_id >= %(first)s AND b.first_id < %(last)s
      AND (%(campaign_id)s::uuid IS NULL OR b.dispatch_id IN (
          SELECT id FROM messaging_dispatch WHERE application_id = %(application_id)s AND campaign_id = %(campaign_id)s
      ))
      AND (%(error_reason)s = '' OR f.error_reason = %(error_reason)s)
      AND (%(error_class)s = '' OR f.class = %(error_class)s)
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""


def dead_letters(*, application: Application, which: FailedFilter) -> list[DeadLetters]:
    """How many messages failed, by reason and class, the most frequent first.

    Found by batches (index `batch_with_failed`): it costs by the size of the batches in which something failed, 1 s
    for some 2 million messages. A batch that is being sent right now is counted when it is given back.
    """
    parameters = {
        "application_id": application.pk,
        "campaign_id": which.campaign_id,
        "error_reason": which.error_reason,
        "error_class": which.error_class,
        "first": _first_id(which.since) if which.since else UUID(int=0),
        "last": _first_id(which.until) if which.until else UUID(int=(1 << 128) - 1),
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, parameters)
        return [DeadLetters(*row) for row in cursor.fetchall()]
