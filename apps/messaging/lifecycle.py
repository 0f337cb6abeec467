"""The transitions of messages, applied to many at once.

`Message` declares the transition table (django-fsm); this module reads it, and `apply` is the one function that moves
a set of messages: one statement that is guarded by the source state, writes the events and returns what moved.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from apps.messaging.models import Message, MessageStatus
from apps.messaging.recorders import StatusCount

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


class Moved(NamedTuple):
    """A message that changed its state."""

    id: UUID
    subscription_id: UUID
    campaign_id: UUID | None
    channel_type: str


def apply(
    step: str,
    *,
    source: str,
    ids: Sequence[UUID],
    application_id: UUID,
    at: datetime | Sequence[datetime],
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
    attempted: bool = False,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
    retry_at: datetime | None = None,
) -> list[Moved]:
    """Move the messages that are in `source` by `step`, write their events, and return those that moved.

    The others are left as they are: an id that is unknown, of another application or in another state is no error.
    `at` and `metadata` are one value for all, or one for each id. `attempted` counts an attempt. Runs in the caller's
    transaction; locks in the order of ids, so that concurrent calls do not deadlock. Raises `ValueError` if the
    transition table has no such step from `source`.
    """
    target = _target(step, source)
    if not ids:
        return []
    one_each = not isinstance(at, datetime)
    parameters: dict[str, Any] = {
        "application_id": application_id,
        "source": source,
        "target": target,
        "reason": reason,
        "details": _json(details),
        "retry_at": retry_at,
    }
    if one_each:
        notes = metadata if isinstance(metadata, Sequence) else [metadata] * len(ids)
        rows = sorted(zip(ids, at, map(_json, notes), strict=True))  # type: ignore[arg-type]
        parameters |= {"ids": [r[0] for r in rows], "at": [r[1] for r in rows], "metadata": [r[2] for r in rows]}
    else:
        parameters |= {"ids": sorted(ids), "at": at, "metadata": _json(metadata)}
    with connection.cursor() as cursor:
        cursor.execute(_statement(target, one_each=one_each, attempted=attempted), parameters)
        return [Moved(*row) for row in cursor.fetchall()]


def _target(step: str, source: str) -> str:
    row = steps()[step]
    if source not in row.sources:
        raise ValueError(f"the transition table has no {step!r} from {source!r}")
    return row.target


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


@cache
def _statement(target: str, *, one_each: bool, attempted: bool) -> str:
    """The SQL of one transition. It uses the primary key only, and touches no indexed column (HOT)."""
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
            WHERE m.id = {"g.id" if one_each else "ANY(%(ids)s::uuid[])"}
              AND m.status = %(source)s AND m.application_id = %(application_id)s
            RETURNING m.id, m.subscription_id, m.campaign_id, m.channel_type,
                      {at} AS at, {metadata} AS metadata, {number} AS number
        ), noted AS (
            INSERT INTO messaging_messageevent (id, application_id, message_id, event_type, occurred_at, metadata)
            SELECT overlay(id::text PLACING number FROM 35)::uuid, %(application_id)s, id, %(target)s, at, metadata
            FROM moved
        )
        SELECT id, subscription_id, campaign_id, channel_type FROM moved
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


def counts(moved: Iterable[Moved], *, application_id: UUID, old: str, new: str, reason: str = "") -> list[StatusCount]:
    """What the recorders are told of one `apply`."""
    groups = Counter((m.campaign_id, m.channel_type) for m in moved)
    return [
        StatusCount(application_id, campaign, channel, old, new, reason, n) for (campaign, channel), n in groups.items()
    ]
