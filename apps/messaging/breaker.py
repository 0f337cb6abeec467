"""A breaker for each credential: many addresses that do not fit it are our mistake sooner than an audience's end.

A sandbox token sent to production, or the wrong bundle id, makes a provider call every token bad. Ending them all
would lose an audience; so when the share of such answers is high, sending with this credential stops, the
subscriptions stay as they are, and an operator is told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cache

import redis
from django.conf import settings
from django.utils import timezone

from apps.messaging.adapters.base import Outcome, Result
from apps.tenants.models import ChannelCredential
from apps.tenants.services import breaker_open

log = logging.getLogger(__name__)

WINDOW_S = 300
_WATCHED = frozenset({Outcome.ACCEPTED, Outcome.RECIPIENT_GONE, Outcome.RECIPIENT_MISMATCH})


@cache
def _counters() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.25, socket_connect_timeout=0.25)


def closed_until(credential: ChannelCredential) -> float | None:
    """Epoch seconds until which nothing is sent with this credential; None when it may be used."""
    if credential.breaker_opened_at is None:
        return None
    until = credential.breaker_opened_at + timedelta(seconds=settings.BREAKER_COOLDOWN_S)
    return until.timestamp() if until > timezone.now() else None


class Breaker:
    """Watches the answers of one batch, together with those of the last minutes of its credential."""

    def __init__(self, credential: ChannelCredential) -> None:
        self.credential = credential
        self.is_open = False
        self._mismatches = 0
        self._watched = 0

    def judge(self, results: Sequence[Result]) -> bool:
        """Count these answers and say whether the breaker is open: then none of them may end a subscription."""
        mismatches = sum(r.outcome is Outcome.RECIPIENT_MISMATCH for r in results)
        refusals = [r for r in results if r.outcome is Outcome.CREDENTIAL]
        watched = sum(r.outcome in _WATCHED for r in results)
        if refusals:
            self._open(f"the provider refused the credential: {refusals[0].reason}")
        elif mismatches or self._mismatches:
            self._count(mismatches, watched)
            share = self._mismatches / max(1, self._watched)
            if self._mismatches >= settings.BREAKER_MIN_MISMATCHES and share >= settings.BREAKER_MISMATCH_SHARE:
                reason = next((r.reason for r in results if r.outcome is Outcome.RECIPIENT_MISMATCH), "mismatch")
                self._open(f"{share:.0%} of the addresses do not fit this credential ({reason})")
        else:
            self._watched += watched
        return self.is_open

    def _count(self, mismatches: int, watched: int) -> None:
        """Add to this batch's counts; where Redis answers, to those of the window, which then decide."""
        self._mismatches += mismatches
        self._watched += watched
        window = f"automata:breaker:{self.credential.pk}:{int(time.time()) // WINDOW_S}"
        try:
            with _counters().pipeline() as pipe:
                pipe.hincrby(window, "mismatches", mismatches)
                pipe.hincrby(window, "watched", watched)
                pipe.expire(window, 2 * WINDOW_S)
                shared_mismatches, shared_watched, _ = pipe.execute()
        except redis.RedisError:
            return
        self._mismatches = max(self._mismatches, shared_mismatches)
        self._watched = max(self._watched, shared_watched)

    def _open(self, reason: str) -> None:
        if not self.is_open:
            self.is_open = True
            log.error("breaker opened", extra={"credential": str(self.credential.pk), "reason": reason})
            breaker_open(self.credential.pk, reason=reason)
