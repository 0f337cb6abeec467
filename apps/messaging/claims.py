"""Taking a batch, and having its messages: one transaction, committed before anything is sent.

A campaign's messages are made when their batch is first claimed (`making`); the claim and its messages are one
transaction, so a crash neither skips nor repeats a recipient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.messaging import charges, lifecycle, retry
from apps.messaging.adapters.base import Attachment, Content
from apps.messaging.chains.reached import users_reached
from apps.messaging.chains.steps import REACHED, of_chain
from apps.messaging.courtesy.caps import CAPPED
from apps.messaging.courtesy.claiming import be_polite
from apps.messaging.courtesy.wanted import unwanted_messages
from apps.messaging.making import Recipient, make_messages
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, Message, MessageStatus
from apps.messaging.recorders import PLANNED, StatusCount, record
from apps.tenants.operations.switches import may_send
from automata_signal.ids import IdRange, new_id
from automata_signal.prepared import prepared_cursor


@dataclass
class Claim:
    """A batch held by this worker until its lease runs out."""

    batch: DispatchBatch
    dispatch: Dispatch
    recipients: list[Recipient]
    unsendable: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Messages that fail before anything is sent, by reason."""
    attachments: tuple[Attachment, ...] = ()
    """Go along with every message."""
    held: list[str] = field(default_factory=list)
    """Messages that stay pending for courtesy, until `held_until` at the earliest."""
    held_until: datetime | None = None
    lives_until: datetime | None = None
    """When the batch expires instead, for those who wait."""
    send_before: datetime | None = None
    """When a rule begins under which some of these recipients would have to wait."""
    lost: bool = False
    """Another worker has taken the batch: nothing more may be sent or recorded."""
    is_finished: bool = False
    """It was given back: `finish_batch`."""

    @property
    def ids(self) -> IdRange:
        assert self.batch.first_id is not None
        return IdRange(self.batch.first_id)

    @property
    def is_in_time(self) -> bool:
        """Whether what was claimed may still leave; the rest is claimed again, and looked at anew."""
        return self.send_before is None or timezone.now() < self.send_before

    @property
    def reserved_at(self) -> datetime | None:
        """When its messages were reserved (`DispatchBatch.reserved_at`)."""
        return self.batch.reserved_at


def claim_batch(batch_id: UUID, application_id: UUID | None = None) -> Claim | None:
    """Take the batch if it waits and is due; its messages are committed before anything is sent.

    `application_id` is looked up unless the caller knows it.
    """
    application_id = application_id or _application_of(batch_id)
    if application_id is None:
        return None
    with transaction.atomic():
        batch = (
            DispatchBatch.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("dispatch")
            .filter(application_id=application_id, dispatch__application_id=application_id)
            .filter(pk=batch_id, state=BatchState.WAITING)
            .exclude(dispatch__state=DispatchState.PAUSED)
            .first()
        )
        if batch is None:
            return None
        is_canceled = batch.dispatch.state == DispatchState.CANCELED
        if not is_canceled and (batch.due_at > timezone.now() or not may_send(batch.dispatch.channel_type)):
            return None
        return _take(batch)


class Way(NamedTuple):
    """What batches have in common that can leave behind each other."""

    application_id: UUID
    subscription_type: str
    priority: str

    @classmethod
    def of(cls, batch: DispatchBatch) -> Way:
        return cls(batch.application_id, batch.subscription_type, batch.priority)


_LOOK = """
    SELECT state, subscription_type, priority FROM messaging_dispatchbatch WHERE application_id = %s AND id = %s
"""
# Index: `batch_next`.
_NEXT = """
    SELECT b.id FROM messaging_dispatchbatch b JOIN messaging_dispatch d ON d.id = b.dispatch_id
    WHERE b.application_id = %(application_id)s AND d.application_id = %(application_id)s
      AND b.subscription_type = %(subscription_type)s AND b.priority = %(priority)s
      AND b.state = 'waiting' AND b.due_at <= %(now)s AND d.state <> 'paused'
    ORDER BY b.due_at, b.id LIMIT 1 FOR UPDATE OF b SKIP LOCKED
"""


def claim_batch_or_next(batch_id: UUID, application_id: UUID) -> Claim | None:
    """Take the batch; if another has it already, as is usual, the next one that goes the same way."""
    with prepared_cursor() as cursor:
        cursor.execute(_LOOK, [application_id, batch_id])
        row = cursor.fetchone()
    if row is None:
        return None
    state, *way = row
    claim = claim_batch(batch_id, application_id) if state == BatchState.WAITING else None
    return claim or claim_next(Way(application_id, *way))


