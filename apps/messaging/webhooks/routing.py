"""From events to deliveries: what happened becomes POSTs that wait, for each endpoint that asked for it.

Nothing of this is in the way of messages: it reads what they left behind, once for all endpoints. A step takes the
events from the watermark up to the oldest transaction that still runs (`automata_signal.positions`), writes the
deliveries and moves the watermark, all in one transaction: one that dies has done nothing, and each event is written
down once for each endpoint, however late its transaction commits.

**Order.** A message's events lie in one lane, in the order of the lifecycle, and a lane is delivered one after the
other. Positions alone would not give that order: a transaction that began early may record a receipt after a younger
one has recorded the sending. So an event takes those along that come before it in its message's life and lie beyond
the window (`early`); the next window brings them once more, and receivers know them by their ids.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.utils import timezone

from apps.messaging.adapters.registry import CHANNELS
from apps.messaging.stopping import is_stopping
from apps.messaging.webhooks.models import WebhookEndpoint, WebhookReader
from automata_signal import positions
from automata_signal.celery import Task, send_tasks
from automata_signal.ids import first_id_at

log = logging.getLogger(__name__)

READER = "events"
STEP_EVENTS = 20_000
DELIVERY_EVENTS = 100
"""Events in one POST, at most."""
TASK_MAX_S = 5.0
"""Then reading goes on in a new task, and other tasks of the control queue get their turn."""
GROWTH_MAX = 8
"""A window is at most so many times as wide as the one before."""
REMINDED_AFTER = timedelta(hours=1)
AHEAD = (
    "webhooks: the database was restored from a dump; no event is told until an operator runs "
    "manage.py analytics_rebuild --restored"
)
TABLES = ("messaging_messageevent", "subscriptions_subscriptionevent")


class Routed(NamedTuple):
    """What a step did."""

    events: int
    """Those written down, once for each endpoint."""
    deliveries: int
    width: int
    """Transactions that it looked through."""
    is_done: bool
    """Whether nothing was left that could be read."""


NOTHING = Routed(0, 0, 0, is_done=True)


def route_all(*, max_s: float = TASK_MAX_S) -> bool:
    """Write down what happened since, until nothing is left or `max_s` are over; True if there is more.

    Of two at a time one has nothing to do.
    """
    ends_at = time.monotonic() + max_s
    if not WebhookEndpoint.objects.exists():
        return False
    for table in TABLES:
        positions.summarise_positions(table)
    width = 0
    while True:
        routed = route_step(width=width)
        if routed.is_done:
            return False
        if time.monotonic() >= ends_at or is_stopping():
            return True
        width = _next_width(routed)


def _next_width(routed: Routed) -> int:
    wished = routed.width * STEP_EVENTS // max(routed.events, 1)
    return max(1, min(wished, routed.width * GROWTH_MAX))


def queue_route() -> None:
    """If the broker does not answer, beat's next tick goes on."""
    send_tasks([Task("messaging.route_webhooks", [], "control")])


@transaction.atomic
def route_step(*, width: int = 0) -> Routed:
    """Write down the next window and move the watermark, both or neither. `width`: of so many transactions; 0: all."""
    reader = _lock_reader()
    if reader is None:
        return NOTHING
    horizon = positions.read_horizon()
    endpoints = _Endpoints.now(horizon)
    low = max(reader.watermark, endpoints.from_position)
    if low > horizon:
        _say_ahead(reader)
        return NOTHING
    positions.prepare_reading()
    high = positions.window_end(TABLES, low, horizon, events_max=STEP_EVENTS, width=width)
    events = deliveries = 0
    if high > low and endpoints.are_there:
        for statement in (_MESSAGES, _SUBSCRIPTIONS):
            made, told = _write_down(statement, low, high, reader.sequence + deliveries, endpoints.have_channels)
            deliveries, events = deliveries + made, events + told
    routed = Routed(events, deliveries, high - low, is_done=high >= horizon)
    reader.watermark = high
    reader.sequence += deliveries
    reader.updated_at = timezone.now()
    reader.caught_up_at = reader.updated_at if routed.is_done else reader.caught_up_at
    reader.save(update_fields=["watermark", "sequence", "updated_at", "caught_up_at"])
    return routed


def _lock_reader() -> WebhookReader | None:
    """The row, for us alone until the transaction ends; None if another has it."""
    rows = WebhookReader.objects.select_for_update(skip_locked=True)
    reader = rows.filter(name=READER).first()
    if reader is None and not WebhookReader.objects.filter(name=READER).exists():
        WebhookReader.objects.bulk_create([WebhookReader(name=READER)], ignore_conflicts=True)
        reader = rows.filter(name=READER).first()
    return reader


def _say_ahead(reader: WebhookReader) -> None:
    """The rows come from another cluster (a restored dump), whose positions are ahead: said once an hour."""
    now = timezone.now()
    if reader.updated_at < now - REMINDED_AFTER:
        log.error(AHEAD, extra={"watermark": reader.watermark})
        WebhookReader.objects.filter(pk=reader.pk).update(updated_at=now)


class _Endpoints(NamedTuple):
    """What a step has to know of all of them."""

    are_there: bool
    from_position: int
    """Nobody wants to know of what was before; the horizon, if there is nobody."""
    have_channels: bool
    """Whether any of them wants some channels only: then messages are looked up."""

    @classmethod
    def now(cls, horizon: int) -> _Endpoints:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), coalesce(min(from_position), %s), coalesce(bool_or(channels <> '{}'), false)"
                " FROM messaging_webhookendpoint",
                [horizon],
            )
            count, from_position, have_channels = cursor.fetchone()
        return cls(count > 0, from_position, have_channels)


