"""What Prometheus is told of batches, breakers and rates: looked up when it asks (`automata_signal.figures`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from django.db import connection
from django.utils import timezone

from apps.messaging.queues import queue_name
from apps.messaging.rates import snapshot
from apps.tenants.models import ChannelCredential
from automata_signal.figures import ROWS_MAX, Figure, Sample, Source, register

BUCKETS_MAX = 50
"""Credentials whose rate is shown, one call to Redis each: the stopped and then the newest."""

# --- Batches -----------------------------------------------------------------------------------------------------

_DUE = Figure("automata_batches_due", "Batches that could be sent now and are not", ("queue",))
_DUE_AGE = Figure("automata_batches_oldest_due_seconds", "How long the oldest of them is due", ("queue",))
_LATER = Figure("automata_batches_later", "Batches that wait for a time: scheduled, or for the next attempt")
_CLAIMED = Figure("automata_batches_claimed", "Batches that workers hold")
_STUCK = Figure("automata_batches_stuck", "Batches whose worker gives no sign of life: the lease has run out")
_STUCK_AGE = Figure("automata_batches_stuck_seconds", "For how long, of the oldest")

# Indexes: `batch_waiting`, `batch_claimed`.
_WAITING_SQL = """
    SELECT d.channel_type, b.priority, count(*), extract(epoch FROM %(now)s - min(b.due_at))::float8
    FROM messaging_dispatchbatch b JOIN messaging_dispatch d ON d.id = b.dispatch_id
    WHERE b.state = 'waiting' AND b.due_at <= %(now)s AND d.state <> 'paused'
    GROUP BY 1, 2
"""
_LATER_SQL = "SELECT count(*) FROM messaging_dispatchbatch WHERE state = 'waiting' AND due_at > %(now)s"
_CLAIMED_SQL = """
    SELECT count(*), count(*) FILTER (WHERE lease_until < %(now)s),
           extract(epoch FROM %(now)s - min(lease_until))::float8
    FROM messaging_dispatchbatch WHERE state = 'claimed'
"""


def _read_batches() -> Iterator[Sample]:
    now = {"now": timezone.now()}
    with connection.cursor() as cursor:
        cursor.execute(_WAITING_SQL, now)
        waiting = cursor.fetchall()
        cursor.execute(_LATER_SQL, now)
        [later] = cursor.fetchone()
        cursor.execute(_CLAIMED_SQL, now)
        claimed, stuck, stuck_s = cursor.fetchone()
    for channel_type, priority, count, age_s in waiting:
        queue = queue_name(channel_type, priority)
        yield Sample(_DUE, count, (queue,))
        yield Sample(_DUE_AGE, max(0.0, age_s), (queue,))
    yield Sample(_LATER, later)
    yield Sample(_CLAIMED, claimed)
    yield Sample(_STUCK, stuck)
    yield Sample(_STUCK_AGE, max(0.0, stuck_s or 0.0))


# --- Breakers and rates ------------------------------------------------------------------------------------------

_CREDENTIALS = Figure(
    "automata_credentials", "Active credentials, by the state of their breaker", ("provider", "breaker")
)
_BREAKER = Figure(
    "automata_breaker_open",
    "1 for each credential that does not send, and why",
    ("application", "provider", "credential", "cause"),
)
_OF_CREDENTIAL = ("application", "provider", "credential")
_RATE = Figure("automata_rate_per_minute", "How fast may be sent now; only where something limits it", _OF_CREDENTIAL)
_SLOWED = Figure("automata_rate_slowed", "1 while a provider's refusals hold the rate below the limit", _OF_CREDENTIAL)
_TOKENS = Figure("automata_rate_tokens", "Messages that may leave at once", _OF_CREDENTIAL)


def _read_credentials() -> Iterator[Sample]:
    active = ChannelCredential.objects.filter(is_active=True)
    now = timezone.now()
    states = Counter(
        (provider, _breaker(opened_at, probing_until, now))
        for provider, opened_at, probing_until in active.values_list(
            "provider", "breaker_opened_at", "breaker_probing_until"
        )
    )
    for labels, count in states.items():
        yield Sample(_CREDENTIALS, count, labels)
    for row in active.filter(breaker_opened_at__isnull=False).defer("secret").order_by("breaker_opened_at")[:ROWS_MAX]:
        yield Sample(_BREAKER, 1, (str(row.application_id), row.provider, str(row.pk), row.breaker_cause or "mismatch"))


def _breaker(opened_at: datetime | None, probing_until: datetime | None, now: datetime) -> str:
    if opened_at is None:
        return "closed"
    return "half_open" if probing_until is not None and probing_until > now else "open"


def _read_rates() -> Iterator[Sample]:
    rows = ChannelCredential.objects.filter(is_active=True).defer("secret").order_by("breaker_opened_at", "-id")
    for row in rows[:BUCKETS_MAX]:
        state = snapshot(row)
        if not state.is_live:
            raise ConnectionError("Redis does not answer")
        labels = (str(row.application_id), row.provider, str(row.pk))
        if state.rate_per_minute is not None:
            yield Sample(_RATE, state.rate_per_minute, labels)
            yield Sample(_TOKENS, state.tokens or 0.0, labels)
        yield Sample(_SLOWED, float(state.is_slowed), labels)


def register_figures() -> None:
    register(Source("batches", (_DUE, _DUE_AGE, _LATER, _CLAIMED, _STUCK, _STUCK_AGE), _read_batches))
    register(Source("credentials", (_CREDENTIALS, _BREAKER), _read_credentials))
    register(Source("rates", (_RATE, _SLOWED, _TOKENS), _read_rates))
