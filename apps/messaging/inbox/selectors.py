"""Reading inboxes. An inbox is the user's, the same on all devices; a device without a user has its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from apps.messaging.adapters.in_app_content import is_for_device, shown_options
from apps.messaging.inbox.models import InboxItem, visible
from apps.messaging.inbox.shown import Words, message_frame, message_object
from apps.messaging.models import Dispatch, DispatchState, Message, MessageStatus
from apps.subscriptions.models import Subscription, SubscriptionEvent, SubscriptionEventType
from apps.subscriptions.services.changes import SOURCES
from apps.subscriptions.status import Setter
from automata_signal.ids import first_id_at
from automata_signal.prepared import prepared_cursor

DISPLAYED_MAX = 50
"""Messages that one answer gives a device to display."""
LOOKED_AT_MAX = 500
"""The newest items of an inbox, among which they are found."""
EXPORT_MAX = 10_000
STATES = ("all", "unread", "archived")


def owner_of(subscription: Subscription) -> UUID:
    """Whose inbox the device opens."""
    owner_id: UUID = subscription.user_id or subscription.pk
    return owner_id


BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def seen_since(subscription: Subscription) -> datetime:
    """From when on the device sees what lies in the inbox: from the beginning, or from its login if all that speaks for
    the login is the device's own word. Whoever has the publishable key can log in as anybody: they are not to read
    what came before. By `subscription_event_of`."""
    application = subscription.application
    if subscription.user_id is None or application.settings.get("identity_verification", {}).get("required"):
        return BEGINNING
    links = SubscriptionEvent.objects.filter(
        subscription_id=subscription.pk,
        application_id=subscription.application_id,
        event_type=SubscriptionEventType.LINKED,
    )
    last = links.order_by("-id").first()
    return BEGINNING if last is None or last.source != SOURCES[Setter.DEVICE] else last.occurred_at


def inbox_items(subscription: Subscription, *, state: str = "all") -> QuerySet[InboxItem]:
    """What can be seen in the inbox: what is not put away, of that what is unread, or what is put away.

    Index: `one_inbox_item_per_dispatch`.
    """
    items = _visible(subscription.application_id, [owner_of(subscription)], timezone.now())
    items = items.filter(arrived_at__gte=seen_since(subscription))
    if state == "archived":
        return items.filter(archived_at__isnull=False)
    items = items.filter(archived_at=None)
    return items.filter(read_at=None) if state == "unread" else items


def _visible(application_id: UUID, owners: Sequence[UUID], now: datetime) -> QuerySet[InboxItem]:
    """What was canceled is not seen any more, also where it has arrived."""
    canceled = Dispatch.objects.filter(
        application_id=application_id, pk=OuterRef("dispatch_id"), state=DispatchState.CANCELED
    )
    items = InboxItem.objects.filter(application_id=application_id, owner_id__in=owners)
    return items.filter(visible(now)).exclude(Exists(canceled))


# As `inbox_items` says it, prepared: each stream that opens and each change asks. Index: `one_inbox_item_per_dispatch`.
_UNREAD = """
    SELECT count(*) FROM messaging_inboxitem i
    WHERE i.application_id = %(application_id)s AND i.owner_id = %(owner_id)s AND i.read_at IS NULL
      AND i.arrived_at >= %(since)s
      AND i.archived_at IS NULL AND i.expires_at > %(now)s AND (i.starts_at IS NULL OR i.starts_at <= %(now)s)
      AND NOT EXISTS (
          SELECT FROM messaging_dispatch d
          WHERE d.application_id = i.application_id AND d.id = i.dispatch_id AND d.state = 'canceled'
      )
