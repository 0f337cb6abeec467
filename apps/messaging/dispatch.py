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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Min
from django.utils import timezone

from apps.messaging import retry
from apps.messaging.adapters.base import Content, Delivery
from apps.messaging.breaker import Breaker, closed_until
from apps.messaging.claims import Claim, claim_batch, fail_rest, fail_unsendable
from apps.messaging.content import ContentSource
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, Message, MessageStatus
from apps.messaging.recording import Recording
from apps.messaging.senders import NoCredential, credential_for, sender_for
from automata_signal.encryption import DecryptionError, keyring

STOP_CHECK_S = 0.5
"""How often sending looks whether it was paused or canceled."""


def run_batch(batch_id: UUID) -> bool:
    """Send what is due of a batch. False if it was not to be had: held by another, not due, paused or done."""
    claim = claim_batch(batch_id)
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
    """Send to every recipient of the claim and record every answer; stops when paused, canceled or taken over."""
    if not claim.recipients:
        return
    try:
        credential = credential_for(claim.batch.application_id, claim.batch.subscription_type)
    except NoCredential as problem:
        fail_rest(claim, "no_credential", details={"class": retry.Fault.SENDER, "message": str(problem)})
        return
    if (until := closed_until(credential)) is not None:
        claim.batch.due_at = datetime.fromtimestamp(until, UTC)
        return
    breaker = Breaker(credential)
    recording = Recording(claim, credential, breaker)
    sender = sender_for(credential, claim.batch.subscription_type)
    ttl_s = claim.dispatch.ttl_s
    provider_expiry = claim.batch.expires_at.timestamp() if ttl_s else 0.0
    try:
        for result in sender.send(_deliveries(claim, recording), expires_at=provider_expiry):
            recording.add(result)
    finally:
        recording.finish()


def _deliveries(claim: Claim, recording: Recording) -> Iterator[Delivery]:
    """Build one delivery after another while there is time; ends early when sending is to stop."""
    shared = ContentSource.of_dispatch(claim.dispatch).render({}) if not claim.dispatch.is_personalised else Content()
    decrypt = keyring().decrypt
    may_go_on = _every(STOP_CHECK_S, lambda: recording.may_go_on() and _is_active(claim))
    for recipient in claim.recipients:
        if not may_go_on():
            return
        try:
            address = decrypt(recipient.token).decode()
        except DecryptionError:
            claim.unsendable["token_unreadable"].append(recipient.message_id)
            continue
        yield Delivery(recipient.message_id, address, recipient.content or shared, recipient.test_type)


def _every(interval_s: float, check: Callable[[], bool]) -> Callable[[], bool]:
    """A check that is asked at most once in `interval_s`, and stays false once it was."""
    state = {"next": time.monotonic() + interval_s, "answer": True}

    def ask() -> bool:
        if state["answer"] and time.monotonic() >= state["next"]:
            state["answer"] = check()
            state["next"] = time.monotonic() + interval_s
        return bool(state["answer"])

    return ask


def _is_active(claim: Claim) -> bool:
    return Dispatch.objects.filter(pk=claim.dispatch.pk, state=DispatchState.ACTIVE).exists()


def finish_batch(claim: Claim) -> None:
    """Give the batch back: done, or waiting for the next attempt of its messages."""
    if claim.lost:
        return
    fail_unsendable(claim)
    if _was_canceled(claim):
        fail_rest(claim, retry.CANCELED)
    in_batch = Message.objects.filter(id__range=(claim.ids.base, claim.ids.last))
    pending = in_batch.filter(status=MessageStatus.PENDING).exists()
    next_retry = in_batch.filter(status=MessageStatus.ERRORED).aggregate(at=Min("retry_at"))["at"]
    changes: dict[str, Any] = {"lease_id": None, "lease_until": None, "queued_at": None}
    if pending:
        changes |= {"state": BatchState.WAITING, "due_at": max(claim.batch.due_at, timezone.now())}
    elif next_retry is not None:
        changes |= {"state": BatchState.WAITING, "due_at": next_retry}
    else:
        changes |= {"state": BatchState.DONE, "finished_at": timezone.now()}
    DispatchBatch.objects.filter(pk=claim.batch.pk, lease_id=claim.batch.lease_id).update(**changes)


def _was_canceled(claim: Claim) -> bool:
    return Dispatch.objects.filter(pk=claim.dispatch.pk, state=DispatchState.CANCELED).exists()
