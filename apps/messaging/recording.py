"""Recording what the providers answered: slices of results, each one transaction of a few statements.

It runs in a thread of its own, with its own database connection, so that the next requests are on the wire meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseLayerError
from django.db import connection, transaction
from django.utils import timezone

from apps.messaging import retry
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.adapters.registry import adapter_named
from apps.messaging.breaker import Breaker
from apps.messaging.claims import Claim, finish_batch, move, renew_lease
from apps.messaging.counting import count_answers
from apps.messaging.gateway_requests import keep_requests
from apps.messaging.making import Recipient
from apps.messaging.models import MessageStatus
from apps.messaging.recorders import StatusCount, record
from apps.subscriptions.services import Strike, SubscriptionEnd, subscriptions_end, subscriptions_strike
from apps.tenants.models import ChannelCredential
from apps.tenants.services import credential_note_error
from automata_signal import metrics
from automata_signal.task_context import log_context

log = logging.getLogger(__name__)

RECORD_SLICE = 1_000
"""Results recorded in one transaction."""
RECORD_AHEAD = 4
"""Slices that may wait for the recording thread before sending waits for it."""
RECORD_PATIENCE_S = 120
"""How long results are held while PostgreSQL does not answer; after that the lease runs out and they are sent again."""


@cache
def recorder_thread() -> ThreadPoolExecutor:
    """One thread a process, which keeps its own database connection; made after the fork, on first use."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")


class Recording:
    """Collects results and records them in slices, while sending goes on."""

    def __init__(
        self, claim: Claim, credential: ChannelCredential, breaker: Breaker, *, is_stand_in: bool = False
    ) -> None:
        self.claim = claim
        self.credential = credential
        self.breaker = breaker
        self._success_note = {"credential": str(credential.pk)} if is_stand_in else None
        """An accepted message went by the first credential, or its event names the one that stood in."""
        self._results: list[Result] = []
        self._running: list[Future[None]] = []
        self._interval_s = settings.BATCH_LEASE_S / 4
        self._context = log_context(
            application_id=str(claim.batch.application_id),
            campaign_id=str(claim.dispatch.campaign_id or ""),
            batch_id=str(claim.batch.pk),
        )
        self._record_at = time.monotonic() + self._interval_s
        """Recording renews the lease, so it is done by then however few the answers are: a provider may be slow."""

    def add(self, result: Result) -> None:
        if result.reason:
            result = result._replace(reason=retry.word_of(result.reason))
        self._results.append(result)
        if len(self._results) >= RECORD_SLICE or time.monotonic() >= self._record_at:
            self._submit()

    def may_go_on(self, *, look: bool = False) -> bool:
        """Whether more may be sent: the batch is still ours and the breaker is closed, for other workers too if
        `look` is to ask PostgreSQL."""
        if look:
            self.breaker.look()
            self.keep_lease()
        return not self.claim.lost and not self.breaker.is_open

    def keep_lease(self) -> None:
        """Renew the lease in good time, however few answers come."""
        if time.monotonic() >= self._record_at:
            self._submit()

    def close(self, *, is_over: bool) -> list[Future[None]]:
        """Record what is left and then, if nothing more is to be sent, give the batch back; what to wait for."""
        if self._results:
            self._submit()
        if is_over:
            self._run(partial(finish_batch, self.claim))
        return self._running

    def _submit(self) -> None:
        results, self._results = self._results, []
        self._record_at = time.monotonic() + self._interval_s
        self._run(partial(self._record, results))
        while len(self._running) > RECORD_AHEAD:
            self._running.pop(0).result()

    def _run(self, work: Callable[[], None]) -> None:
        """In the recorder's thread, whose log lines name the batch."""
        self._running.append(recorder_thread().submit(self._context.run, _patiently, work))

    @cached_property
    def _by_id(self) -> dict[str, Recipient]:
        return {recipient.message_id: recipient for recipient in self.claim.recipients}

    def _record(self, results: list[Result]) -> None:
        began = time.perf_counter()
        breaker_is_open = self.breaker.judge(results)
        now = timezone.now()
        plan = self._plan(results, now, breaker_is_open)
        with transaction.atomic():
            if not renew_lease(self.claim):
                # Another worker has the batch and decides what becomes of it; what was accepted is a fact all the same.
                self.claim.lost = True
                plan = {step: ids for step, ids in plan.items() if step.outcome is Outcome.ACCEPTED}
            counts: list[StatusCount] = []
            for step, ids in plan.items():
                counts += move(
                    self.claim,
                    step.name,
                    MessageStatus.PENDING,
                    ids,
                    at=now,
                    attempted=True,
                    reason=step.error_reason or None,
                    details=(details := step.details(self.credential)),
                    metadata=self._success_note if step is _ACCEPTED else details,
                    retry_at=step.retry_at,
                )
            keep_requests(self.credential, results, now)
            if not breaker_is_open:
                self._end_subscriptions(results, now)
                self._count_strikes(plan, results, now)
            record(counts, reserved_at=self.claim.reserved_at)
        count_answers(self.credential.provider, results)
        metrics.RECORD_SECONDS.observe(time.perf_counter() - began)
        self._note_refusal(results)

    def _plan(self, results: Sequence[Result], now: datetime, breaker_is_open: bool) -> dict[PlannedStep, list[str]]:
        """Group the results by what follows from them, so that a slice is a few statements."""
        plan: dict[PlannedStep, list[str]] = defaultdict(list)
        retries: dict[tuple[Outcome, str, int, float | None], retry.Decision] = {}
        for result in results:
            if result.outcome is Outcome.ACCEPTED:
                plan[_ACCEPTED].append(result.message_id)
                continue
            if breaker_is_open and result.outcome is Outcome.RECIPIENT_MISMATCH:
                cooldown = float(settings.BREAKER_COOLDOWN_S)
                result = result._replace(outcome=Outcome.TRANSIENT, subscription_status=None, retry_after_s=cooldown)
            attempt = self._by_id[result.message_id].attempts + 1
            alike = (result.outcome, result.reason, attempt, result.retry_after_s)
            if alike not in retries:  # one due time for all that failed alike, so that they are one statement
                is_kept = result.outcome is Outcome.CREDENTIAL and self.breaker.keeps_refused
                retries[alike] = retry.decide(
                    result._replace(outcome=Outcome.TRANSIENT) if is_kept else result,
                    attempt=attempt,
                    now=now.timestamp(),
                    expires_at=self.claim.batch.expires_at.timestamp(),
                    resend_is_harmless=adapter_named(self.credential.provider).resend_is_harmless,
                )
            due, error_reason = retries[alike]
            step = PlannedStep(
                "fail" if due is None else "error",
                result.outcome,
                error_reason,
                result.reason or result.outcome.value,
                result.http_status,
                attempt,
                None if due is None else datetime.fromtimestamp(due, UTC),
                result.message_status,
            )
            plan[step].append(result.message_id)
        return plan

    def _end_subscriptions(self, results: Sequence[Result], now: datetime) -> None:
        ends = [
            SubscriptionEnd(
                subscription_id=UUID(self._by_id[r.message_id].subscription_id),
                status=r.subscription_status,
                reason=r.reason,
                gone_at=None if r.gone_at is None else datetime.fromtimestamp(r.gone_at, UTC),
            )
            for r in results
            if r.subscription_status is not None
        ]
        if ends:
            subscriptions_end(application_id=self.claim.batch.application_id, ends=ends, occurred_at=now)

    def _count_strikes(
        self, plan: Mapping[PlannedStep, Sequence[str]], results: Sequence[Result], now: datetime
    ) -> None:
        """Count the failures that end a subscription only when they repeat: of messages that are not tried again."""
        soft = {r.message_id: r for r in results if r.soft_status is not None}
        if not soft:
            return
        failed = {message_id for step, ids in plan.items() if step.name == "fail" for message_id in ids}
        strikes = [
            Strike(UUID(self._by_id[message_id].subscription_id), r.soft_status, r.reason)
            for message_id, r in soft.items()
            if message_id in failed and r.soft_status is not None
        ]
        subscriptions_strike(application_id=self.claim.batch.application_id, strikes=strikes, occurred_at=now)

    def _note_refusal(self, results: Sequence[Result]) -> None:
        """Show the operator the last refusal of the credential itself."""
        refusal = next((r for r in results if r.outcome is Outcome.CREDENTIAL), None)
        if refusal is not None:
            credential_note_error(self.credential.pk, error=f"{refusal.http_status} {refusal.reason}")


