"""What happens to a batch of messages: claim → build → send → record.

    claim    one transaction: take the batch by a lease; make its messages (first time) or fetch those that are due
    build    decrypt the address, render what is personal
    send     the adapter, on connections that stay open across batches; no transaction is open
    record   slices of results, each one transaction, in a thread of their own while the next requests are on the wire

PostgreSQL is the truth: whatever dies in between, the lease runs out and another worker takes the batch. What had been
sent but not recorded is then sent again, under the same collapse id, so that a device shows it once.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.db import Error as DatabaseLayerError
from django.db import connection, transaction
from django.db.models import Min
from django.utils import timezone

from apps.messaging import lifecycle, retry
from apps.messaging.adapters.base import Content, Delivery, Outcome, Result
from apps.messaging.breaker import Breaker, closed_until
from apps.messaging.content import ContentSource, recipient_variables
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, Message, MessageStatus
from apps.messaging.recorders import PLANNED, StatusCount, record
from apps.messaging.rendering import RenderError
from apps.messaging.senders import NoCredential, credential_for, sender_for
from apps.subscriptions.services import SubscriptionEnd, subscriptions_end
from apps.subscriptions.targeting import compile_criteria
from apps.tenants.models import ChannelCredential
from apps.tenants.services import credential_note_error
from automata_signal.encryption import DecryptionError, keyring
from automata_signal.ids import IdRange, new_id, new_range

log = logging.getLogger(__name__)

RECORD_SLICE = 500
"""Results recorded in one transaction."""
RECORD_AHEAD = 4
"""Slices that may wait for the recording thread before sending waits for it."""
RECORD_PATIENCE_S = 120
"""How long results are held while PostgreSQL does not answer; after that the lease runs out and they are sent again."""
STOP_CHECK_S = 0.5
"""How often sending looks whether it was paused or canceled."""


class Recipient(NamedTuple):
    """A message that is to be sent now, with what is needed to build it."""

    message_id: UUID
    subscription_id: UUID
    user_id: UUID | None
    attempts: int
    token: bytes
    test_type: int
    content: Content | None
    """Its own content where it differs from the dispatch's."""


