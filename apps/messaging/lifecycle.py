"""The transitions of messages, applied to many at once.

`Message` declares the transition table (django-fsm); this module reads it, and moves sets of messages in one statement
that is guarded by the source state, writes the events and counts what moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from apps.messaging.models import Message, MessageStatus
from apps.messaging.recorders import StatusCount
from automata_signal.prepared import prepared_cursor

PENDING, ERRORED, FAILED = MessageStatus.PENDING, MessageStatus.ERRORED, MessageStatus.FAILED
SUCCESSFUL, RECEIVED, CONVERTED = MessageStatus.SUCCESSFUL, MessageStatus.RECEIVED, MessageStatus.CONVERTED

# The number of each event in the last byte of its id (`automata_signal.ids`). A message can be refused and retried many
# times, so those two have a number for each attempt; every other state is entered once.
_EVENT_NUMBERS = {SUCCESSFUL: 1, RECEIVED: 2, CONVERTED: 3, FAILED: 4}
_FIRST_ATTEMPT_NUMBER = 16
ATTEMPTS_MAX = (255 - _FIRST_ATTEMPT_NUMBER - 1) // 2

_TIME_COLUMNS = {SUCCESSFUL: "sent_at", RECEIVED: "received_at", CONVERTED: "converted_at", FAILED: "failed_at"}


class Step(NamedTuple):
    """A row of the transition table."""

    name: str
    sources: frozenset[str]
    target: str


@cache
def steps() -> dict[str, Step]:
    """The transition table by the name of the transition, as `Message` declares it."""
    table: dict[str, Step] = {}
    for transition in Message._meta.get_field("status").get_all_transitions(Message):
        sources = table[transition.name].sources if transition.name in table else frozenset()
        table[transition.name] = Step(transition.name, sources | {str(transition.source)}, str(transition.target))
    return table


def apply(
    step: str,
    *,
    source: str,
    ids: Sequence[UUID | str],
    application_id: UUID,
    at: datetime | Sequence[datetime],
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
    attempted: bool = False,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
    retry_at: datetime | None = None,
) -> list[StatusCount]:
    """Move the messages that are in `source` by `step`, write their events, and return how many moved, by campaign and
    channel: what the recorders are to be told.

    The others are left as they are: an id that is unknown, of another application or in another state is no error.
    `at` and `metadata` are one value for all, or one for each id. `attempted` counts an attempt. Runs in the caller's
    transaction; locks in the order of ids, so that concurrent calls do not deadlock. Raises `ValueError` if the
    transition table has no such step from `source`.
    """
    move = _Move(step, source, ids, application_id, at, metadata, attempted, reason, details, retry_at)
    new = steps()[step].target
    return [
        StatusCount(application_id, campaign_id, channel_type, str(source), new, reason or "", messages, dispatch_id)
        for campaign_id, channel_type, dispatch_id, messages in _moved(move)
    ]


class _Move(NamedTuple):
    """The arguments of `apply`."""

    step: str
    source: str
    ids: Sequence[UUID | str]
    application_id: UUID
    at: datetime | Sequence[datetime]
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None
    attempted: bool
    reason: str | None
    details: Mapping[str, Any] | None
    retry_at: datetime | None


def _moved(move: _Move) -> list[tuple[Any, ...]]:
    """Run the statement of a move; campaign, channel, the campaign's dispatch and how many, for each."""
    target = _target(move.step, move.source)
    if not move.ids:
        return []
    parameters: dict[str, Any] = {
        "application_id": move.application_id,
        "source": move.source,
        "target": target,
        "reason": move.reason,
        "details": _json(move.details),
        "retry_at": move.retry_at,
    }
    if isinstance(move.at, datetime):
        ids = sorted(map(str, move.ids))
        form = _Form.RANGE if _is_whole_range(ids) else _Form.KEYS
        parameters |= {"at": move.at, "metadata": _json(move.metadata)}
    else:
        notes = move.metadata if isinstance(move.metadata, Sequence) else [move.metadata] * len(move.ids)
        rows = sorted(zip(map(str, move.ids), move.at, map(_json, notes), strict=True), key=_by_id)
        ids = [row[0] for row in rows]
        form = _Form.ONE_EACH
        notes_of_rows = [row[2] for row in rows]
        parameters |= {"at": f"{{{','.join(row[1].isoformat() for row in rows)}}}"}
        parameters |= {"metadata": notes_of_rows if any(notes_of_rows) else None}
    parameters |= {"first": ids[0], "last": ids[-1]}
    if form is not _Form.RANGE:
        parameters["ids"] = _uuid_array(ids)
    # A plan that is kept must be right for a partition that was empty when it was made, as only that of a range is:
    # for many keys it would read the whole table until the next ANALYZE. Those are many, so a plan each costs little.
    with prepared_cursor() if form is _Form.RANGE else connection.cursor() as cursor:
        cursor.execute(_statement(target, form=form, attempted=move.attempted), parameters)
        answered: list[tuple[Any, ...]] = cursor.fetchall()
        return answered