def claim_next(way: Way) -> Claim | None:
    """Take the batch that is due longest of those that go this way, if there is one."""
    with transaction.atomic():
        with prepared_cursor() as cursor:
            cursor.execute(_NEXT, way._asdict() | {"now": timezone.now()})
            row = cursor.fetchone()
        if row is None:
            return None
        batches = DispatchBatch.objects.select_related("dispatch").filter(dispatch__application_id=way.application_id)
        batch = batches.get(application_id=way.application_id, pk=row[0])
        if batch.dispatch.state != DispatchState.CANCELED and not may_send(batch.dispatch.channel_type):
            return None
        return _take(batch)


def _take(batch: DispatchBatch) -> Claim:
    """Lease the locked batch, and have its messages; in the caller's transaction.

    Courtesy counts people, whom other campaigns count too, so it comes before the campaign's counters and the quota.
    """
    batch.state = BatchState.CLAIMED
    batch.lease_id = new_id()
    batch.lease_until = timezone.now() + timedelta(seconds=settings.BATCH_LEASE_S)
    batch.claims += 1
    claim = Claim(batch, batch.dispatch, [])
    planned = batch.recipient_count
    counts = _make(claim) if batch.first_id is None else _fetch_due_messages(claim)
    be_polite(claim)
    record(counts, reserved_at=claim.reserved_at)
    if batch.recipient_count > planned and not batch.is_over_quota:
        _reserve_joined(claim, batch.recipient_count - planned)
    names = ("state", "lease_id", "lease_until", "claims", "first_id", "recipient_count")
    claimed = DispatchBatch.objects.filter(application_id=batch.application_id, pk=batch.pk)
    claimed.update(**{name: getattr(batch, name) for name in names})
    for reason, fault in _DECIDED_AT_ONCE.items():
        if ids := claim.unsendable.pop(reason, None):
            _fail(claim, MessageStatus.PENDING, ids, reason, details={"class": fault})
    return claim


_DECIDED_AT_ONCE = {CAPPED: retry.Fault.RECIPIENT, retry.UNKNOWN_OUTCOME: retry.Fault.PROVIDER}
"""Reasons that are decided in the transaction of the claim, since it has counted or found them, and whose fault each
is: whatever else becomes of the batch (canceled, expired), these stay."""


def _make(claim: Claim) -> list[StatusCount]:
    """Have the messages of a campaign's slice made; the batch then names their range."""
    planned = claim.batch.recipient_count
    made = make_messages(claim.batch, claim.dispatch)
    claim.recipients = made.recipients
    claim.unsendable.update(made.unsendable)
    claim.batch.first_id = made.ids.base
    claim.batch.recipient_count = made.messages
    return _made_counts(claim.dispatch, planned=planned, made=made.messages)


def _reserve_joined(claim: Claim, joined: int) -> None:
    """Reserve for those who have joined the slice since it was cut. Whom the quota has no room for is left out: the
    last of the slice, as if they had not joined."""
    dispatch, batch = claim.dispatch, claim.batch
    left_out = joined - charges.reserve(
        application_id=dispatch.application_id, channel_type=dispatch.channel_type, messages=joined, at_most=True
    )
    if not left_out:
        return
    batch.recipient_count -= left_out
    first = str(claim.ids.at(batch.recipient_count))
    messages = Message.objects.filter(application_id=dispatch.application_id, id__range=(first, claim.ids.last))
    messages.delete()
    claim.recipients = [recipient for recipient in claim.recipients if recipient.message_id < first]
    claim.held = [message_id for message_id in claim.held if message_id < first]
    for reason, ids in claim.unsendable.items():
        claim.unsendable[reason] = [message_id for message_id in ids if message_id < first]
    scope = (dispatch.application_id, dispatch.campaign_id, dispatch.channel_type)
    record([StatusCount(*scope, old=PLANNED, new="", reason="", messages=left_out, dispatch_id=dispatch.pk)])


def _made_counts(dispatch: Dispatch, *, planned: int, made: int) -> list[StatusCount]:
    """What was made, and by how much the slice has become smaller (people left) since it was cut."""
    scope = (dispatch.application_id, dispatch.campaign_id, dispatch.channel_type)
    pending = MessageStatus.PENDING.value
    made_count = StatusCount(*scope, old="", new=pending, reason="", messages=made, dispatch_id=dispatch.pk)
    left_count = StatusCount(*scope, old=PLANNED, new="", reason="", messages=planned - made, dispatch_id=dispatch.pk)
    return [count for count in (made_count, left_count) if count.messages]


def _application_of(batch_id: UUID) -> UUID | None:
    return DispatchBatch.objects.filter(pk=batch_id).values_list("application_id", flat=True).first()