"""


def unread_count(application_id: UUID, owner_id: UUID, *, since: datetime = BEGINNING) -> int:
    """How many items of the inbox that came since are unread."""
    with prepared_cursor() as cursor:
        cursor.execute(
            _UNREAD, {"application_id": application_id, "owner_id": owner_id, "since": since, "now": timezone.now()}
        )
        (count,) = cursor.fetchone()
    return int(count)


def words_of(items: Iterable[InboxItem], application_id: UUID) -> dict[UUID, Words]:
    """What each of the items says, by its id; nothing for one whose message is gone."""
    messages = Message.objects.filter(application_id=application_id, pk__in=[item.pk for item in items])
    return {message.pk: _words(message) for message in messages.select_related("dispatch")}


def _words(message: Message) -> Words:
    source: Any = message if message.title is not None else message.dispatch
    return Words(source.title, source.body or "", source.data or {}, message.dispatch.options)


def represented(item: InboxItem, words: Words) -> dict[str, Any]:
    """An item as the API shows it."""
    state = {name: getattr(item, name) for name in ("read_at", "archived_at", "shown_count", "last_shown_at")}
    shown = message_object(words, arrived_at=item.arrived_at, expires_at=item.expires_at, state=state)
    return {"id": item.pk, **shown}


def inbox_represented(items: Sequence[InboxItem], application_id: UUID) -> list[dict[str, Any]]:
    words = words_of(items, application_id)
    return [represented(item, words[item.pk]) for item in items if item.pk in words]


def messages_to_display(subscription: Subscription) -> list[dict[str, Any]]:
    """What this device may display now, the most urgent first, and of those the newest; `DISPLAYED_MAX` at most.

    Left out is what is put away or for the inbox alone, what was displayed as often as it may be on all of the
    owner's devices together, what is meant for other versions or languages, and what this device has refused.
    Triggers and the other rules are the SDK's to ask. A device that has ended gets nothing.
    """
    if not subscription.is_subscribed:
        return []
    items = list(inbox_items(subscription).order_by("-id")[:LOOKED_AT_MAX])
    words, refused = words_of(items, subscription.application_id), _refused_dispatches(subscription, items)
    chosen = [
        (shown_options(words[item.pk].options)["priority"], represented(item, words[item.pk]))
        for item in items
        if item.pk in words
        and item.dispatch_id not in refused
        and _may_be_displayed(item, words[item.pk].options, subscription)
    ]
    chosen.sort(key=lambda one: one[0])  # stable: the newest of a priority come first
    return [shown for _, shown in chosen[:DISPLAYED_MAX]]


def _may_be_displayed(item: InboxItem, options: Any, subscription: Subscription) -> bool:
    shown = shown_options(options)
    return (
        shown["layout"] != "inbox_only"
        and item.shown_count < shown["frequency"]["limit"]
        and is_for_device(
            options, app_version=subscription.app_version or "", language=subscription.device_language or ""
        )
    )


def _refused_dispatches(subscription: Subscription, items: Sequence[InboxItem]) -> set[UUID]:
    """Dispatches whose message to this device has failed, by `message_by_subscription`."""
    if not items:
        return set()
    since = min(item.dispatch_id.int >> 80 for item in items)
    failed = Message.objects.filter(
        application_id=subscription.application_id,
        subscription_id=subscription.pk,
        id__gte=first_id_at(since),
        status=MessageStatus.FAILED,
    )
    return set(failed.values_list("dispatch_id", flat=True))


def own_messages(subscription: Subscription, items: Sequence[InboxItem]) -> dict[UUID, UUID]:
    """Item → this device's own message of its dispatch; the item's message where the device has none of its own."""
    if not items:
        return {}
    own = Message.objects.filter(
        application_id=subscription.application_id,
        subscription_id=subscription.pk,
        id__gte=first_id_at(min(item.dispatch_id.int >> 80 for item in items)),
        dispatch_id__in=[item.dispatch_id for item in items],
    )
    by_dispatch = dict(own.order_by("-id").values_list("dispatch_id", "id"))
    return {item.pk: by_dispatch.get(item.dispatch_id, item.pk) for item in items}


def frames_since(application_id: UUID, owners: Sequence[UUID], since: datetime) -> dict[UUID, list[bytes]]:
    """What arrived in these inboxes since, oldest first, as it would have been published; `LIVE_QUEUE_MAX` each."""
    items = _visible(application_id, owners, timezone.now()).filter(arrived_at__gte=since, archived_at=None)
    newest = list(items.order_by("-arrived_at", "-id")[: settings.LIVE_QUEUE_MAX * len(owners)])
    words = words_of(newest, application_id)
    frames: dict[UUID, list[bytes]] = {}
    for item in reversed(newest):
        if item.pk in words:
            state = {name: getattr(item, name) for name in ("read_at", "archived_at", "shown_count", "last_shown_at")}
            times = {"arrived_at": item.arrived_at, "expires_at": item.expires_at, "state": state}
            frames.setdefault(item.owner_id, []).append(message_frame(words[item.pk], **times).around(str(item.pk)))
    return {owner: of_owner[-settings.LIVE_QUEUE_MAX :] for owner, of_owner in frames.items()}


RESUME_MARGIN = timedelta(seconds=30)
"""What arrived so long before is looked for as well: its slice may have been committed late."""


def resumed_from(last_event_id: str) -> datetime | None:
    """From when a client that had this event may have missed some; None if it had none of ours."""
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 13):
        return None
    return datetime.fromtimestamp(int(last_event_id) / 1_000, tz=UTC) - RESUME_MARGIN