def _by_id(row: tuple[str, datetime, str | None]) -> str:
    return row[0]


def _uuid_array(ids: Iterable[UUID | str]) -> str:
    """PostgreSQL's text of an array: a third of the CPU that a list of UUIDs takes to adapt."""
    return f"{{{','.join(map(str, ids))}}}"


def _is_whole_range(ids: Sequence[str]) -> bool:
    """Whether the sorted ids follow each other without a gap, as those of a batch do (`automata_signal.ids`)."""
    return UUID(ids[-1]).int - UUID(ids[0]).int == (len(ids) - 1) << 8 and len(set(ids)) == len(ids)


def _target(step: str, source: str) -> str:
    row = steps()[step]
    if source not in row.sources:
        raise ValueError(f"the transition table has no {step!r} from {source!r}")
    return row.target


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


class _Form(Enum):
    """How a statement finds its messages, always by key.

    The bounds stand beside the keys for the planner: on a table without statistics (a new partition) it would rather
    read all messages of the application than look up 500 keys, 80 ms instead of 3. And they tell which partitions
    need not be opened.
    """

    RANGE = "m.id BETWEEN %(first)s AND %(last)s"
    KEYS = "m.id BETWEEN %(first)s AND %(last)s AND m.id = ANY(%(ids)s::uuid[])"
    ONE_EACH = "m.id = ANY(%(ids)s::uuid[]) AND m.id = g.id"


@cache
def _statement(target: str, *, form: _Form, attempted: bool) -> str:
    """The SQL of one transition. It touches no indexed column (HOT)."""
    one_each = form is _Form.ONE_EACH
    at, metadata = ("g.at", "g.metadata::jsonb") if one_each else ("%(at)s::timestamptz", "%(metadata)s::jsonb")
    if target in _EVENT_NUMBERS:
        number = f"'{_EVENT_NUMBERS[MessageStatus(target)]:02x}'"
    else:
        first = _FIRST_ATTEMPT_NUMBER + (target == PENDING)
        number = f"lpad(to_hex({first} + 2 * least(m.attempts, {ATTEMPTS_MAX})), 2, '0')"
    return f"""
        WITH moved AS (
            UPDATE messaging_message m SET {", ".join(_assignments(target, at, attempted))}
            {"FROM unnest(%(ids)s::uuid[], %(at)s::timestamptz[], %(metadata)s::text[]) g(id, at, metadata)" * one_each}
            WHERE {form.value} AND m.status = %(source)s AND m.application_id = %(application_id)s
            RETURNING m.id, m.campaign_id, m.channel_type,
                      CASE WHEN m.campaign_id IS NOT NULL THEN m.dispatch_id END AS dispatch_id,
                      {at} AS at, {metadata} AS metadata, {number} AS number
        ), noted AS (
            INSERT INTO messaging_messageevent
                (id, application_id, message_id, event_type, occurred_at, metadata, position)
            SELECT overlay(id::text PLACING number FROM 35)::uuid, %(application_id)s, id, %(target)s, at, metadata,
                   (SELECT event_position())
            FROM moved
        )
        SELECT campaign_id, channel_type, dispatch_id, count(*) FROM moved GROUP BY 1, 2, 3
    """


def _assignments(target: str, at: str, attempted: bool) -> Iterable[str]:
    yield "status = %(target)s"
    if attempted:
        yield "attempts = m.attempts + 1"
    if column := _TIME_COLUMNS.get(MessageStatus(target)):
        yield f"{column} = {at}"
    if target in (SUCCESSFUL, PENDING):
        yield "retry_at = NULL"
    if target == SUCCESSFUL:
        yield "error_reason = NULL, error_details = NULL"
    if target in (ERRORED, FAILED):
        # What ends without an answer (expired, canceled) keeps the last one that there was.
        yield "error_reason = %(reason)s, error_details = COALESCE(%(details)s::jsonb, m.error_details)"
        yield "retry_at = %(retry_at)s"
