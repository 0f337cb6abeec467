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
    may_have_arrived: bool = False
    """Tried again only on a channel where a second one does no harm (`Adapter.resend_is_harmless`)."""


POLICIES: dict[Outcome, Policy] = {
    Outcome.TRANSIENT: Policy(Fault.PROVIDER, is_retried=True),
    Outcome.THROTTLED: Policy(Fault.PROVIDER, is_retried=True),
    Outcome.UNKNOWN: Policy(Fault.PROVIDER, is_retried=True, may_have_arrived=True),
    Outcome.RECIPIENT_GONE: Policy(Fault.RECIPIENT, is_retried=False),
    Outcome.RECIPIENT_MISMATCH: Policy(Fault.RECIPIENT, is_retried=False),
    Outcome.PAYLOAD_REJECTED: Policy(Fault.SENDER, is_retried=False),
    Outcome.UNSUPPORTED: Policy(Fault.SENDER, is_retried=False),
    Outcome.CREDENTIAL: Policy(Fault.SENDER, is_retried=False, stops_credential=True),
}

# No wait is short: the first is 5 s, and `Retry-After` only makes it longer. So every wait is in the database (the
# batch is given back with its due time), a worker never sleeps over a retry, and a restart forgets none.
FIRST_DELAY_S = 5.0
DELAY_MAX_S = 900.0
JITTER = 0.2

EXPIRED = "expired"
CANCELED = "canceled"
UNKNOWN_OUTCOME = "unknown_outcome"
OVERTAKEN, ALREADY_REACHED = "overtaken", "already_reached"
"""The chain has gone on without it, or is over."""


WORD_MAX = 100
"""What `error_reason` holds."""


def word_of(said: str) -> str:
    """A provider's word as PostgreSQL takes it. One that it does not take would keep everybody's results from being
    recorded, and what is not recorded is sent again."""
    return said.encode("utf-8", "ignore").decode().replace("\0", "")[:WORD_MAX]


class Decision(NamedTuple):
    """What follows for the message: the next attempt at `due`, or failed for good as `error_reason`."""

    due: float | None
    """Epoch seconds."""
    error_reason: str


def delay_s(attempt: int, retry_after_s: float | None) -> float:
    """Seconds until the next attempt, after `attempt` (1 the first): exponential with jitter, never before
    the provider's `Retry-After`."""
    exponential: float = min(FIRST_DELAY_S * 2 ** (attempt - 1), DELAY_MAX_S)
    return max(exponential, retry_after_s or 0.0) * (1 + random.random() * JITTER)


def decide(result: Result, *, attempt: int, now: float, expires_at: float, resend_is_harmless: bool = True) -> Decision:
    """Try again, and when, or fail, and as what. `now` and `expires_at` are epoch seconds.

    No attempt is planned beyond the time to live: such a message has expired, whatever the provider said last.
    """
    policy = POLICIES[result.outcome]
    reason = result.reason or result.outcome.value
    if policy.may_have_arrived and not resend_is_harmless:
        return Decision(None, UNKNOWN_OUTCOME)
    if not policy.is_retried or attempt >= settings.RETRY_MAX_ATTEMPTS:
        return Decision(None, reason)
    due = now + delay_s(attempt, result.retry_after_s)
    return Decision(due, reason) if due < expires_at else Decision(None, EXPIRED)