# Messages by the range of their primary key. What a worker that died had handed over may have arrived
# (`note_handed_over`); a subscription that has ended since gets nothing; and what was meant for a
# person does not go to a device which that person has signed out of, or which is somebody else's now.
_DUE = """
    SELECT m.id::text, m.subscription_id::text, m.attempts, m.status, m.title, m.body, m.data,
           s.token, s.test_type,
           CASE WHEN m.status = 'pending' AND m.retry_at IS NOT NULL THEN 'unknown_outcome'
                WHEN s.id IS NULL OR s.is_archived OR (s.subscription_status <= 0
                     AND NOT (%s AND s.subscription_status = -98)) THEN 'unsubscribed'
                WHEN m.user_id IS NOT NULL AND s.user_id IS DISTINCT FROM m.user_id
                     AND (m.title IS NOT NULL OR %s) THEN 'logged_out' END
    FROM messaging_message m
         LEFT JOIN subscriptions_subscription s ON s.id = m.subscription_id AND s.application_id = m.application_id
    WHERE m.id BETWEEN %s AND %s AND m.application_id = %s
      AND (m.status = 'pending' OR (m.status = 'errored' AND (m.retry_at <= %s OR %s)))
    ORDER BY m.id
"""


def _fetch_due_messages(claim: Claim) -> list[StatusCount]:
    """Take the batch's pending messages and those whose next attempt is due, which become pending."""
    batch, dispatch = claim.batch, claim.dispatch
    now = timezone.now()
    all_errored = dispatch.state == DispatchState.CANCELED
    with connection.cursor() as cursor:
        is_named = dispatch.audience is None
        kinds = [dispatch.reaches_pending, is_named]
        cursor.execute(_DUE, [*kinds, claim.ids.base, claim.ids.last, batch.application_id, now, all_errored])
        rows = cursor.fetchall()
    reached = _reached_by_chain(claim)
    unwanted = unwanted_messages(dispatch, claim.ids)
    errored = [row[0] for row in rows if row[3] == MessageStatus.ERRORED]
    moved = move(claim, "retry", MessageStatus.ERRORED, errored, at=now)
    for message_id, subscription_id, attempts, _status, title, body, data, token, test_type, problem in rows:
        if problem is None and title is None and dispatch.is_personalised:
            problem = "render_error"  # found when it was made, by a worker that died before it said so
        if problem is None and message_id in reached:
            problem = retry.ALREADY_REACHED
        problem = problem or unwanted.get(message_id)
        if problem is not None:
            claim.unsendable[problem].append(message_id)
            continue
        own = title is not None
        content = Content(title, body or "", orjson.loads(data) if data else {}, dispatch.options) if own else None
        claim.recipients.append(Recipient(message_id, subscription_id, attempts, token, test_type, content))
    return moved


def _reached_by_chain(claim: Claim) -> set[str]:
    """Messages of a chain's further step whose user an earlier step has reached since: a receipt ends the chain."""
    dispatch = claim.dispatch
    if dispatch.chain_id is None or not dispatch.chain_step:
        return set()
    messages = Message.objects.filter(
        application_id=dispatch.application_id, id__range=(claim.ids.base, claim.ids.last), user_id__isnull=False
    )
    user_of = dict(messages.values_list("pk", "user_id"))
    before = of_chain(dispatch.application_id, dispatch.chain_id, chain_step__lt=dispatch.chain_step)
    reached = users_reached(
        application_id=dispatch.application_id,
        chain_id=dispatch.chain_id,
        dispatch_ids=before.values_list("pk", flat=True),
        user_ids=set(user_of.values()),
        states=REACHED[dispatch.follow_until],
    )
    return {str(message_id) for message_id, user_id in user_of.items() if str(user_id) in reached}


_RENEW = """
    UPDATE messaging_dispatchbatch SET lease_until = %(until)s
    WHERE application_id = %(application_id)s AND id = %(batch_id)s AND lease_id = %(lease_id)s
"""


def renew_lease(claim: Claim) -> bool:
    """Hold the batch for another lease; false if another worker has it."""
    until = timezone.now() + timedelta(seconds=settings.BATCH_LEASE_S)
    with prepared_cursor() as cursor:
        cursor.execute(_RENEW, _held(claim) | {"until": until})
        return int(cursor.rowcount) == 1


def _held(claim: Claim) -> dict[str, Any]:
    """What finds the batch of a claim while the lease is ours."""
    batch = claim.batch
    return {"application_id": batch.application_id, "batch_id": batch.pk, "lease_id": batch.lease_id}


# By primary key, and HOT.
_HAND_OVER = """
    UPDATE messaging_message SET retry_at = %(at)s
    WHERE application_id = %(application_id)s AND id BETWEEN %(first)s AND %(last)s AND id = ANY(%(ids)s::uuid[])
      AND status = 'pending'
"""


