"""Delivering: POSTs to the endpoints, each lane's one after the other, many lanes at a time.

A delivery leaves its lane when the receiver took it, and not before: a worker that dies between the answer and the
record sends it again (at least once), and what comes after it in the lane waits (in order). What fails is tried again
after a while; when that has gone on for `WEBHOOK_RETRY_HOURS`, the endpoint is disabled and its lanes stay where they
are, unless it took others meanwhile: then the delivery itself is at fault, and given up.

The main thread has the database; the others have a POST each, and nothing else.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.messaging.stopping import is_stopping
from apps.messaging.webhooks.disabling import endpoint_disable
from apps.messaging.webhooks.lanes import Lane, delay_s, lane_release, lane_renew, lanes_claim
from apps.messaging.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from apps.messaging.webhooks.payloads import body_of
from apps.messaging.webhooks.signing import signatures_of
from apps.tenants.operations.switches import WEBHOOKS, is_on
from automata_signal import metrics, outgoing
from automata_signal.celery import Task, send_tasks
from automata_signal.encryption import DecryptionError

log = logging.getLogger(__name__)

TASK_MAX_S = 20.0
"""Then it goes on in a new task: a worker that is told to stop waits for no more than this and a time-out."""
TURN_S = 2.0
"""Then a lane is given back: another may be waiting for longer."""
CLAIM_EVERY_S = 0.2
GONE = 410
"""The receiver's word that it wants no more: the endpoint is disabled at once."""
ERROR_MAX = 200
SEEN_EVERY = timedelta(seconds=10)
"""How exact `last_success_at` is: all lanes of an endpoint share its row."""
UNREADABLE = "its secret cannot be decrypted: make a new one"
QUEUE = "webhooks"


class Post(NamedTuple):
    """A delivery, ready to be sent."""

    lane: Lane
    turn_ends_at: float
    delivery: WebhookDelivery
    """With its endpoint."""
    body: bytes
    headers: dict[str, str]
    events: int


class Attempt(NamedTuple):
    """What became of a POST."""

    status: int | None
    error: str
    """In words that tell nothing of our network; empty when it was taken."""
    duration_ms: int


def deliver_due(*, max_s: float = TASK_MAX_S) -> bool:
    """Deliver until nothing is ready or `max_s` are over; True if there may be more."""
    slots = settings.WEBHOOK_POSTS_AT_ONCE
    running: dict[Future[Attempt], Post] = {}
    ends_at, claim_at = time.monotonic() + max_s, 0.0
    with ThreadPoolExecutor(slots, thread_name_prefix="webhooks") as pool:

        def start(lane: Lane, turn_ends_at: float) -> None:
            if (post := _next(lane, turn_ends_at)) is not None:
                running[pool.submit(_send, post)] = post

        while True:
            now = time.monotonic()
            is_stopped = not is_on(WEBHOOKS)
            is_over = is_stopped or now >= ends_at or is_stopping()
            if not is_over and len(running) < slots and (now >= claim_at or not running):
                claimed = lanes_claim(limit=slots - len(running))
                claim_at = now + CLAIM_EVERY_S
                for lane in claimed:
                    start(lane, now + TURN_S)
                if not running:
                    return bool(claimed)
            if not running:
                return not is_stopped
            for future in wait(running, timeout=CLAIM_EVERY_S, return_when=FIRST_COMPLETED).done:
                post = running.pop(future)
                if not _record(post, _attempt(future)):
                    continue
                if not is_over and time.monotonic() < post.turn_ends_at:
                    start(post.lane, post.turn_ends_at)
                else:
                    lane_release(post.lane)
                    claim_at = 0.0


def queue_deliver() -> None:
    """While one waits for a worker, no other is queued. If the broker does not answer, beat's next tick goes on."""
    send_tasks([Task("messaging.deliver_webhooks", [], QUEUE, mark="webhooks.deliver")])


# --- One POST ------------------------------------------------------------------------------------------------------


def _next(lane: Lane, turn_ends_at: float) -> Post | None:
    """The lane's next delivery; None, and the lane is given back, if there is none that may be sent."""
    if not lane_renew(lane):
        return None
    waiting = WebhookDelivery.objects.filter(
        endpoint_id=lane.endpoint_id, lane=lane.number, state=DeliveryState.WAITING
    )
    secrets = ("endpoint__secret", "endpoint__previous_secret")
    while delivery := waiting.select_related("endpoint").defer(*secrets).order_by("sequence").first():
        if not delivery.endpoint.is_active:
            break
        body, events = body_of(delivery)
        if not events:
            _leave_out(delivery)
            continue
        return _post(lane, turn_ends_at, delivery, body, events)
    lane_release(lane)
    return None


