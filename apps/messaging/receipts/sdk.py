"""Receipts of devices: a message was received, or tapped.

A receipt implies what came before it: a tap of a message that is still `successful` records `received` and `converted`,
and a receipt that arrives before the worker has recorded the provider's answer proves that the provider took it, so
`successful` is recorded as well; the worker's answer then finds nothing left to do. What the transition table does not
allow is no error: it is answered as ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.lifecycle import CONVERTED, ERRORED, FAILED, PENDING, RECEIVED, SUCCESSFUL
from apps.messaging.recorders import StatusCount, record
from apps.subscriptions.handles import handle_fits
from apps.subscriptions.services import subscriptions_count_receipts
from apps.tenants.models import Application
from automata_signal.prepared import prepared_cursor

RECEIPTS_MAX = 500


class Receipt(NamedTuple):
    """One event of one message. `handle` proves that the sender is the device; None only from a trusted caller."""

    message_id: UUID | str
    type: str
    """`received` or `converted`."""
    occurred_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    handle: str | None = None


class ReceiptAnswer(NamedTuple):
    """What became of a receipt: `accepted`, `ignored` (nothing left to record) or `rejected`, and why."""

    message_id: str
    status: str
    reason: str = ""


class _Row(NamedTuple):
    id: str
    subscription_id: str
    handle_version: int | None
    status: str
    created_at: str


# One look-up by primary key for each, in the order of the keys (concurrent calls lock alike), whatever PostgreSQL knows
# of the table: among 500 keys and no statistics it would rather read all messages of the application. Ids and times as
# text: to make, compare and write UUIDs and datetimes in Python takes as long as all the rest of a receipt.
_LOCK = """
    SELECT m.id::text, m.subscription_id::text, s.handle_version, m.status, m.created_at::text
    FROM unnest(%(ids)s::uuid[]) g(id)
         CROSS JOIN LATERAL (
             SELECT id, subscription_id, status, created_at FROM messaging_message
             WHERE id = g.id AND application_id = %(application_id)s FOR UPDATE
         ) m
         LEFT JOIN subscriptions_subscription s ON s.id = m.subscription_id AND s.application_id = %(application_id)s
"""


def receipts_apply(
    *, application: Application, receipts: Sequence[Receipt], trusted: bool, shows_activity: bool = True
) -> list[ReceiptAnswer]:
    """Record up to `RECEIPTS_MAX` receipts in one transaction; one answer for each, in their order.

    Unless `trusted` (an app server), each needs the handle of the message's own subscription: a wrong one and an
    unknown message get the same answer, `rejected` as `not_found`. `shows_activity` is whether somebody was at the
    device: not if a provider says that it has delivered.
    """
    if not receipts:
        return []
    with transaction.atomic():
        answers, counts = receipts_move(
            application=application, receipts=receipts, trusted=trusted, shows_activity=shows_activity
        )
        record(counts)
    return answers


def receipts_move(
    *, application: Application, receipts: Sequence[Receipt], trusted: bool, shows_activity: bool = True
) -> tuple[list[ReceiptAnswer], list[StatusCount]]:
    """`receipts_apply` in the caller's transaction, which tells the recorders at its end: what they lock comes after
    all messages and subscriptions."""
    keyed = [(str(receipt.message_id), receipt) for receipt in receipts]
    rows = _locked(application, sorted({message_id for message_id, _ in keyed})) if keyed else {}
    answers = []
    wanted: dict[tuple[str, str], Receipt] = {}
    for message_id, receipt in keyed:
        again = (message_id, receipt.type) in wanted
        status, reason = _judge(receipt, rows.get(message_id), trusted=trusted, again=again)
        answers.append(ReceiptAnswer(message_id, status, reason))
        if status == "accepted":
            wanted[message_id, receipt.type] = receipt
    counts = _record(application, rows, wanted, shows_activity=shows_activity) if wanted else []
    return answers, counts


def _locked(application: Application, ids: Sequence[str]) -> dict[str, _Row]:
    with prepared_cursor() as cursor:
        cursor.execute(_LOCK, {"ids": f"{{{','.join(ids)}}}", "application_id": application.pk})
        return {row[0]: _Row(*row) for row in cursor.fetchall()}


def _judge(receipt: Receipt, row: _Row | None, *, trusted: bool, again: bool) -> tuple[str, str]:
    """The status of the answer, and why."""
    if row is None or not (trusted or _is_owner(receipt, row)):
        return "rejected", "not_found"
    if again:
        return "ignored", "duplicate"
    if row.status == FAILED:
        return "ignored", "message_failed"
    if row.status == CONVERTED or row.status == receipt.type:
        return "ignored", f"already_{row.status}"
    return "accepted", ""


def _is_owner(receipt: Receipt, row: _Row) -> bool:
    if receipt.handle is None or row.handle_version is None:
        return False
    return handle_fits(receipt.handle, UUID(row.subscription_id), row.handle_version)


class _Move(NamedTuple):
    id: str
    at: datetime
    metadata: dict[str, Any] | None


def _record(
    application: Application,
    rows: dict[str, _Row],
    wanted: dict[tuple[str, str], Receipt],
    *,
    shows_activity: bool,
) -> list[StatusCount]:
    """Move the messages, state by state, each state in one statement; what moved."""
    now = timezone.now()
    sends: dict[str, list[_Move]] = {PENDING: [], ERRORED: []}
    receives: list[_Move] = []
    converts: list[_Move] = []
    for message_id in {message_id for message_id, _ in wanted}:
        row = rows[message_id]
        received, converted = wanted.get((message_id, RECEIVED)), wanted.get((message_id, CONVERTED))
        first = received or converted
        assert first is not None
        received_at = _plausible(first.occurred_at, row, now)
        if row.status in sends:
            sends[row.status].append(_Move(message_id, received_at, {"implied_by": first.type}))
        if row.status != RECEIVED:
            implied = {"implied_by": CONVERTED.value}
            receives.append(_Move(message_id, received_at, received.metadata if received else implied))
        if converted:
            converted_at = max(received_at, _plausible(converted.occurred_at, row, now))
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
        last_active_at=now if shows_activity else None,
    )
    return counts


def _plausible(occurred_at: datetime | None, row: _Row, now: datetime) -> datetime:
    """A device's clock may be wrong: an event is never before its message or in the future."""
    return now if occurred_at is None else min(max(occurred_at, datetime.fromisoformat(row.created_at)), now)


def _apply(application: Application, step: str, source: str, moves: Sequence[_Move]) -> list[StatusCount]:
    if not moves:
        return []
    first = moves[0]
    all_alike = all(move.at == first.at and move.metadata == first.metadata for move in moves)
    return lifecycle.apply(
        step,
        source=source,
        ids=[move.id for move in moves],
        application_id=application.pk,
        at=first.at if all_alike else [move.at for move in moves],
        metadata=first.metadata if all_alike else [move.metadata for move in moves],
    )
