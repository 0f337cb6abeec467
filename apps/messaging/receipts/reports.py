"""What providers say later of messages that they took: delivered, failed, opened, tapped; and of recipients: stop.

A report may come twice, out of order, and before the worker has recorded that the provider took the message. What the
transition table does not allow is ignored and counted, as with receipts of devices (`receipts.sdk`).
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.messaging import lifecycle, retry
from apps.messaging.lifecycle import CONVERTED, ERRORED, PENDING, RECEIVED, SUCCESSFUL
from apps.messaging.receipts.sdk import Receipt, receipts_move
from apps.messaging.recorders import StatusCount, record
from apps.subscriptions.services import (
    Strike,
    SubscriptionEnd,
    subscriptions_end,
    subscriptions_forgive,
    subscriptions_strike,
)
from apps.tenants.models import Application

REPORTS_MAX = 2_000
"""Applied in one transaction; more are applied in several."""


class ReportKind(enum.StrEnum):
    """What became of a message, or what its recipient did."""

    DELIVERED = "delivered"
    """It is on the device, or in the mailbox."""
    OPENED = "opened"
    CLICKED = "clicked"
    FAILED = "failed"
    """It will not arrive."""
    DEFERRED = "deferred"
    """The provider goes on trying: another report follows."""
    COMPLAINED = "complained"
    """Its recipient calls it spam: it has arrived, and none may follow."""
    UNSUBSCRIBED = "unsubscribed"
    """Its recipient wants no more."""


class Report(NamedTuple):
    """What a provider says of one message."""

    message_id: str
    kind: ReportKind
    at: datetime | None = None
    """When, by the provider's clock; None for now."""
    reason: str = ""
    """The provider's own word."""
    fault: retry.Fault = retry.Fault.RECIPIENT
    """Of a failure: whose."""
    subscription_status: int | None = None
    """The code to end the subscription with."""
    soft_status: int | None = None
    """The code that it ends with after repeated failures."""
    details: Mapping[str, Any] | None = None
    """What else an operator may want to see; no address, no key."""


class ReportCounts(NamedTuple):
    applied: int
    """Reports that moved a message."""
    ignored: int
    """Reports of what was known, or is unknown, or that change nothing."""
    ended: int
    """Subscriptions that were ended."""


_RECEIPTS = {
    ReportKind.DELIVERED: RECEIVED.value,
    ReportKind.OPENED: RECEIVED.value,
    ReportKind.COMPLAINED: RECEIVED.value,
    ReportKind.UNSUBSCRIBED: RECEIVED.value,
    ReportKind.CLICKED: CONVERTED.value,
}
_SHOWS_ACTIVITY = frozenset({ReportKind.OPENED, ReportKind.CLICKED})
"""What a person did: only then was the subscription active."""


def reports_apply(*, application: Application, provider: str, reports: Sequence[Report]) -> ReportCounts:
    """Record what the provider says, a transaction for each `REPORTS_MAX`; of other applications' messages nothing."""
    counts = [
        _apply(application, provider, reports[start : start + REPORTS_MAX])
        for start in range(0, len(reports), REPORTS_MAX)
    ]
    return ReportCounts(*(sum(values) for values in zip(*counts, strict=True))) if counts else ReportCounts(0, 0, 0)


@transaction.atomic
def _apply(application: Application, provider: str, reports: Sequence[Report]) -> ReportCounts:
    """Locks go one way as everywhere, each kind in the order of its ids: batches, messages, subscriptions, and last the
    counters that all slices share."""
    now = timezone.now()
    failed = {r.message_id: r for r in reports if r.kind is ReportKind.FAILED}
    _mark_batches(application, failed)
    messages = _locked(application, reports)
    _lock_subscriptions(application, messages)
    counts = _fail(application, provider, failed, messages, now)
    applied = sum(messages[key].status in _MAY_FAIL for key in failed if key in messages)
    for is_active in (False, True):
        receipts = [
            Receipt(r.message_id, _RECEIPTS[r.kind], r.at, {"provider": provider, "report": r.kind.value})
            for r in reports
            if r.kind in _RECEIPTS and (r.kind in _SHOWS_ACTIVITY) is is_active
        ]
        if receipts:
            answers, moved = receipts_move(
                application=application, receipts=receipts, trusted=True, shows_activity=is_active
            )
            applied += sum(answer.status == "accepted" for answer in answers)
            counts += moved
    ended = _tell_subscriptions(application, reports, messages, now)
    record(counts)
    return ReportCounts(applied, len(reports) - applied, ended)


