"""What happens to a batch of messages: claim → build → send → record.

    claim    one transaction: take the batch by a lease; make its messages (first time) or fetch those that are due
    build    decrypt the address, render what is personal
    send     the adapter, on connections that stay open across batches; no transaction is open
    record   slices of results, each one transaction, in a thread of their own while the next requests are on the wire

PostgreSQL is the truth: whatever dies in between, the lease runs out and another worker takes the batch. What had been
sent but not recorded is then sent again, under the same collapse id, so that a device shows it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from operator import length_hint
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Min, Q
from django.utils import timezone

from apps.messaging import retry
from apps.messaging.adapters.base import Content, Delivery
from apps.messaging.breaker import Breaker
from apps.messaging.claims import Claim, Recipient, claim_batch, fail_rest, fail_unsendable
from apps.messaging.content import ContentSource
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, Message, MessageStatus, Priority
from apps.messaging.rates import Pace, credential_bucket, device_waits, dispatch_buckets
from apps.messaging.recording import Recording
from apps.messaging.senders import NoCredential, Route, route_for, sender_for
from apps.messaging.stopping import is_stopping
from automata_signal.encryption import DecryptionError, keyring

STOP_CHECK_S = 0.5
"""How often sending looks whether it was paused or canceled."""


def run_batch(batch_id: UUID, application_id: UUID | None = None) -> bool:
    """Send what is due of a batch. False if it was not to be had: held by another, not due, paused or done; or if this
    worker is to stop, then the sweep queues the batch for another one."""
    if is_stopping():
        DispatchBatch.objects.filter(pk=batch_id, state=BatchState.WAITING).update(queued_at=None)
        return False
    claim = claim_batch(batch_id, application_id)
    if claim is None:
        return False
    if claim.dispatch.state == DispatchState.CANCELED:
        fail_rest(claim, retry.CANCELED)
    elif claim.batch.expires_at <= timezone.now():
        fail_rest(claim, retry.EXPIRED)
    else:
        fail_unsendable(claim)
        _send(claim)
    finish_batch(claim)
    return True


def _send(claim: Claim) -> None:
    """Send to every recipient of the claim and record every answer.

    Stops when paused, canceled or taken over; and when its rate, its throttle or an open breaker would make it wait for
    long, which sets when the batch is to come back. When a breaker opens, the next credential takes what is left.
    """
    if not claim.recipients:
        return
    rest: Iterator[Recipient] | None = None
    while rest is None or length_hint(rest):
        try:
            route = route_for(claim.batch.application_id, claim.batch.subscription_type)
        except NoCredential as problem:
            fail_rest(claim, "no_credential", details={"class": retry.Fault.SENDER, "message": str(problem)})
            return
        if isinstance(route, datetime):
            _come_back(claim, route)
            return
        if rest is None:
            rest = iter(_within_device_limits(claim, route))
        if not _send_by(route, claim, rest):
            return


def _send_by(route: Route, claim: Claim, rest: Iterator[Recipient]) -> bool:
    """Send by one credential. True if what is left is to find a route anew: after a probe, or an opened breaker."""
    credential = route.credential
    breaker = Breaker(credential, is_probe=route.is_probe, has_next=route.has_next)
    recording = Recording(claim, credential, breaker, is_stand_in=route.is_stand_in)
    buckets = [*dispatch_buckets(claim.dispatch), *([] if route.is_probe else [credential_bucket(credential)])]
    pace = Pace(buckets, is_urgent=claim.batch.priority == Priority.HIGH)
    most = settings.BREAKER_PROBE_MESSAGES if route.is_probe else len(claim.recipients)
    sender = sender_for(credential, claim.batch.subscription_type)
    provider_expiry = claim.batch.expires_at.timestamp() if claim.dispatch.ttl_s else 0.0
    try:
        for result in sender.send(_deliveries(claim, rest, most, recording, pace), expires_at=provider_expiry):
            recording.add(result)
    finally:
        recording.finish()
    breaker.release()
    if pace.back_in_s is not None:
        _come_back(claim, timezone.now() + timedelta(seconds=pace.back_in_s))
        return False
    return (route.is_probe or breaker.is_open) and not claim.lost and not is_stopping() and _is_active(claim)


def _deliveries(
    claim: Claim, rest: Iterator[Recipient], most: int, recording: Recording, pace: Pace
) -> Iterator[Delivery | None]:
    """Build one delivery after another, `most` at most, as fast as `pace` allows; ends early when sending is to stop.

    None while there is nothing to send yet.
    """
    shared = ContentSource.of_dispatch(claim.dispatch).render({}) if not claim.dispatch.is_personalised else Content()
    decrypt = keyring().decrypt
    may_go_on = _every(STOP_CHECK_S, lambda: recording.may_go_on(look=True) and _is_active(claim))
    while (wanted := min(most, length_hint(rest))) and recording.may_go_on() and may_go_on():
        chunk = pace.take(wanted)
        if chunk is None:
            return
        if not chunk:
            yield None
            continue
        most -= chunk
        for recipient in islice(rest, chunk):
            chunk -= 1
            try:
                address = decrypt(recipient.token).decode()
            except DecryptionError:
                claim.unsendable["token_unreadable"].append(recipient.message_id)
                continue
            yield Delivery(recipient.message_id, address, recipient.content or shared, recipient.test_type)
            if not may_go_on():
                pace.put_back(chunk)
                return


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


def _is_active(claim: Claim) -> bool:
    return _in_state(claim, DispatchState.ACTIVE)


def _in_state(claim: Claim, state: DispatchState) -> bool:
    orders = Dispatch.objects.filter(application_id=claim.batch.application_id, pk=claim.dispatch.pk)
    return orders.filter(state=state).exists()


def finish_batch(claim: Claim) -> None:
    """Give the batch back: done, or waiting for the next attempt of its messages."""
    if claim.lost:
        return
    fail_unsendable(claim)
    if _was_canceled(claim):
        fail_rest(claim, retry.CANCELED)
    in_batch = Message.objects.filter(
        application_id=claim.batch.application_id, id__range=(claim.ids.base, claim.ids.last)
    )
    state = in_batch.aggregate(  # one look at the range for all three
        pending=Count("id", filter=Q(status=MessageStatus.PENDING)),
        failed=Count("id", filter=Q(status=MessageStatus.FAILED)),
        next_retry=Min("retry_at", filter=Q(status=MessageStatus.ERRORED)),
    )
    next_retry = state["next_retry"]
    changes: dict[str, Any] = {"lease_id": None, "lease_until": None, "queued_at": None}
    changes |= {"has_failed": True} if state["failed"] else {}
    if state["pending"]:
        due_at = max(claim.batch.due_at, timezone.now())
        changes |= {"state": BatchState.WAITING, "due_at": min(due_at, next_retry or due_at)}
    elif next_retry is not None:
        changes |= {"state": BatchState.WAITING, "due_at": next_retry}
    else:
        changes |= {"state": BatchState.DONE, "finished_at": timezone.now()}
    held = DispatchBatch.objects.filter(application_id=claim.batch.application_id, pk=claim.batch.pk)
    held.filter(lease_id=claim.batch.lease_id).update(**changes)


def _was_canceled(claim: Claim) -> bool:
    return _in_state(claim, DispatchState.CANCELED)
