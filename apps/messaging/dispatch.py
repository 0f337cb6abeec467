"""What happens to a batch of messages: claim → build → send → record.

    claim    one transaction: take the batch by a lease; make its messages (first time) or fetch those that are due
    build    decrypt the address, render what is personal
    send     the adapter, on connections that stay open across batches; no transaction is open
    record   slices of results, each one transaction, in a thread of their own while the next requests are on the wire

While the last answers of a batch are still to come, the next batch that goes the same way is claimed and sent behind
it (`Line`), so that the connections are never idle and single messages do not wait for each other's answers.

PostgreSQL is the truth: whatever dies in between, the lease runs out and another worker takes the batch. What had been
sent but not recorded is then sent again, under the same collapse id, so that a device shows it once. Where a second one
does harm (`Adapter.resend_is_harmless`) it is written down what is about to leave, and that then fails as unknown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from operator import length_hint
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from apps.messaging import retry
from apps.messaging.adapters.base import Content, Delivery, Result
from apps.messaging.adapters.registry import adapter_named
from apps.messaging.breaker import Breaker
from apps.messaging.charges import OVER_QUOTA
from apps.messaging.claims import (
    Claim,
    Way,
    claim_batch,
    claim_batch_or_next,
    claim_next,
    fail_rest,
    fail_unsendable,
    finish_batch,
    in_state,
    note_handed_over,
)
from apps.messaging.content import ContentSource
from apps.messaging.making import Recipient
from apps.messaging.media.contents import attachments_of
from apps.messaging.models import BatchState, DispatchBatch, DispatchState, Priority
from apps.messaging.queues import QueuedBatch, enqueue
from apps.messaging.rates import Pace, credential_bucket, device_waits, dispatch_buckets, plan_buckets
from apps.messaging.recording import RECORD_AHEAD, Recording
from apps.messaging.senders import NoCredential, Route, route_for, sender_for
from apps.messaging.stopping import is_stopping
from apps.tenants.operations.switches import may_send
from automata_signal.encryption import DecryptionError, keyring
from automata_signal.errors import ValidationFailed
from automata_signal.ids import PREFIX_LENGTH

STOP_CHECK_S = 0.5
"""How often sending looks whether it was paused or canceled."""
LINE_S, URGENT_LINE_S = 2.0, 0.2
"""How long further batches are put behind the first one: those of other applications and priorities wait meanwhile."""
NEXT_CLAIM_S = 0.02
"""How often a line that has found no further batch looks again, while answers are still to come."""


def run_batch(batch_id: UUID, application_id: UUID | None = None) -> bool:
    """Send what is due of one batch.

    False if it was not to be had: held by another, not due, paused or done; or if this worker is to stop, then the
    sweep queues the batch for another one.
    """
    claim = None if _leaves_to_others(batch_id) else claim_batch(batch_id, application_id)
    if claim is None:
        return False
    if _has_recipients(claim):
        _send(claim)
    finish_batch(claim)
    return True


def run_line(batch_id: UUID, application_id: UUID) -> None:
    """Send what is due of a batch, and behind it what else waits to go the same way.

    The batch may be taken or done: then it only says which way. When there is more than a line has time for, another
    task goes on.
    """
    claim = None if _leaves_to_others(batch_id) else claim_batch_or_next(batch_id, application_id)
    if claim is None:
        return
    batch, was_cut_short = claim.batch, False
    if _has_recipients(claim):
        was_cut_short = _send(claim, with_next=True)
    finish_batch(claim)
    if was_cut_short:
        more = QueuedBatch(
            batch.pk, batch.application_id, claim.dispatch.channel_type, batch.priority, batch.subscription_type
        )
        enqueue([more])


def _leaves_to_others(batch_id: UUID) -> bool:
    """Whether this worker is to stop: then the sweep is to queue the batch again."""
    if is_stopping():
        DispatchBatch.objects.filter(pk=batch_id, state=BatchState.WAITING).update(queued_at=None)
    return is_stopping()


def _has_recipients(claim: Claim) -> bool:
    """Fail what is not to be sent; whether anything is left."""
    if claim.batch.is_over_quota:
        fail_rest(claim, OVER_QUOTA, details={"class": retry.Fault.SENDER})
        return False
    if claim.dispatch.state == DispatchState.CANCELED:
        fail_rest(claim, retry.CANCELED)
        return False
    if claim.batch.expires_at <= timezone.now():
        fail_rest(claim, retry.EXPIRED)
        return False
    try:
        claim.attachments = attachments_of(claim.dispatch)
    except ValidationFailed as problem:
        fail_rest(claim, "attachment_missing", details={"class": retry.Fault.SENDER, "message": problem.message})
        return False
    fail_unsendable(claim)
    return bool(claim.recipients)


def _send(claim: Claim, *, with_next: bool = False) -> bool:
    """Send to every recipient of the claim and record every answer; `with_next` also those of claims that can follow
    it. Whether the line ended for want of time only.

    Stops when paused, canceled or taken over; and when its rate, its throttle or an open breaker would make it wait for
    long, which sets when the batch is to come back. When a breaker opens, the next credential takes what is left.
    """
    rest: Iterator[Recipient] | None = None
    while rest is None or length_hint(rest):
        try:
            route = route_for(claim.batch.application_id, claim.batch.subscription_type)
        except NoCredential as problem:
            fail_rest(claim, "no_credential", details={"class": retry.Fault.SENDER, "message": str(problem)})
            return False
        if isinstance(route, datetime):
            _come_back(claim, route)
            return False
        if rest is None:
            rest = iter(_within_device_limits(claim, route))
        line = Line(route, claim, rest, with_next=with_next and not route.is_probe)
        line.send()
        if not line.leaves_rest_to_others():
            return line.was_cut_short
    return False


class Line:
    """Claims on their way by one credential, one behind the other.

    The first claim may come back with recipients that are left: after a probe, or when the breaker opened. What is left
    of the others is given back to the queue.
    """

    def __init__(self, route: Route, first: Claim, rest: Iterator[Recipient], *, with_next: bool) -> None:
        self._route = route
        self._breaker = Breaker(route.credential, is_probe=route.is_probe, has_next=route.has_next)
        self._first = self._sending(first, rest)
        self._by_range = {first.ids.prefix: self._first}
        is_urgent = first.batch.priority == Priority.HIGH
        self._takes_more = with_next
        self._until = time.monotonic() + (URGENT_LINE_S if is_urgent else LINE_S)
        self.was_cut_short = False
        """Whether it took no more for want of time only."""
        self._closing: deque[Future[None]] = deque()
        """What is still being recorded of claims that are answered."""

    def send(self) -> None:
        """Send the first claim and those that join; when it returns, every answer is recorded."""
        sender = sender_for(self._route.credential)
        try:
            for result in sender.send(self._deliveries()):
                sending = self._by_range[result.message_id[:PREFIX_LENGTH]]
                sending.add(result)
                if sending.is_answered:
                    self._leave(sending)
        finally:
            for sending in self._by_range.values():
                self._closing += sending.recording.close(is_over=False)
            self._wait_for_records(at_most=0)
        self._breaker.release()

    def leaves_rest_to_others(self) -> bool:
        """Whether what is left of the first claim is to find a route anew."""
        claim, pace = self._first.claim, self._first.pace
        if pace.back_in_s is not None:
            _come_back(claim, timezone.now() + timedelta(seconds=pace.back_in_s))
            return False
        needs_another = self._route.is_probe or self._breaker.is_open
        return needs_another and not claim.lost and not is_stopping() and in_state(claim, DispatchState.ACTIVE)

    def _deliveries(self) -> Iterator[Delivery | None]:
        yield from self._first.deliveries()
        self._takes_more = self._takes_more and self._first.pace.back_in_s is None
        if self._first.is_answered:
            self._leave(self._first)
        for claim in self._next_claims():
            if claim is None:
                yield None
                continue
            sending = self._sending(claim, iter(_within_device_limits(claim, self._route)))
            self._by_range[claim.ids.prefix] = sending
            yield from sending.deliveries()
            if sending.pace.back_in_s is not None:
                _come_back(claim, timezone.now() + timedelta(seconds=sending.pace.back_in_s))
                self._takes_more = False
            if sending.is_answered:  # before the last one was handed over, or there was none to hand over
                self._leave(sending)

    def _next_claims(self) -> Iterator[Claim | None]:
        """Claims that go the same way, for as long as the line takes any; None while it waits for answers."""
        way, look_at = Way.of(self._first.claim.batch), 0.0
        while True:
            claim = None
            if self._may_take_more() and (now := time.monotonic()) >= look_at:
                claim = claim_next(way)
                look_at = 0.0 if claim else now + NEXT_CLAIM_S
            if claim is not None and not _has_recipients(claim):
                finish_batch(claim)
            elif claim is not None:
                yield claim
            elif any(not sending.is_answered for sending in self._by_range.values()):
                for sending in self._by_range.values():
                    sending.recording.keep_lease()
                yield None
            else:
                return

    def _may_take_more(self) -> bool:
        if not self._takes_more or is_stopping() or self._breaker.is_open:
            return False
        self.was_cut_short = time.monotonic() >= self._until
        return not self.was_cut_short

    def _sending(self, claim: Claim, rest: Iterator[Recipient]) -> Sending:
        return Sending(claim, rest, self._route, self._breaker)

    def _leave(self, sending: Sending) -> None:
        """All that was handed over is answered."""
        is_over = sending is not self._first or not length_hint(sending.rest)
        self._closing += sending.recording.close(is_over=is_over)
        del self._by_range[sending.claim.ids.prefix]
        self._wait_for_records(at_most=RECORD_AHEAD)

    def _wait_for_records(self, *, at_most: int) -> None:
        """Wait until no more than so many slices are to be recorded. Raises what recording raised."""
        while self._closing and (len(self._closing) > at_most or self._closing[0].done()):
            self._closing.popleft().result()


class Sending:
    """One claim on its way by one credential: what is handed to the sender, and what has come back."""

    def __init__(self, claim: Claim, rest: Iterator[Recipient], route: Route, breaker: Breaker) -> None:
        self.claim = claim
        self.rest = rest
        """Recipients who were not handed over yet."""
        buckets = [
            *dispatch_buckets(claim.dispatch),
            *plan_buckets(claim.batch.application_id),
            *([] if route.is_probe else [credential_bucket(route.credential)]),
        ]
        self.pace = Pace(buckets, is_urgent=claim.batch.priority == Priority.HIGH)
        self.recording = Recording(claim, route.credential, breaker, is_stand_in=route.is_stand_in)
        self._most = settings.BREAKER_PROBE_MESSAGES if route.is_probe else len(claim.recipients)
        self._is_noted = not adapter_named(route.credential.provider).resend_is_harmless
        self._under_way = 0
        self._is_handed_over = False

    @property
    def is_answered(self) -> bool:
        """Whether nothing more is handed over, and every answer has come."""
        return self._is_handed_over and not self._under_way

    def add(self, result: Result) -> None:
        self._under_way -= 1
        self.recording.add(result)

    def deliveries(self) -> Iterator[Delivery | None]:
        """Build one delivery after another, as fast as the pace allows; ends early when sending is to stop.

        None while there is nothing to send yet.
        """
        claim, recording = self.claim, self.recording
        is_personalised = claim.dispatch.is_personalised
        shared = Content() if is_personalised else ContentSource.of_dispatch(claim.dispatch).render({})
        shared = replace(shared, attachments=claim.attachments) if claim.attachments else shared
        expires_at = claim.batch.expires_at.timestamp() if claim.dispatch.ttl_s else 0.0
        decrypt = keyring().decrypt
        may_go_on = _every(
            STOP_CHECK_S,
            lambda: (
                recording.may_go_on(look=True)
                and claim.is_in_time
                and may_send(claim.dispatch.channel_type)
                and in_state(claim, DispatchState.ACTIVE)
            ),
        )
        while (wanted := min(self._most, length_hint(self.rest))) and recording.may_go_on() and may_go_on():
            chunk = self.pace.take(wanted)
            if chunk is None:
                break
            if not chunk:
                yield None
                continue
            self._most -= chunk
            noted = [r.message_id for r in islice(copy(self.rest), chunk)] if self._is_noted else []
            note_handed_over(claim, noted)
            for recipient in islice(self.rest, chunk):
                chunk -= 1
                message_id, subscription_id, _, token, test_type, content = recipient
                try:
                    address = decrypt(token).decode()
                except DecryptionError:
                    claim.unsendable["token_unreadable"].append(message_id)
                    continue
                self._under_way += 1
                if content is not None and claim.attachments:
                    content = replace(content, attachments=claim.attachments)
                yield Delivery(message_id, address, content or shared, test_type, expires_at, subscription_id)
                if not may_go_on():
                    self.pace.put_back(chunk)
                    note_handed_over(claim, noted[len(noted) - chunk :] if noted else [], taken_back=True)
                    break
        self._is_handed_over = True


def _within_device_limits(claim: Claim, route: Route) -> Sequence[Recipient]:
    """Who may have another message now; the others wait for their device's next minute or hour."""
    if claim.dispatch.audience is not None:
        return claim.recipients
    waits_s = device_waits(route.credential, [recipient.subscription_id for recipient in claim.recipients])
    if later := [wait_s for wait_s in waits_s if wait_s]:
        _come_back(claim, timezone.now() + timedelta(seconds=min(later)))
    return [recipient for recipient, wait_s in zip(claim.recipients, waits_s, strict=True) if not wait_s]


def _come_back(claim: Claim, at: datetime) -> None:
    """Have the batch taken up again at `at`, or earlier if that was asked for; in time to fail what expires."""
    now, due_at = timezone.now(), claim.batch.due_at
    claim.batch.due_at = min(at, claim.batch.expires_at, due_at if due_at > now else at)


def _every(interval_s: float, check: Callable[[], bool]) -> Callable[[], bool]:
    """A check that is asked at most once in `interval_s`, and stays false once it was; false when the worker stops."""
    state = {"next": time.monotonic() + interval_s, "answer": True}

    def ask() -> bool:
        if is_stopping():
            return False
        if state["answer"] and time.monotonic() >= state["next"]:
            state["answer"] = check()
            state["next"] = time.monotonic() + interval_s
        return bool(state["answer"])

    return ask
