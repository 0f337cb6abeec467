"""Putting messages into inboxes, and what devices do with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.adapters.in_app import Placement
from apps.messaging.inbox.models import InboxItem
from apps.messaging.inbox.publishing import heard, publish_messages, publish_state
from apps.messaging.inbox.selectors import (
    EXPORT_MAX,
    inbox_represented,
    own_messages,
    owner_of,
    seen_since,
    unread_count,
)
from apps.messaging.inbox.shown import Frame, Words, message_frame
from apps.messaging.models import Message
from apps.messaging.receipts.sdk import Receipt, ReceiptAnswer, receipts_apply
from apps.messaging.recorders import record
from apps.messaging.stopping import is_stopping
from apps.subscriptions.models import AppUser, Subscription
from apps.subscriptions.services import subscription_update
from apps.subscriptions.status import Setter, SubscriptionStatus
from apps.tenants.models import Application
from automata_signal.ids import first_id_at

FORGET_SLICE = 10_000
IDS_MAX = 200
"""Items that one request changes."""

Frames = dict[tuple[int, datetime], Frame]

# --- Arriving ------------------------------------------------------------------------------------------------------

# Sorted by owner, so that two slices that meet the same people wait for each other and never in a ring. The message
# itself says whose it is. Index: the primary key of messages; `one_inbox_item_per_dispatch` refuses the second one.
_ARRIVE = """
    INSERT INTO messaging_inboxitem
        (id, application_id, owner_id, dispatch_id, arrived_at, starts_at, expires_at, shown_count)
    SELECT m.id, m.application_id, COALESCE(m.user_id, m.subscription_id) AS owner, m.dispatch_id, %(at)s::timestamptz,
           {times}, 0
    FROM {messages}
    ORDER BY owner, m.id
    ON CONFLICT DO NOTHING
    RETURNING id::text, owner_id::text
