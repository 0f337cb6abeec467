"""A breaker for each credential: it stops sending where going on would do harm, and finds out when that is over.

It opens for three causes (`BreakerCause`), which are kept on the credential in PostgreSQL:

- mismatch: a sandbox token sent to production, or the wrong bundle id, makes a provider call every token bad. Ending
  them all would lose an audience; so when the share of such answers is high, the subscriptions stay as they are.
- refused: the provider does not know the credential (any more).
- outage: most requests fail. Going on would use up the attempts of messages that will be fine in a minute.

From `breaker_probe_at` on, one worker sends a few messages as a probe (half-open). If they work the breaker closes;
else the next probe is put off. An operator, or a changed credential, closes it at once. Redis only adds up the windows
of all workers; without it each batch judges by its own answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID

import redis
from django.conf import settings
from django.utils import timezone

from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.adapters.registry import types_reached_by
from apps.messaging.models import BatchState, DispatchBatch
from apps.messaging.rates import note_pushbacks
from apps.tenants.models import BreakerCause, ChannelCredential
from apps.tenants.services import breaker_end_probe, breaker_open, breaker_take_probe

log = logging.getLogger(__name__)

WINDOW_S = 300
OUTAGE_WINDOW_S = 20
"""Short, so that an hour without trouble does not hide the outage of this minute."""
NOTHING_WORKS_WINDOW_S, NOTHING_WORKS_SHARE = 2, 0.9
"""Shorter, so that what was sent at full speed a moment ago does not hide that nothing arrives now; and a share that
the requests in flight on a connection that is lost do not reach."""
REPORT_S = 1.0
"""How often a worker adds answers without trouble to the window of all."""
PROBE_LEASE_S = 60
"""The right to probe lapses after this time if the worker dies: longer than a probe's slowest answers."""
PROBE_WATCH_S = 5
"""Who meets a probe of another worker comes back after this time."""
_WATCHED = frozenset({Outcome.ACCEPTED, Outcome.RECIPIENT_GONE, Outcome.RECIPIENT_MISMATCH})
_FAILED = frozenset({Outcome.TRANSIENT, Outcome.UNKNOWN})


@cache
def _counters() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.25, socket_connect_timeout=0.25)


def is_open(credential: ChannelCredential) -> bool:
    """Whether nothing but probes is sent with this credential."""
    return credential.breaker_opened_at is not None


def take_probe(credential: ChannelCredential) -> bool:
    """Whether the caller is to probe now: a probe is due and no other worker runs one."""
    return probe_at(credential) <= timezone.now() and breaker_take_probe(credential.pk, for_s=PROBE_LEASE_S)


def probe_at(credential: ChannelCredential) -> datetime:
    """When the next probe of an open breaker may run."""
    assert credential.breaker_opened_at is not None
    cooled = credential.breaker_opened_at + timedelta(seconds=settings.BREAKER_COOLDOWN_S)
    return credential.breaker_probe_at or cooled


def wait_until(credential: ChannelCredential) -> datetime:
    """When a batch that cannot be sent by this credential is to come back: for the next probe, or soon if it runs."""
    return max(probe_at(credential), timezone.now() + timedelta(seconds=PROBE_WATCH_S))


def wake(application_id: UUID, provider: str, probe_at: datetime | None) -> None:
    """The breaker was closed: what waits for its next probe is due now. Index: `batch_waiting`."""
    if probe_at is None:
        return
    types = types_reached_by(provider)
    waiting = DispatchBatch.objects.filter(
        state=BatchState.WAITING, due_at=probe_at, application_id=application_id, subscription_type__in=types
    )
    waiting.update(due_at=timezone.now(), queued_at=None)


