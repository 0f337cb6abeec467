"""What follows from an outcome: try again and when, or fail and why. The one table of that policy."""

from __future__ import annotations

import enum
import random
from typing import NamedTuple

from django.conf import settings

from apps.messaging.adapters.base import Outcome, Result


class Fault(enum.StrEnum):
    """Who was at fault, in `error_details`."""

    RECIPIENT = "recipient"
    SENDER = "sender"
    PROVIDER = "provider"


class Policy(NamedTuple):
    fault: Fault
    is_retried: bool
    """Tried again while attempts and time to live last; then failed."""
    stops_credential: bool = False
    """Nothing more is sent with this credential until an operator has looked."""


POLICIES: dict[Outcome, Policy] = {
    Outcome.TRANSIENT: Policy(Fault.PROVIDER, is_retried=True),
    Outcome.THROTTLED: Policy(Fault.PROVIDER, is_retried=True),
    # Push only so far: a second one replaces the first by its collapse id, so it may be sent again.
    Outcome.UNKNOWN: Policy(Fault.PROVIDER, is_retried=True),
    Outcome.RECIPIENT_GONE: Policy(Fault.RECIPIENT, is_retried=False),
    Outcome.RECIPIENT_MISMATCH: Policy(Fault.RECIPIENT, is_retried=False),
    Outcome.PAYLOAD_REJECTED: Policy(Fault.SENDER, is_retried=False),
    Outcome.UNSUPPORTED: Policy(Fault.SENDER, is_retried=False),
    Outcome.CREDENTIAL: Policy(Fault.SENDER, is_retried=False, stops_credential=True),
}

FIRST_DELAY_S = 5.0
DELAY_MAX_S = 900.0
JITTER = 0.2

EXPIRED = "expired"
CANCELED = "canceled"


def delay_s(attempt: int, retry_after_s: float | None) -> float:
    """Seconds until the next attempt, after `attempt` (1 the first): exponential with jitter, never before
    the provider's `Retry-After`."""
    exponential: float = min(FIRST_DELAY_S * 2 ** (attempt - 1), DELAY_MAX_S)
    return max(exponential, retry_after_s or 0.0) * (1 + random.random() * JITTER)


def retry_at(result: Result, *, attempt: int, now: float, expires_at: float) -> float | None:
    """When to try again, in epoch seconds; None when the message has failed for good.

    No attempt is planned beyond the message's time to live.
    """
    if not POLICIES[result.outcome].is_retried or attempt >= settings.RETRY_MAX_ATTEMPTS:
        return None
    due = now + delay_s(attempt, result.retry_after_s)
    return due if due < expires_at else None