def note_handed_over(claim: Claim, ids: Sequence[str], *, taken_back: bool = False) -> None:
    """Write down that these messages, in the order of their ids, are about to leave, or did not after all: where a
    second one does harm, a worker's death must not be the reason for it. A pending message has no next attempt, so that
    its `retry_at` can say so; recording what became of it forgets it."""
    if ids:
        values: dict[str, Any] = {"at": None if taken_back else timezone.now(), "first": ids[0], "last": ids[-1]}
        values |= {"application_id": claim.batch.application_id, "ids": f"{{{','.join(ids)}}}"}
        with connection.cursor() as cursor:
            cursor.execute(_HAND_OVER, values)


def move(claim: Claim, step: str, source: str, ids: Sequence[UUID | str], **kwargs: Any) -> list[StatusCount]:
    """`lifecycle.apply` within the claim's application."""
    kwargs.setdefault("metadata", kwargs.get("details"))
    return lifecycle.apply(step, source=source, ids=ids, application_id=claim.batch.application_id, **kwargs)


def fail_unsendable(claim: Claim) -> None:
    """Fail what cannot be built; the reason is the sender's or the recipient's, never the provider's."""
    for reason, ids in claim.unsendable.items():
        _fail(claim, MessageStatus.PENDING, ids, reason)
    claim.unsendable.clear()


def fail_rest(claim: Claim, reason: str, details: dict[str, Any] | None = None) -> None:
    """Fail all that has not left yet: canceled, expired, or nothing to send it with."""
    for source in (MessageStatus.PENDING, MessageStatus.ERRORED):
        in_batch = Message.objects.filter(
            application_id=claim.batch.application_id, id__range=(claim.ids.base, claim.ids.last), status=source
        )
        _fail(claim, source, list(in_batch.values_list("id", flat=True)), reason, details)


def _fail(
    claim: Claim, source: str, ids: Sequence[UUID | str], reason: str, details: dict[str, Any] | None = None
) -> None:
    with transaction.atomic():
        counts = move(claim, "fail", source, ids, at=timezone.now(), reason=reason, details=details)
        record(counts, reserved_at=claim.reserved_at)


# What the range of the batch still holds decides what becomes of the batch: it comes back for the next attempt, for who
# waits for courtesy if nobody else is left, else at once or when it was told to. One that was canceled meanwhile and
# has something left is not touched: that is to be failed first.
_FINISH = """
    UPDATE messaging_dispatchbatch b
    SET lease_id = NULL, lease_until = NULL, queued_at = NULL, has_failed = b.has_failed OR m.failed > 0,
        expires_at = greatest(b.expires_at, %(lives_until)s::timestamptz),
        state = CASE WHEN m.is_over THEN 'done' ELSE 'waiting' END,
        finished_at = CASE WHEN m.is_over THEN %(now)s::timestamptz END,
        due_at = CASE WHEN m.is_over THEN b.due_at
                      WHEN m.pending = 0 THEN m.next_retry
                      WHEN m.pending <= %(held)s THEN least(%(held_until)s::timestamptz, m.next_retry)
                      ELSE least(greatest(%(due_at)s::timestamptz, %(now)s::timestamptz), m.next_retry) END
    FROM messaging_dispatch d, (
        SELECT *, pending = 0 AND next_retry IS NULL AS is_over
        FROM (
            SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
                   count(*) FILTER (WHERE status = 'failed') AS failed,
                   min(retry_at) FILTER (WHERE status = 'errored') AS next_retry
            FROM messaging_message
            WHERE application_id = %(application_id)s AND id BETWEEN %(first)s AND %(last)s
        ) counted
    ) m
    WHERE b.application_id = %(application_id)s AND b.id = %(batch_id)s AND b.lease_id = %(lease_id)s
      AND d.application_id = %(application_id)s AND d.id = %(dispatch_id)s AND (d.state <> 'canceled' OR m.is_over)
"""


def finish_batch(claim: Claim) -> None:
    """Give the batch back: done, or waiting for the next attempt of its messages."""
    if claim.lost or claim.is_finished:
        return
    fail_unsendable(claim)
    if not _finish(claim) and in_state(claim, DispatchState.CANCELED):
        fail_rest(claim, retry.CANCELED)
        _finish(claim)
    claim.is_finished = True


def _finish(claim: Claim) -> bool:
    parameters = _held(claim) | {"dispatch_id": claim.dispatch.pk, "now": timezone.now(), "due_at": claim.batch.due_at}
    parameters |= {"first": claim.ids.base, "last": claim.ids.last}
    parameters |= {"held": len(claim.held), "held_until": claim.held_until, "lives_until": claim.lives_until}
    with prepared_cursor() as cursor:
        cursor.execute(_FINISH, parameters)
        return int(cursor.rowcount) == 1


def in_state(claim: Claim, state: DispatchState) -> bool:
    """Whether the dispatch is in this state now."""
    orders = Dispatch.objects.filter(application_id=claim.batch.application_id, pk=claim.dispatch.pk)
    return orders.filter(state=state).exists()