def _leave_out(delivery: WebhookDelivery) -> None:
    """None of its events is kept any more: there is nothing to say."""
    delivery.state, delivery.error = DeliveryState.PARKED, "its events are no longer kept"
    delivery.save(update_fields=["state", "error"])


def _post(lane: Lane, turn_ends_at: float, delivery: WebhookDelivery, body: bytes, events: int) -> Post:
    try:
        signed = signatures_of(delivery.endpoint_id, body)
    except DecryptionError:
        signed = {}
    headers = {
        "Content-Type": "application/json",
        "X-Automata-Delivery": str(delivery.pk),
        "X-Automata-Attempt": str(delivery.attempts + 1),
        **signed,
    }
    return Post(lane, turn_ends_at, delivery, body, headers if signed else {}, events)


def _send(post: Post) -> Attempt:
    """In a thread. Nothing is raised but what is a bug."""
    if not post.headers:
        return Attempt(None, UNREADABLE, 0)
    began = time.monotonic()
    status: int | None = None
    try:
        answer = outgoing.post(post.delivery.endpoint.url, post.body, post.headers)
        status, error = answer.status, "" if answer.is_success else _refusal(answer.status)
    except (outgoing.OutgoingRefused, outgoing.OutgoingFailed) as refused:
        error = str(refused)
    return Attempt(status, error[:ERROR_MAX], int((time.monotonic() - began) * 1_000))


def _refusal(status: int) -> str:
    return f"the server answered {status}{': redirects are not followed' if 300 <= status < 400 else ''}"


def _attempt(future: Future[Attempt]) -> Attempt:
    try:
        return future.result()
    except Exception:
        log.exception("a webhook could not be sent")
        return Attempt(None, "something failed on our side", 0)


# --- What follows --------------------------------------------------------------------------------------------------


def _record(post: Post, attempt: Attempt) -> bool:
    """Write down what became of it; whether the lane goes on with what comes next."""
    is_taken, seconds = not attempt.error, attempt.duration_ms / 1_000
    metrics.webhook_posted(attempt.status, is_taken=is_taken, events=post.events, seconds=seconds)
    return _taken(post, attempt) if is_taken else _refused(post, attempt)


@transaction.atomic
def _taken(post: Post, attempt: Attempt) -> bool:
    """That the receiver has it is a fact, whoever holds the lane by now."""
    now = timezone.now()
    _describe(post.delivery, attempt, now, state=DeliveryState.DELIVERED)
    stale = WebhookEndpoint.objects.filter(pk=post.lane.endpoint_id).exclude(
        consecutive_failures=0, last_success_at__gt=now - SEEN_EVERY
    )
    stale.update(consecutive_failures=0, last_success_at=now)
    return True


@transaction.atomic
def _refused(post: Post, attempt: Attempt) -> bool:
    now = timezone.now()
    if not lane_renew(post.lane):
        return False  # another worker tries it, and decides what follows
    delivery, endpoint_id = post.delivery, post.lane.endpoint_id
    first = delivery.first_attempt_at or now
    gives_up = first + timedelta(hours=settings.WEBHOOK_RETRY_HOURS)
    if attempt.status != GONE and now >= gives_up and _took_others(post, since=first):
        _describe(delivery, attempt, now, state=DeliveryState.PARKED)
        return True
    _describe(delivery, attempt, now, state=DeliveryState.WAITING)
    WebhookEndpoint.objects.filter(pk=endpoint_id).update(
        consecutive_failures=F("consecutive_failures") + 1, last_error=attempt.error, last_error_at=now
    )
    if attempt.status == GONE or now >= gives_up:
        endpoint_disable(endpoint_id, reason=attempt.error, now=now)
        lane_release(post.lane)
    else:
        wait_s = delay_s(delivery.attempts + 1)
        lane_release(post.lane, retry_at=min(now + timedelta(seconds=wait_s), gives_up))
    return False


def _took_others(post: Post, *, since: datetime) -> bool:
    return WebhookEndpoint.objects.filter(pk=post.lane.endpoint_id, last_success_at__gt=since).exists()


def _describe(delivery: WebhookDelivery, attempt: Attempt, now: datetime, *, state: DeliveryState) -> None:
    rows = WebhookDelivery.objects.filter(pk=delivery.pk, state=DeliveryState.WAITING)
    rows.update(
        state=state,
        attempts=F("attempts") + 1,
        first_attempt_at=delivery.first_attempt_at or now,
        attempted_at=now,
        status=attempt.status,
        duration_ms=attempt.duration_ms,
        error=attempt.error,
    )
