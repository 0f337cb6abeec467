"""When people are usually active: at which hours they open messages, learnt from the events of their messages.

A row for each person (`ActiveHours`) counts by hour of the day in UTC; when it has seen enough it is halved, so that
old habits fade. The job reads events by position, as the statistics do: none twice, none left out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.messaging.models import MessageStatus
from automata_signal.ids import new_id
from automata_signal.time_limits import limit_statements

NAME = "active hours"
AT_ONCE = 20_000
"""Events in one step, or as many as one transaction wrote."""
SEEN_MAX = 200
"""Events after which a person's counts are halved."""
_HOURS = 24

_LOCK = """
    INSERT INTO subscriptions_readingposition AS p (name, position) VALUES (%s, event_horizon())
    ON CONFLICT (name) DO UPDATE SET position = p.position RETURNING position
"""
_MOVE = "UPDATE subscriptions_readingposition SET position = %s WHERE name = %s"
# Index: `message_event_position`, a BRIN index; the messages by their primary key. What was opened says that somebody
# was there; what was received says that a device was switched on.
_OPENED = """
    SELECT e.position, m.application_id, coalesce(m.user_id, m.subscription_id),
           extract(hour FROM e.occurred_at AT TIME ZONE 'UTC')::int
    FROM messaging_messageevent e
         JOIN messaging_message m ON m.id = e.message_id AND m.application_id = e.application_id
    WHERE e.position >= %s AND e.position < %s AND e.event_type = %s
    ORDER BY e.position LIMIT %s
"""
_HORIZON = "SELECT event_horizon()"
_READ = """
    SELECT h.application_id, h.subject_id, h.hours FROM unnest(%s::uuid[], %s::uuid[]) AS k (application_id, subject_id)
         JOIN subscriptions_activehours h USING (application_id, subject_id)
"""
_WRITE = """
    INSERT INTO subscriptions_activehours (id, application_id, subject_id, hours, best_hour, updated_at)
    SELECT id, application_id, subject_id, hours::smallint[], best_hour, now()
    FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::smallint[])
      AS w (id, application_id, subject_id, hours, best_hour)
    ON CONFLICT (application_id, subject_id) DO UPDATE
      SET hours = excluded.hours, best_hour = excluded.best_hour, updated_at = excluded.updated_at
"""


def hours_learn() -> int:
    """Learn from the next events; how many there were. The first call only remembers where it begins."""
    with transaction.atomic(), connection.cursor() as cursor:
        limit_statements(60)
        cursor.execute(_LOCK, [NAME])
        (position,) = cursor.fetchone()
        cursor.execute(_HORIZON)
        (horizon,) = cursor.fetchone()
        cursor.execute(_OPENED, [position, horizon, MessageStatus.CONVERTED, AT_ONCE])
        events = cursor.fetchall()
        if len(events) == AT_ONCE and events[0][0] != events[-1][0]:
            last = events[-1][0]  # there may be more of this transaction: the next step takes it whole
            events = [event for event in events if event[0] < last]
            horizon = last
        elif len(events) == AT_ONCE:
            horizon = events[-1][0] + 1  # one transaction of more than that: the rest of it is left out
        if events:
            _learn(cursor, events)
        cursor.execute(_MOVE, [horizon, NAME])
    return len(events)


def _learn(cursor: Any, events: list[tuple[Any, ...]]) -> None:
    counts: dict[tuple[UUID, UUID], list[int]] = defaultdict(lambda: [0] * _HOURS)
    for _, application_id, subject_id, hour in events:
        counts[application_id, subject_id][hour] += 1
    keys = sorted(counts)
    cursor.execute(_READ, [[key[0] for key in keys], [key[1] for key in keys]])
    for application_id, subject_id, hours in cursor.fetchall():
        own = counts[application_id, subject_id]
        for hour, seen in enumerate(hours):
            own[hour] += seen
    rows = [faded(counts[key]) for key in keys]
    cursor.execute(
        _WRITE,
        [
            [new_id() for _ in keys],
            [key[0] for key in keys],
            [key[1] for key in keys],
            ["{" + ",".join(map(str, hours)) + "}" for hours in rows],
            [best_hour(hours) for hours in rows],
        ],
    )


def faded(hours: list[int]) -> list[int]:
    """The counts, halved until they are no more than `SEEN_MAX`; what was seen once is forgotten by that."""
    while sum(hours) > SEEN_MAX:
        hours = [count // 2 for count in hours]
    return hours


def best_hour(hours: list[int]) -> int:
    """The hour with the most around it: an hour counts twice, those beside it once. The earlier of two."""
    around = [hours[h - 1] + 2 * hours[h] + hours[(h + 1) % _HOURS] for h in range(_HOURS)]
    return around.index(max(around))