@dataclass
class Claim:
    """A batch held by this worker until its lease runs out."""

    batch: DispatchBatch
    dispatch: Dispatch
    recipients: list[Recipient]
    unsendable: dict[str, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    """Messages that fail before anything is sent, by reason."""
    lost: bool = False
    """Another worker has taken the batch: nothing more may be sent or recorded."""

    @property
    def ids(self) -> IdRange:
        assert self.batch.first_id is not None
        return IdRange(self.batch.first_id)


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
        _fail_unsendable(claim)
        _send(claim)
    finish_batch(claim)
    return True


# --- Claim -------------------------------------------------------------------------------------------------------


def claim_batch(batch_id: UUID) -> Claim | None:
    """Take the batch if it waits and is due; its messages are committed before anything is sent."""
    with transaction.atomic():
        batch = (
            DispatchBatch.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("dispatch", "application")
            .filter(pk=batch_id, state=BatchState.WAITING)
            .exclude(dispatch__state=DispatchState.PAUSED)
            .first()
        )
        if batch is None:
            return None
        dispatch = batch.dispatch
        if batch.due_at > timezone.now() and dispatch.state != DispatchState.CANCELED:
            return None
        batch.state = BatchState.CLAIMED
        batch.lease_id = new_id()
        batch.lease_until = timezone.now() + timedelta(seconds=settings.BATCH_LEASE_S)
        batch.claims += 1
        claim = Claim(batch, dispatch, [])
        if batch.first_id is None:
            _make_messages(claim)
        else:
            _fetch_due_messages(claim)
        batch.save(update_fields=["state", "lease_id", "lease_until", "claims", "first_id", "recipient_count"])
    return claim


# The slice of a campaign's audience, by `subscription_reachable`; the predicate is asked again, since people leave.
_AUDIENCE = """
    SELECT s.id, s.user_id, s.token, s.test_type {personal}
    FROM subscriptions_subscription s {join}
    WHERE s.application_id = %s AND s.type = %s AND s.subscription_status > 0 AND NOT s.is_archived
      AND s.id BETWEEN %s AND %s AND ({predicate})
    ORDER BY s.id
"""
_PERSONAL = ", u.external_id, u.properties::text, s.tags::text, s.device_language, s.country_code"
_COPY = """
    COPY messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                            status, attempts, title, body, data, created_at) FROM STDIN
"""


def _make_messages(claim: Claim) -> None:
    """Make the pending messages of a campaign's slice, with ids of a range of their own."""
    batch, dispatch = claim.batch, claim.dispatch
    ids = new_range()
    rows = _audience_rows(batch, dispatch)
    source = ContentSource.of_dispatch(dispatch)
    now = timezone.now()
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for position, (subscription_id, user_id, token, test_type, *personal) in enumerate(rows):
            message_id = ids.at(position)
            content = _personal_content(claim, source, message_id, personal) if dispatch.is_personalised else None
            copy.write_row(
                (
                    *(message_id, batch.application_id, dispatch.pk, dispatch.campaign_id, subscription_id, user_id),
                    *(dispatch.channel_type, MessageStatus.PENDING.value, 0),
                    *((content.title, content.body, _jsonb(content.data)) if content else (None, None, None)),
                    now,
                )
            )
            claim.recipients.append(Recipient(message_id, subscription_id, user_id, 0, token, test_type, content))
    made = len(claim.recipients)
    record(_made_counts(dispatch, planned=batch.recipient_count, made=made))
    if unrendered := {message_id for ids_ in claim.unsendable.values() for message_id in ids_}:
        claim.recipients = [r for r in claim.recipients if r.message_id not in unrendered]
    batch.first_id = ids.base
    batch.recipient_count = made


def _made_counts(dispatch: Dispatch, *, planned: int, made: int) -> list[StatusCount]:
    """What was made, and by how much the slice has become smaller (people left) since it was cut."""
    scope = (dispatch.application_id, dispatch.campaign_id, dispatch.channel_type)
    made_count = StatusCount(*scope, old="", new=MessageStatus.PENDING.value, reason="", messages=made)
    left_count = StatusCount(*scope, old=PLANNED, new="", reason="", messages=planned - made)
    return [count for count in (made_count, left_count) if count.messages]


def _audience_rows(batch: DispatchBatch, dispatch: Dispatch) -> list[tuple[Any, ...]]:
    predicate = compile_criteria(dispatch.audience or {}, now=dispatch.created_at)
    needs_user = predicate.needs_user or dispatch.is_personalised
    sql = _AUDIENCE.format(
        personal=_PERSONAL if dispatch.is_personalised else "",
        join="LEFT JOIN subscriptions_appuser u ON u.id = s.user_id" if needs_user else "",
        predicate=predicate.sql,
    )
    bounds = [batch.first_subscription_id, batch.last_subscription_id]
    with connection.cursor() as cursor:
        cursor.execute(sql, [batch.application_id, batch.subscription_type, *bounds, *predicate.params])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _parsed(text: str) -> Any:
    return orjson.loads(text)


def _jsonb(value: Any) -> str:
    return orjson.dumps(value).decode()


def _personal_content(claim: Claim, source: ContentSource, message_id: UUID, personal: list[Any]) -> Content | None:
    external_id, properties, tags, language, country = personal
    variables = recipient_variables(
        external_id=external_id or "",
        properties=_parsed(properties) if properties else {},
        tags=_parsed(tags),
        language=language or claim.batch.application.default_language,
        country=country,
    )
    try:
        return source.render(variables)
    except RenderError as error:
        claim.unsendable[f"render_error: {error.message}"[:100]].append(message_id)
        return None


# Messages by the range of their primary key. A subscription that has ended since gets nothing.
_DUE = """
    SELECT m.id, m.subscription_id, m.user_id, m.attempts, m.status, m.title, m.body, m.data,
           s.token, s.test_type, COALESCE(s.subscription_status > 0 AND NOT s.is_archived, false)
    FROM messaging_message m LEFT JOIN subscriptions_subscription s ON s.id = m.subscription_id
    WHERE m.id BETWEEN %s AND %s AND m.application_id = %s
      AND (m.status = 'pending' OR (m.status = 'errored' AND (m.retry_at <= %s OR %s)))
    ORDER BY m.id
"""


def _fetch_due_messages(claim: Claim) -> None:
    """Take the batch's pending messages and those whose next attempt is due, which become pending."""
    batch, dispatch = claim.batch, claim.dispatch
    now = timezone.now()
    all_errored = dispatch.state == DispatchState.CANCELED
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [claim.ids.base, claim.ids.last, batch.application_id, now, all_errored])
        rows = cursor.fetchall()
    errored = [row[0] for row in rows if row[4] == MessageStatus.ERRORED]
    moved = _apply(claim, "retry", MessageStatus.ERRORED, errored, at=now)
    record(moved)
    for message_id, subscription_id, user_id, attempts, _status, title, body, data, token, test_type, reachable in rows:
        if not reachable:
            claim.unsendable["unsubscribed"].append(message_id)
            continue
        own = title is not None
        content = Content(title, body or "", _parsed(data) if data else {}, dispatch.options) if own else None
        claim.recipients.append(Recipient(message_id, subscription_id, user_id, attempts, token, test_type, content))


