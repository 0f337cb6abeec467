"""Taking the next step: for whom it is due, a batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.messaging import charges, lifecycle, retry
from apps.messaging.adapters.kakao_reasons import fallback_is_sensible
from apps.messaging.chains.models import FollowUp
from apps.messaging.chains.reached import users_reached
from apps.messaging.chains.steps import REACHED, next_step, of_chain
from apps.messaging.content import ContentSource
from apps.messaging.courtesy.skipping import who_want_it
from apps.messaging.courtesy.waiting import Plan, people, plan_of, waits_of
from apps.messaging.dispatches import EXPIRY_GRACE_S
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, FollowOn, MessageStatus
from apps.messaging.named import Named, NewMessage, SentMessage, insert, of_users, rendered_for
from apps.messaging.recorders import PLANNED, StatusCount, record
from apps.tenants.channels import ChannelType
from automata_signal.errors import ValidationFailed
from automata_signal.ids import IdRange, new_id

log = logging.getLogger(__name__)

LOOK_S, LOOK_MAX_S = 10.0, 600.0
"""How soon a failure is followed (`_look_after`)."""
PAUSED_LOOK_S = 30.0
BATCHES_AT_ONCE = 20
NO_RECEIPT, NOT_REACHABLE = "no_receipt", "not_reachable"
_STAYS = frozenset({retry.CANCELED, charges.OVER_QUOTA, retry.OVERTAKEN, retry.ALREADY_REACHED})
"""Failures after which nobody is tried by another way: somebody stopped it, or there is no room for it."""
_UNDER_WAY = (MessageStatus.PENDING, MessageStatus.ERRORED)


class Due(NamedTuple):
    """A user for whom the next step is due."""

    user_id: UUID
    after_message_id: UUID | None
    because: str


def follow_up_due() -> int:
    """Follow up the batches whose time has come, each in a transaction of its own; how many.

    Index: `batch_follow_up`.
    """
    due = DispatchBatch.objects.filter(follow_up_at__lte=timezone.now()).order_by("follow_up_at")
    ids = list(due.values_list("pk", flat=True)[:BATCHES_AT_ONCE])
    for batch_id in ids:
        try:
            batch_follow_up(batch_id)
        except Exception:  # one batch that meets a fault of ours must not hold up the others
            log.exception("a batch could not be followed up", extra={"batch_id": str(batch_id)})
            later = timezone.now() + timedelta(seconds=PAUSED_LOOK_S)
            DispatchBatch.objects.filter(pk=batch_id).update(follow_up_at=later)
    return len(ids)


@transaction.atomic
def batch_follow_up(batch_id: UUID) -> int:
    """Take the next step for those of the batch for whom it is due, and say when to look again; how many users."""
    rows = DispatchBatch.objects.select_for_update(of=("self",), skip_locked=True).select_related("dispatch")
    batch = rows.filter(pk=batch_id, follow_up_at__isnull=False).first()
    if batch is None:
        return 0
    dispatch = batch.dispatch
    step = next_step(dispatch)
    if step is None or dispatch.state == DispatchState.CANCELED:
        return _look_again(batch, None)
    if dispatch.state == DispatchState.PAUSED:
        return _look_again(batch, timezone.now() + timedelta(seconds=PAUSED_LOOK_S))
    if batch.first_id is None:
        return _look_again(batch, timezone.now() + timedelta(seconds=LOOK_S))
    found = _look(batch, dispatch, step)
    users = follow(step, found.due)
    record(found.overtaken, reserved_at=batch.reserved_at)  # after `follow`, which locks all quotas in their order
    _look_again(batch, found.again_at)
    return users


def _look_again(batch: DispatchBatch, at: datetime | None) -> int:
    DispatchBatch.objects.filter(application_id=batch.application_id, pk=batch.pk).update(follow_up_at=at)
    return 0


@dataclass
class _Found:
    due: list[Due]
    again_at: datetime | None
    overtaken: list[StatusCount]


# The batch's messages by the range of their primary key.
_MESSAGES = """
    SELECT id, user_id, subscription_id::text, status, sent_at, created_at, error_reason, error_details->>'provider'
    FROM messaging_message
    WHERE application_id = %s AND id BETWEEN %s AND %s AND user_id IS NOT NULL
      AND status <> 'converted' AND NOT (status = 'received' AND %s)
