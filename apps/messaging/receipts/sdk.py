"""Receipts of devices: a message was received, or tapped.

A receipt implies what came before it: a tap of a message that is still `successful` records `received` and `converted`,
and a receipt that arrives before the worker has recorded the provider's answer proves that the provider took it, so
`successful` is recorded as well; the worker's answer then finds nothing left to do. What the transition table does not
allow is no error: it is answered as ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.lifecycle import CONVERTED, ERRORED, FAILED, PENDING, RECEIVED, SUCCESSFUL
from apps.messaging.recorders import StatusCount, record
from apps.subscriptions.handles import handle_fits
from apps.subscriptions.services import subscriptions_count_receipts
from apps.tenants.models import Application

RECEIPTS_MAX = 500


class Receipt(NamedTuple):
    """One event of one message. `handle` proves that the sender is the device; None only from a trusted caller."""

    message_id: UUID
    type: str
    """`received` or `converted`."""
    occurred_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    handle: str | None = None


class ReceiptAnswer(NamedTuple):
    """What became of a receipt: `accepted`, `ignored` (nothing left to record) or `rejected`, and why."""

    message_id: UUID
    status: str
    reason: str = ""


class _Row(NamedTuple):
    id: UUID
    subscription_id: UUID
    handle_version: int | None
    status: str
    created_at: datetime


# By primary key, in its order: concurrent calls lock alike.
_LOCK = """
    SELECT m.id, m.subscription_id, s.handle_version, m.status, m.created_at
    FROM messaging_message m
         LEFT JOIN subscriptions_subscription s ON s.id = m.subscription_id AND s.application_id = m.application_id
    WHERE m.id = ANY(%s::uuid[]) AND m.application_id = %s
    ORDER BY m.id FOR UPDATE OF m
"""


def receipts_apply(*, application: Application, receipts: Sequence[Receipt], trusted: bool) -> list[ReceiptAnswer]:
    """Record up to `RECEIPTS_MAX` receipts in one transaction; one answer for each, in their order.

    Unless `trusted` (an app server), each needs the handle of the message's own subscription: a wrong one and an
    unknown message get the same answer, `rejected` as `not_found`.
    """
    with transaction.atomic():
        rows = _locked(application, {receipt.message_id for receipt in receipts})
        answers = []
        wanted: dict[tuple[UUID, str], Receipt] = {}
        for receipt in receipts:
            row = rows.get(receipt.message_id)
            answer = _judge(receipt, row, trusted=trusted, again=(receipt.message_id, receipt.type) in wanted)
            answers.append(answer)
            if answer.status == "accepted":
                wanted[receipt.message_id, receipt.type] = receipt
        if wanted:
            _record(application, rows, wanted)
    return answers


def _locked(application: Application, ids: Iterable[UUID]) -> dict[UUID, _Row]:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [sorted(ids), application.pk])
        return {row[0]: _Row(*row) for row in cursor.fetchall()}


def _judge(receipt: Receipt, row: _Row | None, *, trusted: bool, again: bool) -> ReceiptAnswer:
    if row is None or not (trusted or _is_owner(receipt, row)):
        return ReceiptAnswer(receipt.message_id, "rejected", "not_found")
    if again:
        return ReceiptAnswer(receipt.message_id, "ignored", "duplicate")
    if row.status == FAILED:
        return ReceiptAnswer(receipt.message_id, "ignored", "message_failed")
    if row.status == CONVERTED or row.status == receipt.type:
        return ReceiptAnswer(receipt.message_id, "ignored", f"already_{row.status}")
    return ReceiptAnswer(receipt.message_id, "accepted")


def _is_owner(receipt: Receipt, row: _Row) -> bool:
    if receipt.handle is None or row.handle_version is None:
        return False
    return handle_fits(receipt.handle, row.subscription_id, row.handle_version)


class _Move(NamedTuple):
    id: UUID
    at: datetime
    metadata: dict[str, Any] | None


def _record(application: Application, rows: dict[UUID, _Row], wanted: dict[tuple[UUID, str], Receipt]) -> None:
    """Move the messages, state by state, each state in one statement."""
    now = timezone.now()
    sends: dict[str, list[_Move]] = {PENDING: [], ERRORED: []}
    receives: list[_Move] = []
    converts: list[_Move] = []
    for message_id in {message_id for message_id, _ in wanted}:
        row = rows[message_id]
        received, converted = wanted.get((message_id, RECEIVED)), wanted.get((message_id, CONVERTED))
        first = received or converted
        assert first is not None
        received_at = _plausible(first.occurred_at, row.created_at, now)
        if row.status in sends:
            sends[row.status].append(_Move(message_id, received_at, {"implied_by": first.type}))
        if row.status != RECEIVED:
            implied = {"implied_by": CONVERTED.value}
            receives.append(_Move(message_id, received_at, received.metadata if received else implied))
        if converted:
            converted_at = max(received_at, _plausible(converted.occurred_at, row.created_at, now))
            converts.append(_Move(message_id, converted_at, converted.metadata))
    counts: list[StatusCount] = []
    for source, moves in sends.items():
        counts += _apply(application, "send", source, moves)
    counts += _apply(application, "receive", SUCCESSFUL, receives)
    counts += _apply(application, "convert", RECEIVED, converts)
    subscriptions_count_receipts(
        application_id=application.pk,
        received=Counter(rows[move.id].subscription_id for move in receives),
        converted=Counter(rows[move.id].subscription_id for move in converts),
        last_active_at=now,
    )
    record(counts)


def _plausible(occurred_at: datetime | None, earliest: datetime, now: datetime) -> datetime:
    """A device's clock may be wrong: an event is never before its message or in the future."""
    return now if occurred_at is None else min(max(occurred_at, earliest), now)


def _apply(application: Application, step: str, source: str, moves: Sequence[_Move]) -> list[StatusCount]:
    moved = lifecycle.apply(
        step,
        source=source,
        ids=[move.id for move in moves],
        application_id=application.pk,
        at=[move.at for move in moves],
        metadata=[move.metadata for move in moves],
    )
    target = lifecycle.steps()[step].target
    return lifecycle.counts(moved, application_id=application.pk, old=source, new=target)