"""
_RANGE = _ARRIVE.format(
    times="%(starts_at)s::timestamptz, %(expires_at)s::timestamptz",
    messages="messaging_message m WHERE m.id BETWEEN %(first)s AND %(last)s",
)
_ONE_EACH = _ARRIVE.format(
    times="g.starts_at, g.expires_at",
    messages="""unnest(%(ids)s::uuid[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) g(id, starts_at, expires_at)
         CROSS JOIN LATERAL (
             SELECT id, application_id, user_id, subscription_id, dispatch_id FROM messaging_message WHERE id = g.id
         ) m""",
)


def inbox_deliver(placements: Sequence[Placement]) -> None:
    """Put a slice of messages into their inboxes, in one statement, and tell the streams that are open.

    A message that is there already stays as it is: sending twice shows nothing twice. Where a dispatch goes to several
    devices of one user, the first of its messages becomes the item. One whose period begins later is not told of:
    devices find it when they look.
    """
    now = timezone.now()
    with connection.cursor() as cursor:
        statement, parameters = _statement(placements)
        cursor.execute(statement, parameters | {"at": now})
        arrived = dict(cursor.fetchall())
    seen = {
        placement.message_id: placement
        for placement in placements
        if placement.message_id in arrived and (placement.starts_at is None or placement.starts_at <= now)
    }
    told = heard({one: arrived[one] for one in seen}) if seen else []
    if told:
        frames: Frames = {}
        frame_of = {one: _frame_of(seen[one], now, frames) for one in told}
        publish_messages({one: arrived[one] for one in told}, frame_of)


def _statement(placements: Sequence[Placement]) -> tuple[str, dict[str, Any]]:
    """By range where the ids have no gap and all are seen for the same time, as in a campaign's slice; else by key."""
    first, last = placements[0], placements[-1]
    is_range = UUID(last.message_id).int - UUID(first.message_id).int == (len(placements) - 1) << 8
    times = (first.starts_at, first.expires_at)
    if is_range and all((one.starts_at, one.expires_at) == times for one in placements):
        bounds = {"first": first.message_id, "last": last.message_id}
        return _RANGE, bounds | {"starts_at": first.starts_at, "expires_at": first.expires_at}
    return _ONE_EACH, {
        "ids": f"{{{','.join(one.message_id for one in placements)}}}",
        "starts": [one.starts_at for one in placements],
        "ends": [one.expires_at for one in placements],
    }


def _frame_of(placement: Placement, now: datetime, frames: Frames) -> Frame:
    """The event; one for all who get the same words until the same time."""
    content = placement.content
    key = (id(content), placement.expires_at)
    if key not in frames:
        words = Words(content.title, content.body, content.data, content.options)
        frames[key] = message_frame(words, arrived_at=now, expires_at=placement.expires_at)
    return frames[key]


# --- Reading and putting away --------------------------------------------------------------------------------------


class Change(NamedTuple):
    """What can be done to items: whose state it changes, and to what."""

    before: Q
    after: dict[str, Any]


CHANGES = {
    "read": Change(Q(read_at=None), {"read_at": timezone.now}),
    "unread": Change(Q(read_at__isnull=False), {"read_at": None}),
    "archive": Change(Q(archived_at=None), {"archived_at": timezone.now}),
    "unarchive": Change(Q(archived_at__isnull=False), {"archived_at": None}),
}


def inbox_change(*, subscription: Subscription, change: str, ids: Sequence[UUID] | None = None) -> dict[str, Any]:
    """Do one of `CHANGES` to these items of the owner's inbox, or to all; `changed` and `unread` of the answer count.

    Ids that are not in this inbox change nothing and are no error. Other devices of the owner are told.
    """
    before, after = CHANGES[change]
    owner_id = owner_of(subscription)
    since = seen_since(subscription)
    items = InboxItem.objects.filter(
        application_id=subscription.application_id, owner_id=owner_id, arrived_at__gte=since
    ).filter(before)
    if ids is not None:
        items = items.filter(pk__in=ids)
    changed = items.update(**{name: value() if callable(value) else value for name, value in after.items()})
    answer = {"changed": changed, "unread": unread_count(subscription.application_id, owner_id, since=since)}
    if changed:
        publish_state(owner_id, {"change": change, "ids": ids, "unread": answer["unread"]})
    return answer


# --- What devices report -------------------------------------------------------------------------------------------

SHOWN, CLICKED, DISMISSED, FAILED = "shown", "clicked", "dismissed", "failed"
REPORT_TYPES = (SHOWN, CLICKED, DISMISSED, FAILED)
FAILURES = {
    -70: "app_version_mismatch",
    -71: "disabled_by_user",
    -72: "conditions_not_met",
    -73: "storage_full",
    -74: "sdk_error",
}
"""Why a device could not display a message. Of these only -71 is about the subscription, which it ends; the others say
something of this one message on this one device (docs/in-app.md)."""


class DeviceReport(NamedTuple):
    """What became of an item on a device."""

    item_id: UUID
    type: str
    occurred_at: datetime | None = None
    button_id: str = ""
    code: int = 0
    """One of `FAILURES` if it failed."""


def inbox_report(*, subscription: Subscription, reports: Sequence[DeviceReport]) -> list[ReceiptAnswer]:
    """Record what a device reports of its owner's items; an answer for each, in their order.

    Shown and dismissed are a receipt `received`, clicked is `converted` and makes the item read, failed fails the
    device's message. What is not in this inbox is `rejected` as `not_found`. Two devices of one user may have a message
    each: the receipt is for the one that went to this device.
    """
    owned = InboxItem.objects.filter(application_id=subscription.application_id, owner_id=owner_of(subscription))
    items = {item.pk: item for item in owned.filter(pk__in={report.item_id for report in reports})}
    messages = own_messages(subscription, list(items.values()))
    known = [report for report in reports if report.item_id in items]
    with transaction.atomic():
        if any(report.type == FAILED for report in known):
            # Before the counters, which the first of several locks; in order, as everybody.
            rows = Message.objects.filter(application_id=subscription.application_id, pk__in=set(messages.values()))
            list(rows.order_by("pk").select_for_update().values_list("pk"))
        _note_display(items, known)
        answers = iter(_record(subscription, known, messages))
    if any(report.code == SubscriptionStatus.IN_APP_DISABLED_BY_USER for report in known):
        subscription_update(
            subscription=subscription,
            setter=Setter.DEVICE,
            source="device",
            subscription_status=SubscriptionStatus.IN_APP_DISABLED_BY_USER,
            reason="reported with a message",
        )
    missing = ReceiptAnswer("", "rejected", "not_found")
    return [
        (next(answers) if report.item_id in items else missing)._replace(message_id=str(report.item_id))
        for report in reports
    ]


def _note_display(items: dict[UUID, InboxItem], reports: Sequence[DeviceReport]) -> None:
    """Count what was shown, once for each time that it was, however often that is told; read what was answered."""
    now = timezone.now()
    for report in sorted(reports, key=lambda one: one.item_id):
        row = InboxItem.objects.filter(pk=report.item_id)
        if report.type == SHOWN:
            at = min(max(report.occurred_at or now, items[report.item_id].arrived_at), now)
            is_new = Q(last_shown_at=None) | Q(last_shown_at__lt=at)
            row.filter(is_new).update(shown_count=F("shown_count") + 1, last_shown_at=at)
        elif report.type in (CLICKED, DISMISSED):
            row.filter(read_at=None).update(read_at=now)


def _record(
    subscription: Subscription, reports: Sequence[DeviceReport], messages: dict[UUID, UUID]
) -> list[ReceiptAnswer]:
    application = subscription.application
    told = [report for report in reports if report.type != FAILED]
    receipts = [
        Receipt(
            message_id=messages[report.item_id],
            type="converted" if report.type == CLICKED else "received",
            occurred_at=report.occurred_at,
            metadata={"in_app": report.type, **({"button_id": report.button_id} if report.button_id else {})},
        )
        for report in told
    ]
    of_receipts = receipts_apply(application=application, receipts=receipts, trusted=True)
    answers = dict(zip(map(id, told), of_receipts, strict=True))
    for report in reports:
        if report.type == FAILED:
            answers[id(report)] = _fail(application, messages[report.item_id], report)
    return [answers[id(report)] for report in reports]


def _fail(application: Application, message_id: UUID, report: DeviceReport) -> ReceiptAnswer:
    """The device's message fails, unless something was recorded of it that is final. It had arrived, so a worker that
    has not said so yet is waited for by nobody: `successful` is recorded first."""
    reason, now = FAILURES[report.code], timezone.now()
    details = {"class": "recipient", "reason": reason, "subscription_status": report.code, "provider": "in_app"}
    counts = []
    for source in (lifecycle.PENDING, lifecycle.ERRORED):
        counts += lifecycle.apply(
            "send",
            source=source,
            ids=[message_id],
            application_id=application.pk,
            at=now,
            metadata={"implied_by": FAILED},
        )
    failed = lifecycle.apply(
        "fail",
        source=lifecycle.SUCCESSFUL,
        ids=[message_id],
        application_id=application.pk,
        at=now,
        reason=reason,
        details=details,
        metadata=details,
    )
    record([*counts, *failed])
    return ReceiptAnswer(str(message_id), "accepted" if failed else "ignored", "" if failed else "already_final")


# --- Forgetting ----------------------------------------------------------------------------------------------------


def inbox_forget(*, now: datetime | None = None) -> int:
    """Delete items that nobody can see any more; returns how many, and `FORGET_SLICE` means that there is more.

    Nothing is seen for longer than the longest time to live, and ids come in order of time: what is old is a range of
    the primary key. What an application keeps for less long goes with its messages (`apps.messaging.retention`).
    """
    longest = timedelta(seconds=settings.MESSAGE_TTL_MAX_S) + timedelta(days=1)
    before = first_id_at(int(((now or timezone.now()) - longest).timestamp() * 1_000))
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM messaging_inboxitem WHERE id IN ("
            "SELECT id FROM messaging_inboxitem WHERE id < %s AND expires_at < %s ORDER BY id LIMIT %s)",
            [before, now or timezone.now(), FORGET_SLICE],
        )
        return int(cursor.rowcount)


def inbox_forget_old() -> int:
    """`inbox_forget` until nothing is left, or this worker is to stop; returns how many were deleted."""
    total = 0
    while not is_stopping():
        deleted = inbox_forget()
        total += deleted
        if deleted < FORGET_SLICE:
            break
    return total


def erase_inbox(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """Delete the inbox of the person, and those of the devices from when nobody was signed in there."""
    _of_person(user, subscription_ids).delete()


def export_inbox(user: AppUser, subscription_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """What lies in the person's inbox, newest first, `EXPORT_MAX` at most."""
    items = list(_of_person(user, subscription_ids).order_by("-id")[:EXPORT_MAX])
    return inbox_represented(items, user.application_id)


def _of_person(user: AppUser, subscription_ids: Sequence[UUID]) -> Any:
    return InboxItem.objects.filter(application_id=user.application_id, owner_id__in=[user.pk, *subscription_ids])