"""


def _look(batch: DispatchBatch, dispatch: Dispatch, step: Dispatch) -> _Found:
    """Whose next step is due, and when the next one's will be."""
    assert batch.first_id is not None
    now = timezone.now()
    look_at = now + _look_after(now - batch.created_at)
    waits = timedelta(seconds=dispatch.wait_s or 0)
    receipts_count = dispatch.follow_on != FollowOn.FAILURE
    plan = plan_of(dispatch)
    was_to_leave_at = _was_to_leave_at(batch, dispatch, plan, now)
    failed_at_once, waited, next_at = [], [], []
    late: dict[str, Due] = {}
    with connection.cursor() as cursor:
        bounds = (batch.first_id, IdRange(batch.first_id).last)
        ends_it = dispatch.follow_until == MessageStatus.RECEIVED
        cursor.execute(_MESSAGES, [batch.application_id, *bounds, ends_it])
        messages = cursor.fetchall()
    for message_id, user_id, subscription_id, status, sent_at, created_at, reason, provider in messages:
        since = sent_at or max(created_at, was_to_leave_at)
        may_have_arrived = reason == retry.UNKNOWN_OUTCOME
        if status == MessageStatus.FAILED and not may_have_arrived:
            if reason not in _STAYS and _is_sensible(dispatch, step, provider, reason):
                failed_at_once.append(Due(user_id, message_id, reason or "failed"))
        elif not receipts_count:
            next_at += [look_at] if since + waits > now else []
        elif since + waits > now:
            next_at.append(since + waits)
        elif status in _UNDER_WAY:
            late[subscription_id] = Due(user_id, message_id, NO_RECEIPT)
        else:
            waited.append(Due(user_id, message_id, NO_RECEIPT))
    overtaken: list[StatusCount] = []
    if late and plan is not None:  # nobody is tried by another way because it is night, or not yet their hour
        for subscription_id, until in waits_of(
            dispatch, plan, people(dispatch, plan, list(late)), now=now
        ).until.items():
            del late[subscription_id]
            next_at.append(until)
    if late and batch.state == BatchState.CLAIMED:  # it is being sent at this moment: looked at when it is not
        next_at.append(now + timedelta(seconds=LOOK_S))
    elif late:
        overtaken = _overtake(batch, [due.after_message_id for due in late.values() if due.after_message_id], now)
        waited += late.values()
    again_at = min([*next_at, look_at]) if next_at else None
    if again_at is None and batch.state != BatchState.DONE:
        again_at = look_at
    return _Found([*failed_at_once, *waited], again_at, overtaken)


def _was_to_leave_at(batch: DispatchBatch, dispatch: Dispatch, plan: Plan | None, now: datetime) -> datetime:
    """From when a message is waited for that has not left: when it was to be sent (`send_at`), or when its wait for
    courtesy was over. The batch's life begins with either; a wait that does not prolong it ends when it is due."""
    begins_at = batch.expires_at - timedelta(seconds=max(dispatch.ttl_s, EXPIRY_GRACE_S))
    has_waited = plan is not None and batch.state == BatchState.WAITING and batch.due_at <= now
    return max(begins_at, batch.due_at) if has_waited else begins_at


def _look_after(age: timedelta) -> timedelta:
    """When to look again: the older the batch, the later, since a look reads all its messages, and most failures come
    soon. A failure is followed after a twentieth of the batch's age, ten seconds to ten minutes."""
    return timedelta(seconds=min(max(LOOK_S, age.total_seconds() / 20), LOOK_MAX_S))


def _is_sensible(dispatch: Dispatch, step: Dispatch, provider: str | None, reason: str) -> bool:
    """Whether the failure says nothing against the next step: a number that is none is none for SMS either."""
    to_same_number = dispatch.channel_type == ChannelType.KAKAO_TALK and step.channel_type == ChannelType.SMS
    return provider is None or not to_same_number or fallback_is_sensible(provider, reason)


def _overtake(batch: DispatchBatch, ids: Sequence[UUID], now: datetime) -> list[StatusCount]:
    """What has not left in time is not to leave after the next step has."""
    counts: list[StatusCount] = []
    for source in _UNDER_WAY:
        counts += lifecycle.apply(
            "fail", source=source, ids=ids, application_id=batch.application_id, at=now, reason=retry.OVERTAKEN
        )
    return counts


# --- The step ------------------------------------------------------------------------------------------------------


def follow(step: Dispatch, due: Sequence[Due], *, send_at: datetime | None = None) -> int:
    """Send the step to these users, who are not reached yet and have not had it; who cannot be reached by it goes on to
    the next. How many users it was. In the caller's transaction."""
    total, current = 0, step
    while due:
        wanted = _not_yet(current, due)
        total += len(wanted)
        left = _send(current, wanted, send_at)
        following = next_step(current) if left else None
        if following is None:
            break
        due, current = left, following
    return total


_NOTE = """
    INSERT INTO messaging_followup (id, application_id, dispatch_id, user_id, after_message_id, because, messages,
                                    problem, created_at)
    SELECT f.id, %(application_id)s, %(dispatch_id)s, f.user_id, f.after_id, f.because, 0, '', %(now)s
    FROM unnest(%(ids)s::uuid[], %(users)s::uuid[], %(after)s::uuid[], %(because)s::text[])
         f(id, user_id, after_id, because)
    ORDER BY f.user_id
    ON CONFLICT DO NOTHING RETURNING user_id
"""


