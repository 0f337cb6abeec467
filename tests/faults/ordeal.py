"""One fault: a campaign and single messages run, the fault strikes, everything settles, all is judged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.faults.stack import NEVER_S, Stack
from tests.faults.traffic import Singles, launch, posting, repeat_some
from tests.faults.verify import Figures, in_flight, verify

WELL_UNDER_WAY = 0.15
"""The share of the campaign that has left when the fault strikes."""


@dataclass
class Ordeal:
    """What a fault may look at and say while it strikes."""

    stack: Stack
    campaign_id: str
    singles: Singles
    struck_at: float = 0.0
    duplicates_max: int = 0
    """How many may reach a provider twice."""
    failed_reasons: set[str] = field(default_factory=set)
    """Why messages may fail for good."""
    hours_pass: bool = False
    """Whether what waits for a later attempt gets its time at once, so that nobody has to wait 15 minutes for APNs."""
    notes: dict[str, str] = field(default_factory=dict)
    """What to show beside the recovery time."""
    _next_hour: float = 0.0

    def lost_workers(self, count: int) -> None:
        """So many sending processes were killed at this moment."""
        self.duplicates_max += in_flight(self.stack, count)

    def connections_are_cut(self, times: int = 1) -> None:
        """What was on its way over them may have been taken without an answer, and is sent again."""
        self.duplicates_max += times * self.stack.size.streams_in_flight

    def singles_go_on(self, *, at_least: int) -> None:
        """Wait until clients have got so many further messages accepted."""
        goal = len(self.singles.accepted) + at_least
        self.stack.wait_until(lambda: len(self.singles.accepted) >= goal, NEVER_S, "the API accepts messages")

    def tick(self) -> None:
        """While everything settles."""
        if self.hours_pass and time.monotonic() > self._next_hour:
            self._next_hour = time.monotonic() + 0.5
            bring_forward(self.stack)

    def wait(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        self.stack.wait_until(lambda: time.monotonic() >= ends_at, seconds + NEVER_S, "time passes")


@dataclass(frozen=True)
class Report:
    """What a fault did."""

    name: str
    recovery_s: float
    """From the strike until the last result was recorded."""
    figures: Figures
    singles: int
    slowest_post_s: float
    refusals: dict[str, int]
    restarted: list[str]
    duplicates_max: int
    notes: dict[str, str]


Strike = Callable[[Ordeal], None]


def calm(stack: Stack) -> None:
    """Before each fault: all processes run, providers are kind and remember nothing, no breaker is open and no
    rate is lowered."""
    stack.wait_until(lambda: not stack.restart_pending, NEVER_S, "everything is started again")
    stack.wait_ready()
    for provider in stack.providers:
        provider.taken_before.clear()
        provider.control.reset()
        provider.control.settings(latency_ms=stack.size.latency_ms, jitter_ms=stack.size.latency_ms // 3)
    stack.execute("UPDATE tenants_channelcredential SET breaker_opened_at = NULL, breaker_reason = ''")
    with contextlib.closing(stack.redis()) as client:
        for key in client.scan_iter("automata:rate:*"):
            client.delete(key)


def undergo(
    stack: Stack,
    name: str,
    strike: Strike,
    *,
    under_way: float = WELL_UNDER_WAY,
    before: Strike | None = None,
    timeout_s: float = NEVER_S,
) -> Report:
    """Let the fault strike a running campaign, wait for the end of everything without lifting a finger, and judge."""
    calm(stack)
    restarted_before = len(stack.restarted)
    began_at = datetime.now(UTC)
    with posting(stack) as singles:
        ordeal = Ordeal(stack, "", singles)
        if before is not None:
            before(ordeal)
        ordeal.campaign_id = launch(stack)
        goal = int(stack.size.recipients * under_way)
        stack.wait_until(
            lambda: sum(p.control.stats()["accepted"] for p in stack.providers) >= goal, NEVER_S, "under way"
        )
        ordeal.struck_at = time.time()
        strike(ordeal)
        stack.wait_until(
            lambda: is_completed(stack, ordeal.campaign_id), timeout_s, f"{name}: the campaign completes", ordeal.tick
        )
    completed_at = time.time()
    stack.wait_until(lambda: is_settled(stack), timeout_s, f"{name}: every single message has its result", ordeal.tick)
    repeat_some(stack, singles)
    figures = verify(
        stack,
        campaign_id=ordeal.campaign_id,
        singles=singles,
        began_at=began_at,
        duplicates_max=ordeal.duplicates_max,
        failed_reasons=ordeal.failed_reasons,
    )
    last = stack.value(
        "SELECT max(greatest(sent_at, failed_at)) FROM messaging_message WHERE campaign_id = %s", ordeal.campaign_id
    )
    return Report(
        name,
        min(last.timestamp(), completed_at) - ordeal.struck_at,
        figures,
        len(singles.accepted),
        singles.slowest_s,
        singles.refusals,
        stack.restarted[restarted_before:],
        ordeal.duplicates_max,
        ordeal.notes,
    )


def is_completed(stack: Stack, campaign_id: str) -> bool:
    return bool(stack.value("SELECT status = 'completed' FROM campaigns_messagecampaign WHERE id = %s", campaign_id))


def is_settled(stack: Stack) -> bool:
    return bool(stack.value("SELECT count(*) = 0 FROM messaging_dispatchbatch WHERE state <> 'done'"))


def bring_forward(stack: Stack) -> int:
    """What waits for a later attempt is due now: hours pass for the database."""
    moved = stack.execute("UPDATE messaging_message SET retry_at = now() WHERE status = 'errored' AND retry_at > now()")
    stack.execute("UPDATE messaging_dispatchbatch SET due_at = now() WHERE state = 'waiting' AND due_at > now()")
    return moved