# By `batch_by_message_range`: the range of a batch begins at its messages' ids without position and event
# (`automata_signal.ids`). Nearly always they are marked already, and nothing is locked.
_MARK = """
    WITH unmarked AS (
        SELECT id FROM messaging_dispatchbatch
        WHERE application_id = %(application_id)s AND first_id = ANY(%(bases)s::uuid[]) AND NOT has_failed
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE messaging_dispatchbatch b SET has_failed = true FROM unmarked u
    WHERE b.id = u.id AND b.application_id = %(application_id)s
"""


def _mark_batches(application: Application, failed: Iterable[str]) -> None:
    """Have dead letters be looked for in the batches of these messages."""
    if bases := sorted({UUID(int=UUID(message_id).int & ~0xFFFFFF) for message_id in failed}):
        with connection.cursor() as cursor:
            cursor.execute(_MARK, {"application_id": application.pk, "bases": bases})


class _Message(NamedTuple):
    status: str
    subscription_id: UUID


# By primary key, in the order of the keys, so that concurrent calls lock alike.
_LOCK = """
    SELECT m.id::text, m.status, m.subscription_id FROM unnest(%(ids)s::uuid[]) g(id)
         CROSS JOIN LATERAL (
             SELECT id, status, subscription_id FROM messaging_message
             WHERE id = g.id AND application_id = %(application_id)s FOR UPDATE
         ) m
"""
# By primary key. What follows locks some of them for each kind of report: those must not come in an order of their own.
_LOCK_SUBSCRIPTIONS = """
    SELECT FROM subscriptions_subscription
    WHERE application_id = %(application_id)s AND id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""


def _locked(application: Application, reports: Sequence[Report]) -> dict[str, _Message]:
    """The messages that are reported on, of those that are known."""
    with connection.cursor() as cursor:
        ids = sorted({r.message_id for r in reports})
        cursor.execute(_LOCK, {"ids": ids, "application_id": application.pk})
        return {row[0]: _Message(*row[1:]) for row in cursor.fetchall()}


def _lock_subscriptions(application: Application, messages: Mapping[str, _Message]) -> None:
    ids = sorted({message.subscription_id for message in messages.values()})
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_SUBSCRIPTIONS, {"ids": ids, "application_id": application.pk})


# --- Failures ------------------------------------------------------------------------------------------------------

_MAY_FAIL = frozenset({PENDING.value, ERRORED.value, SUCCESSFUL.value})


def _fail(
    application: Application,
    provider: str,
    failed: Mapping[str, Report],
    messages: Mapping[str, _Message],
    now: datetime,
) -> list[StatusCount]:
    """Fail the messages; of those whose sending is not recorded yet it is recorded first, since the provider took
    them and counts them."""
    states: dict[str, list[str]] = defaultdict(list)
    for message_id in failed:
        if message_id in messages:
            states[messages[message_id].status].append(message_id)
    counts: list[StatusCount] = []
    for source in (PENDING, ERRORED):
        note = {"implied_by": "failed", "provider": provider}
        counts += lifecycle.apply(
            "send", source=source, ids=states[source], application_id=application.pk, at=now, metadata=note
        )
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for message_id in [*states[PENDING], *states[ERRORED], *states[SUCCESSFUL]]:
        report = failed[message_id]
        alike[report.reason, report.fault, repr(report.details)].append(message_id)
    for of_failure in alike.values():
        report = failed[of_failure[0]]
        reason = retry.word_of(report.reason)
        details = {"class": report.fault.value, "provider": provider, "reason": reason, **(report.details or {})}
        counts += lifecycle.apply(
            "fail",
            source=SUCCESSFUL,
            ids=of_failure,
            application_id=application.pk,
            at=now,
            reason=reason or "failed",
            details=details,
            metadata=details,
        )
    return counts


# --- Subscriptions -------------------------------------------------------------------------------------------------


def _tell_subscriptions(
    application: Application, reports: Sequence[Report], messages: Mapping[str, _Message], now: datetime
) -> int:
    """End and count as the reports say; what has arrived forgives earlier failures."""
    known = [
        (messages[r.message_id].subscription_id, r._replace(reason=retry.word_of(r.reason)))
        for r in reports
        if r.message_id in messages
    ]
    arrived = [key for key, r in known if r.kind in _RECEIPTS]
    subscriptions_forgive(subscription_ids=set(arrived), application_id=application.pk)
    strikes = [Strike(key, r.soft_status, r.reason) for key, r in known if r.soft_status is not None]
    ended = subscriptions_strike(application_id=application.pk, strikes=strikes, occurred_at=now)
    ends = [
        SubscriptionEnd(key, r.subscription_status, r.reason, gone_at=r.at)
        for key, r in known
        if r.subscription_status is not None
    ]
    return ended + subscriptions_end(ends=ends, application_id=application.pk, occurred_at=now)