class Breaker:
    """Watches the answers of one batch, together with those of the last minutes of its credential.

    Of a probe, the answers decide whether the breaker closes, so they are to be judged at once, and all together.
    """

    def __init__(self, credential: ChannelCredential, *, is_probe: bool = False, has_next: bool = False) -> None:
        self.credential = credential
        self.is_probe = is_probe
        self.is_open = False
        self.keeps_refused = is_probe or has_next
        """Whether messages of a refused credential are tried again: by the next one, or after a probe."""
        self._judged: Sequence[Result] | None = None
        self._mismatches = 0
        self._watched = 0
        self._failures = 0
        self._answers = 0

    def judge(self, results: Sequence[Result]) -> bool:
        """Count these answers and say whether the breaker is open: then none of them may end a subscription.

        The same answers are judged once, however often it is asked.
        """
        if results is self._judged:
            return self.is_open
        self._judged = results
        refused = [result for result in results if result.outcome is not Outcome.ACCEPTED]
        note_pushbacks(self.credential, refused, answers=len(results))
        if self.is_probe:
            self._judge_probe(results)
            return self.is_open
        refusal = next((result for result in refused if result.outcome is Outcome.CREDENTIAL), None)
        if refusal is not None:
            self._open(f"the provider refused the credential: {refusal.reason}", BreakerCause.REFUSED)
        else:
            self._judge_addresses(results, refused)
            self._judge_provider(results, refused)
        return self.is_open

    def look(self) -> None:
        """See whether another worker has opened the breaker."""
        if not self.is_probe and not self.is_open:
            stopped = ChannelCredential.objects.filter(pk=self.credential.pk, breaker_opened_at__isnull=False)
            self.is_open = stopped.exists()

    def release(self) -> None:
        """At the end of a batch: a probe that had no answers gives its right back."""
        if self.is_probe and self._judged is None:
            self.is_open = True
            breaker_end_probe(self.credential.pk, works=None)

    # --- The three causes ---------------------------------------------------------------------------------------

    def _judge_addresses(self, results: Sequence[Result], refused: Sequence[Result]) -> None:
        mismatch = next((result for result in refused if result.outcome is Outcome.RECIPIENT_MISMATCH), None)
        mismatches = sum(result.outcome is Outcome.RECIPIENT_MISMATCH for result in refused)
        watched = len(results) - sum(result.outcome not in _WATCHED for result in refused)
        self._mismatches += mismatches
        self._watched += watched
        if not self._mismatches:
            return
        window = f"automata:breaker:{self.credential.pk}:{int(time.time()) // WINDOW_S}"
        shared = self._add(window, WINDOW_S, mismatches, watched)
        if shared is not None:
            self._mismatches, self._watched = max(self._mismatches, shared[0]), max(self._watched, shared[1])
        share = self._mismatches / max(1, self._watched)
        if self._mismatches >= settings.BREAKER_MIN_MISMATCHES and share >= settings.BREAKER_MISMATCH_SHARE:
            reason = mismatch.reason if mismatch else "mismatch"
            self._open(f"{share:.0%} of the addresses do not fit this credential ({reason})", BreakerCause.MISMATCH)

    def _judge_provider(self, results: Sequence[Result], refused: Sequence[Result]) -> None:
        failed = [result for result in refused if result.outcome in _FAILED]
        self._failures += len(failed)
        self._answers += len(results)
        answers = _unreported.add(self.credential.pk, len(results), report=bool(failed))
        if not answers:
            return
        for window, window_s, share_max in self._outage_windows():
            shared = self._add(window, window_s, len(failed), answers)
            failures, all_ = shared or (self._failures, self._answers)
            share = failures / max(1, all_)
            if failed and failures >= settings.BREAKER_OUTAGE_MIN_FAILURES and share >= share_max:
                self._open(f"{share:.0%} of the requests fail ({failed[0].reason})", BreakerCause.OUTAGE)

    def _outage_windows(self) -> list[tuple[str, int, float]]:
        """The name of each present window, its length, and the share of failures that opens the breaker."""
        limits = ((OUTAGE_WINDOW_S, settings.BREAKER_OUTAGE_SHARE), (NOTHING_WORKS_WINDOW_S, NOTHING_WORKS_SHARE))
        prefix, now = f"automata:breaker:{self.credential.pk}:outage", int(time.time())
        return [(f"{prefix}:{window_s}:{now // window_s}", window_s, share) for window_s, share in limits]

    def _add(self, window: str, window_s: int, bad: int, all_: int) -> tuple[int, int] | None:
        """Add to the window of all workers, and give its sums; None without Redis."""
        try:
            with _counters().pipeline() as pipe:
                pipe.hincrby(window, "bad", bad)
                pipe.hincrby(window, "all", all_)
                pipe.expire(window, 2 * window_s)
                shared_bad, shared_all, _ = pipe.execute()
        except redis.RedisError:
            return None
        return int(shared_bad), int(shared_all)

    def _open(self, reason: str, cause: BreakerCause) -> None:
        if not self.is_open:
            self.is_open = True
            if breaker_open(self.credential.pk, reason=reason, cause=cause):
                log.error("breaker opened", extra={"credential": str(self.credential.pk), "reason": reason})

    # --- A probe ------------------------------------------------------------------------------------------------

    def _judge_probe(self, results: Sequence[Result]) -> None:
        works = _works(results, self.credential.breaker_cause or BreakerCause.MISMATCH)
        self.is_open = not works
        if works:
            self._forget()
        bad = next((f"{r.http_status} {r.reason}" for r in results if r.outcome is not Outcome.ACCEPTED), "")
        breaker_end_probe(self.credential.pk, works=works, reason=f"a probe failed: {bad}" if works is False else "")
        log.info("breaker probed", extra={"credential": str(self.credential.pk), "works": works, "reason": bad})

    def _forget(self) -> None:
        """Forget the windows: the answers of requests that were under way must not open the breaker again."""
        addresses = f"automata:breaker:{self.credential.pk}:{int(time.time()) // WINDOW_S}"
        try:
            _counters().delete(addresses, *(window for window, _, _ in self._outage_windows()))
        except redis.RedisError:
            return


def _works(results: Sequence[Result], cause: str) -> bool | None:
    """What a probe shows about the cause; None if nothing."""
    outcomes = [result.outcome for result in results]
    failures = sum(outcome in _FAILED for outcome in outcomes)
    if Outcome.CREDENTIAL in outcomes:
        return False
    if cause == BreakerCause.OUTAGE:
        good = sum(result.http_status != 0 and result.outcome not in _FAILED for result in results)
    elif cause == BreakerCause.REFUSED:
        good = sum(outcome in _WATCHED for outcome in outcomes)
    else:
        mismatches = outcomes.count(Outcome.RECIPIENT_MISMATCH)
        if mismatches and mismatches >= settings.BREAKER_MISMATCH_SHARE * sum(o in _WATCHED for o in outcomes):
            return False
        good = outcomes.count(Outcome.ACCEPTED)
    if good > failures:
        return True
    return False if failures else None


class _Unreported:
    """Answers without trouble, added up in this process so that they cost no call of Redis each."""

    def __init__(self) -> None:
        self._by_credential: dict[UUID, tuple[int, float]] = {}

    def add(self, credential_id: UUID, answers: int, *, report: bool) -> int:
        """What is to be reported now; 0 while it can wait."""
        count, since = self._by_credential.get(credential_id, (0, time.monotonic()))
        count += answers
        if report or time.monotonic() - since >= REPORT_S:
            self._by_credential.pop(credential_id, None)
            return count
        self._by_credential[credential_id] = (count, since)
        return 0


_unreported = _Unreported()