def _not_yet(step: Dispatch, due: Sequence[Due]) -> list[Due]:
    """Those whom no step has reached and who have not had this one; from now on they have. One for each user."""
    by_user: dict[UUID, Due] = {}
    for one in due:
        by_user.setdefault(one.user_id, one)
    assert step.chain_id is not None
    reached = users_reached(
        application_id=step.application_id,
        chain_id=step.chain_id,
        dispatch_ids=_steps_before(step),
        user_ids=by_user,
        states=REACHED[step.follow_until],
    )
    wanted = [one for user_id, one in by_user.items() if str(user_id) not in reached]
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            {
                "application_id": step.application_id,
                "dispatch_id": step.pk,
                "now": timezone.now(),
                "ids": [new_id() for _ in wanted],
                "users": [one.user_id for one in wanted],
                "after": [one.after_message_id for one in wanted],
                "because": [one.because[:100] for one in wanted],
            },
        )
        new = {row[0] for row in cursor.fetchall()}
    return [one for one in wanted if one.user_id in new]


def _steps_before(step: Dispatch) -> list[UUID]:
    dispatches = of_chain(step.application_id, step.chain_id, chain_step__lt=step.chain_step)
    return list(dispatches.values_list("pk", flat=True))


def _send(step: Dispatch, wanted: Sequence[Due], send_at: datetime | None) -> list[Due]:
    """Write the messages; those who cannot be reached by this step."""
    found = of_users(step.application, step.channel_type, user_ids=[one.user_id for one in wanted])
    subscribed = [row for row in found if row.is_subscribed]
    reachable, _unwanted = who_want_it(
        step.application_id, step.channel_type, step.purpose, step.category, subscribed, by_id=()
    )
    rows, unfit = _rendered(step, reachable)
    sent = _insert(step, rows, send_at)
    room = len(sent)
    by_user = {row.id: row.user_id for row in reachable}
    _note_messages(step, sent, by_user)
    _note_problem(step, {by_user[row.subscription_id] for row in rows[room:]}, charges.OVER_QUOTA)
    _note_problem(step, {row.user_id for row in unfit}, "content")
    has_one = {row.user_id for row in reachable}
    left = [one._replace(because=NOT_REACHABLE) for one in wanted if one.user_id not in has_one]
    _note_problem(step, {one.user_id for one in left}, NOT_REACHABLE)
    return left


class _Short(Exception):
    """The quota has room for so many only."""

    def __init__(self, fits: int) -> None:
        super().__init__(fits)
        self.fits = fits


def _insert(step: Dispatch, rows: Sequence[NewMessage], send_at: datetime | None) -> list[SentMessage]:
    """Write as many messages as the quota has room for, the first of them. The quota comes last, as everywhere."""
    while rows:
        try:
            with transaction.atomic():
                sent = insert(step, rows, due_at=send_at or timezone.now(), queue_now=send_at is None)
                record([_planned(step, len(sent))])
                charges.hold(step.application_id)
                fits = charges.reserve(
                    application_id=step.application_id,
                    channel_type=step.channel_type,
                    messages=len(rows),
                    at_most=True,
                )
                if fits < len(rows):
                    raise _Short(fits)
                return sent
        except _Short as short:
            rows = rows[: short.fits]
    return []


def _planned(step: Dispatch, messages: int) -> StatusCount:
    """Nobody had planned for them: a campaign's recipients are now so many more."""
    return StatusCount(step.application_id, step.campaign_id, step.channel_type, "", PLANNED, "", messages)


def _rendered(step: Dispatch, reachable: Sequence[Named]) -> tuple[list[NewMessage], list[Named]]:
    """The messages, and those whose content cannot be made: they must not hold up the others."""
    content = ContentSource.of_dispatch(step)
    try:
        return rendered_for(step.application, content, reachable), []
    except ValidationFailed:
        rows, unfit = [], []
        for recipient in reachable:
            try:
                rows += rendered_for(step.application, content, [recipient])
            except ValidationFailed:
                unfit.append(recipient)
        return rows, unfit


def _note_messages(step: Dispatch, sent: Iterable[SentMessage], by_user: dict[UUID, UUID | None]) -> None:
    counts: dict[UUID | None, int] = {}
    for message in sent:
        user_id = by_user[message.subscription_id]
        counts[user_id] = counts.get(user_id, 0) + 1
    for number in sorted(set(counts.values())):
        users = [user_id for user_id, count in counts.items() if count == number and user_id is not None]
        FollowUp.objects.filter(dispatch_id=step.pk, user_id__in=users).update(messages=number)


def _note_problem(step: Dispatch, user_ids: Iterable[UUID | None], problem: str) -> None:
    if users := [user_id for user_id in user_ids if user_id is not None]:
        FollowUp.objects.filter(dispatch_id=step.pk, user_id__in=users).exclude(messages__gt=0).update(problem=problem)


# --- What others ask -----------------------------------------------------------------------------------------------


def is_waiting(dispatches: Iterable[Dispatch]) -> bool:
    """Whether a further step may follow."""
    ids = [dispatch.pk for dispatch in dispatches if dispatch.chain_id is not None]
    return bool(ids) and DispatchBatch.objects.filter(dispatch__in=ids, follow_up_at__isnull=False).exists()