# --- Build and send ----------------------------------------------------------------------------------------------


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


# --- Record ------------------------------------------------------------------------------------------------------


@cache
def _recorder_thread() -> ThreadPoolExecutor:
    """One thread a process, which keeps its own database connection; made after the fork, on first use."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")


class Recording:
    """Collects results and records them in slices, while sending goes on."""

    def __init__(self, claim: Claim, credential: ChannelCredential, breaker: Breaker) -> None:
        self.claim = claim
        self.credential = credential
        self.breaker = breaker
        self._by_id = {recipient.message_id: recipient for recipient in claim.recipients}
        self._results: list[Result] = []
        self._running: list[Future[None]] = []

    def add(self, result: Result) -> None:
        self._results.append(result)
        if len(self._results) >= RECORD_SLICE:
            self._submit()

    def may_go_on(self) -> bool:
        """Whether more may be sent: the batch is still ours and the breaker is closed."""
        return not self.claim.lost and not self.breaker.is_open

    def finish(self) -> None:
        """Record what is left and wait for it. Raises what the recording raised."""
        if self._results:
            self._submit()
        while self._running:
            self._running.pop(0).result()

    def _submit(self) -> None:
        results, self._results = self._results, []
        self._running.append(_recorder_thread().submit(self._record_patiently, results))
        while len(self._running) > RECORD_AHEAD:
            self._running.pop(0).result()

    def _record_patiently(self, results: list[Result]) -> None:
        """Record; while PostgreSQL is away or refuses for a moment (deadlock, restart), hold the results and try again."""
        give_up_at = time.monotonic() + RECORD_PATIENCE_S
        pause_s = 0.1
        while True:
            try:
                return self._record(results)
            except DatabaseLayerError as error:
                connection.close()
                if time.monotonic() + pause_s > give_up_at:
                    raise
                log.warning("results are held: the database refused", extra={"cause": str(error)})
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)

    def _record(self, results: list[Result]) -> None:
        breaker_is_open = self.breaker.judge(results)
        now = timezone.now()
        plan = self._plan(results, now, breaker_is_open)
        with transaction.atomic():
            if not _renew_lease(self.claim):
                # Another worker has the batch and decides what becomes of it; what was accepted is a fact all the same.
                self.claim.lost = True
                plan = {step: ids for step, ids in plan.items() if step.outcome is Outcome.ACCEPTED}
            counts: list[StatusCount] = []
            for step, ids in plan.items():
                counts += _apply(
                    self.claim,
                    step.name,
                    MessageStatus.PENDING,
                    ids,
                    at=now,
                    attempted=True,
                    reason=step.reason or None,
                    details=step.details(self.credential),
                    retry_at=step.retry_at,
                )
            if not breaker_is_open:
                self._end_subscriptions(results, now)
            record(counts)
        self._note_refusal(results)

    def _plan(self, results: Sequence[Result], now: datetime, breaker_is_open: bool) -> dict[PlannedStep, list[UUID]]:
        """Group the results by what follows from them, so that a slice is a few statements."""
        plan: dict[PlannedStep, list[UUID]] = defaultdict(list)
        retries: dict[tuple[Outcome, str, int, float | None], float | None] = {}
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
                retries[alike] = retry.retry_at(
                    result, attempt=attempt, now=now.timestamp(), expires_at=self.claim.batch.expires_at.timestamp()
                )
            due = retries[alike]
            step = PlannedStep(
                "fail" if due is None else "error",
                result.outcome,
                result.reason or result.outcome.value,
                result.http_status,
                attempt,
                None if due is None else datetime.fromtimestamp(due, UTC),
            )
            plan[step].append(result.message_id)
        return plan

    def _end_subscriptions(self, results: Sequence[Result], now: datetime) -> None:
        ends = [
            SubscriptionEnd(
                subscription_id=self._by_id[r.message_id].subscription_id,
                status=r.subscription_status,
                reason=r.reason,
                gone_at=None if r.gone_at is None else datetime.fromtimestamp(r.gone_at, UTC),
            )
            for r in results
            if r.subscription_status is not None
        ]
        if ends:
            subscriptions_end(application_id=self.claim.batch.application_id, ends=ends, occurred_at=now)

    def _note_refusal(self, results: Sequence[Result]) -> None:
        """Show the operator the last refusal of the credential itself."""
        refusal = next((r for r in results if r.outcome is Outcome.CREDENTIAL), None)
        if refusal is not None:
            credential_note_error(self.credential.pk, error=f"{refusal.http_status} {refusal.reason}")


class PlannedStep(NamedTuple):
    """A transition that several messages of a slice make alike."""

    name: str
    outcome: Outcome
    reason: str = ""
    http_status: int = 0
    attempt: int = 0
    retry_at: datetime | None = None

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
        }


_ACCEPTED = PlannedStep("send", Outcome.ACCEPTED)


def _renew_lease(claim: Claim) -> bool:
    """Hold the batch for another lease; false if another worker has it."""
    until = timezone.now() + timedelta(seconds=settings.BATCH_LEASE_S)
    held = DispatchBatch.objects.filter(pk=claim.batch.pk, lease_id=claim.batch.lease_id)
    return held.update(lease_until=until) == 1


def _apply(claim: Claim, step: str, source: str, ids: Sequence[UUID], **kwargs: Any) -> list[StatusCount]:
    """`lifecycle.apply` within the claim's application; returns what the recorders are to be told."""
    application_id = claim.batch.application_id
    kwargs.setdefault("metadata", kwargs.get("details"))
    moved = lifecycle.apply(step, source=source, ids=ids, application_id=application_id, **kwargs)
    reason = kwargs.get("reason") or ""
    new = lifecycle.steps()[step].target
    return lifecycle.counts(moved, application_id=application_id, old=source, new=new, reason=reason)


def _fail_unsendable(claim: Claim) -> None:
    """Fail what cannot be built; the reason is the sender's or the recipient's, never the provider's."""
    for reason, ids in claim.unsendable.items():
        _fail(claim, MessageStatus.PENDING, ids, reason)
    claim.unsendable.clear()


def fail_rest(claim: Claim, reason: str, details: dict[str, Any] | None = None) -> None:
    """Fail all that has not left yet: canceled, expired, or nothing to send it with."""
    for source in (MessageStatus.PENDING, MessageStatus.ERRORED):
        in_batch = Message.objects.filter(id__range=(claim.ids.base, claim.ids.last), status=source)
        _fail(claim, source, list(in_batch.values_list("id", flat=True)), reason, details)


def _fail(claim: Claim, source: str, ids: Sequence[UUID], reason: str, details: dict[str, Any] | None = None) -> None:
    with transaction.atomic():
        record(_apply(claim, "fail", source, ids, at=timezone.now(), reason=reason, details=details))


# --- Finish ------------------------------------------------------------------------------------------------------


def finish_batch(claim: Claim) -> None:
    """Give the batch back: done, or waiting for the next attempt of its messages."""
    if claim.lost:
        return
    _fail_unsendable(claim)
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