def _patiently(work: Callable[[], None]) -> None:
    """Do what only PostgreSQL can hinder; while it is away or refuses (deadlock, restart), hold it and try again."""
    give_up_at = time.monotonic() + RECORD_PATIENCE_S
    pause_s = 0.1
    while True:
        try:
            return work()
        except DatabaseLayerError as error:
            connection.close()
            if time.monotonic() + pause_s > give_up_at:
                raise
            log.warning("results are held: the database refused", extra={"cause": str(error)})
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)


class PlannedStep(NamedTuple):
    """A transition that several messages of a slice make alike."""

    name: str
    outcome: Outcome
    error_reason: str = ""
    """Why it failed or is put off, in one word: the provider's, or ours (`retry.Decision`)."""
    reason: str = ""
    """The provider's own word, kept in the details."""
    http_status: int = 0
    attempt: int = 0
    retry_at: datetime | None = None
    message_status: int | None = None

    def details(self, credential: ChannelCredential) -> dict[str, Any] | None:
        if self.outcome is Outcome.ACCEPTED:
            return None
        return {
            "class": retry.POLICIES[self.outcome].fault.value,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "http_status": self.http_status,
            "attempt": self.attempt,
            "provider": credential.provider,
            "credential": str(credential.pk),
            **({} if self.message_status is None else {"code": self.message_status}),
        }


_ACCEPTED = PlannedStep("send", Outcome.ACCEPTED)
