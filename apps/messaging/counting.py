"""Counting what becomes of messages, for `automata_signal.metrics`: a slice at a time, once it is committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from django.db import transaction

from apps.messaging import retry
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.adapters.registry import all_adapters
from apps.messaging.recorders import StatusCount
from automata_signal import metrics

_OWN_REASONS = frozenset(
    {
        *(retry.CANCELED, retry.EXPIRED, retry.UNKNOWN_OUTCOME),
        *("no_credential", "receipt_timeout", "token_unreadable", "render_error", "logged_out", "unsubscribed"),
        *("overtaken", "already_reached", "attachment_missing"),
        *("quota_exceeded", "operation_timedout", "couldnt_connect", "couldnt_resolve_host"),
    }
)
REASONS = _OWN_REASONS.union((o.value for o in Outcome), *(adapter.reasons for adapter in all_adapters().values()))
"""What `automata_messages_failed_total` tells apart. Providers may say anything."""


def known_reason(reason: str) -> str:
    """The reason, or `other`: a label must have few values."""
    word = reason.partition(":")[0] if reason.startswith("render_error") else reason
    return word if word in REASONS else "other"


def count_moves(counts: Sequence[StatusCount]) -> None:
    """A recorder (`recorders.register`)."""
    transaction.on_commit(partial(_count_moves, counts), robust=True)


def _count_moves(counts: Iterable[StatusCount]) -> None:
    for count in counts:
        if count.new:
            reason = known_reason(count.reason) if count.new == "failed" else ""
            metrics.messages_moved(count.channel_type, count.old, count.new, reason, count.messages)


def count_answers(provider: str, results: Sequence[Result]) -> None:
    """What a provider answered, and who was at fault. Most were accepted, and those are not looked at one by one."""
    accepted = Outcome.ACCEPTED  # an enum's attribute takes longer than all else here
    refused = [result.outcome for result in results if result.outcome is not accepted]
    if count := len(results) - len(refused):
        metrics.provider_answers(provider, accepted.value, "none", count)
    for outcome, count in Counter(refused).items():
        metrics.provider_answers(provider, outcome.value, retry.POLICIES[outcome].fault.value, count)