# --- The statements ------------------------------------------------------------------------------------------------

# `found` reads the window by the BRIN index of positions. `early` looks up the events of each of its messages, a
# range of their own primary key (`automata_signal.ids`): OFFSET 0 and `+ 0` keep the planner from joining all that
# lies beyond the window instead. `place` is an event's place in its lane, whose bytes of the id are random, or count
# up within a batch. An id has the time and the sequence in it, so that a delivery sorts by both.
_STATEMENT = """
WITH found AS MATERIALIZED (
    SELECT e.id, e.{key} AS key, e.application_id, e.position, '{source}.' || e.event_type AS type, {rank} AS rank,
           {channel} AS channel
    FROM {table} e {join}
    WHERE e.position >= %(low)s AND e.position < %(high)s
      AND e.application_id = ANY(ARRAY(SELECT application_id FROM messaging_webhookendpoint))
), early AS (
    SELECT e.id, f.key, f.application_id, e.position, e.type, e.rank, f.channel
    FROM (SELECT key, application_id, max(rank) AS rank, min(channel) AS channel FROM found GROUP BY 1, 2) f
    CROSS JOIN LATERAL (
        SELECT e.id, e.position, '{source}.' || e.event_type AS type, {rank} AS rank
        FROM {table} e
        WHERE {same_key} AND e.application_id = f.application_id AND e.position + 0 >= %(high)s AND {rank} < f.rank
        OFFSET 0
    ) e
), chosen AS (
    SELECT p.id AS endpoint_id, p.application_id, lane.number AS lane, e.id,
           row_number() OVER (PARTITION BY p.id, lane.number ORDER BY e.key, e.rank) - 1 AS place
    FROM (SELECT * FROM found UNION ALL SELECT * FROM early) e
    JOIN messaging_webhookendpoint p ON p.application_id = e.application_id AND e.position >= p.from_position
    CROSS JOIN LATERAL (
        SELECT (get_byte(uuid_send(e.key), 12) + get_byte(uuid_send(e.key), 14)) %% p.lanes AS number
    ) lane
    WHERE (p.event_types = '{{}}' OR e.type = ANY(p.event_types) OR '{source}.*' = ANY(p.event_types))
      AND (p.channels = '{{}}' OR e.channel = ANY(p.channels))
), batch AS (
    SELECT endpoint_id, application_id, lane, place / %(events_max)s AS part, array_agg(id ORDER BY place) AS event_ids
    FROM chosen GROUP BY 1, 2, 3, 4
), numbered AS (
    SELECT *, %(sequence)s::bigint + row_number() OVER (ORDER BY endpoint_id, lane, part) AS sequence FROM batch
), made AS (
    INSERT INTO messaging_webhookdelivery
        (id, application_id, endpoint_id, source, lane, sequence, event_ids, created_at)
    SELECT (%(time)s || '7' || '000' || '8' || lpad(to_hex(sequence), 15, '0'))::uuid,
           application_id, endpoint_id, '{source}', lane, sequence, event_ids, %(now)s
    FROM numbered ORDER BY sequence
    RETURNING cardinality(event_ids) AS events
)
SELECT count(*), coalesce(sum(events), 0)::bigint FROM made
"""


class _Statement(NamedTuple):
    with_channels: str
    plain: str


def _statement(channel: str, join: str, **parts: str) -> _Statement:
    """With the channel of each event, and without: then nothing has to be looked up for it."""
    return _Statement(
        _STATEMENT.format(channel=channel, join=join, **parts),
        _STATEMENT.format(channel="NULL::text", join="", **parts),
    )


# The number of a message's event is the last byte of its id (`apps.messaging.lifecycle`): attempts are 16 and more, and
# all of them come before what is entered once: sent 1, received 2, converted 3, failed 4.
_MESSAGES = _statement(
    source="message",
    table="messaging_messageevent",
    key="message_id",
    rank="(CASE WHEN get_byte(uuid_send(e.id), 15) < 16 THEN 256 ELSE 0 END + get_byte(uuid_send(e.id), 15))",
    channel="m.channel_type",
    join="JOIN messaging_message m ON m.id = e.message_id AND m.application_id = e.application_id",
    same_key="e.id > f.key AND e.id <= overlay(f.key::text PLACING 'ff' FROM 35)::uuid",
)

# Ids of a subscription's events are UUIDv7: in the order in which they were made. Index: `subscription_event_of`.
_SUBSCRIPTIONS = _statement(
    source="subscription",
    table="subscriptions_subscriptionevent",
    key="subscription_id",
    rank='e.id::text COLLATE "C"',
    channel="(%(channels)s::text[])[array_position(%(types)s::text[], e.channel::text)]",
    join="",
    same_key="e.subscription_id = f.key",
)


def _write_down(statement: _Statement, low: int, high: int, sequence: int, have_channels: bool) -> tuple[int, int]:
    """Run one; deliveries made, and events in them."""
    now = timezone.now()
    parameters: dict[str, Any] = {
        "low": low,
        "high": high,
        "sequence": sequence,
        "events_max": DELIVERY_EVENTS,
        "now": now,
        "time": first_id_at(int(now.timestamp() * 1_000)).hex[:12],
        "types": list(CHANNELS),
        "channels": [reach.channel for reach in CHANNELS.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(statement.with_channels if have_channels else statement.plain, parameters)
        deliveries, events = cursor.fetchone()
    return int(deliveries), int(events)
