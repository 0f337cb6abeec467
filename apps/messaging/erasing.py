"""What messages hold about a person, for erasure and export."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from apps.messaging.inbox.models import InboxItem
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.messaging.selectors import message_content, message_events, messages_of_user
from apps.subscriptions.erasure import Page
from apps.subscriptions.models import AppUser

EXPORT_MAX = 10_000
PAGE_ROWS = 500


def erase_messages(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """Take the content and the link to the person out of the messages; the counted facts stay.

    Also of what went to devices that the person has signed out of since. What was written for this person alone
    (literal text, variables) is taken out of its dispatch too; what others received as well is nobody's data.
    """
    messages = messages_of_user(user)
    alone = _dispatches_to_nobody_else(messages)
    messages.update(user=None, title=None, body=None, data=None)
    Dispatch.objects.filter(pk__in=alone).update(title="", body="", data={}, variables={}, languages={}, options={})


def _dispatches_to_nobody_else(messages: QuerySet[Message]) -> list[UUID]:
    """Of a chain all steps or none: those that were not taken yet say the same to the same person. A campaign's words
    are nobody's."""
    theirs: dict[UUID, int] = dict(messages.values_list("dispatch_id").annotate(n=Count("id")))
    orders = Dispatch.objects.filter(pk__in=theirs, audience__isnull=True, campaign_id__isnull=True)
    alone = dict(orders.values_list("pk", "chain_id"))
    chains = {chain_id for chain_id in alone.values() if chain_id is not None}
    steps: dict[UUID, set[UUID]] = defaultdict(set)
    for order in Dispatch.objects.filter(chain_id__in=chains).only("pk", "chain_id"):
        steps[order.chain_id or order.pk].add(order.pk)
    groups = [steps[chain_id] for chain_id in chains] + [{pk} for pk, chain_id in alone.items() if chain_id is None]
    named = DispatchBatch.objects.filter(dispatch__in={pk for group in groups for pk in group})
    recipients = dict(named.values_list("dispatch_id").annotate(n=Sum("recipient_count")))
    return [
        pk
        for group in groups
        if sum(recipients.get(one, 0) for one in group) == sum(theirs.get(one, 0) for one in group)
        for pk in group
    ]


def export_messages(user: AppUser, subscription_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """The person's messages, newest first, `EXPORT_MAX` at most."""
    messages = messages_of_user(user).select_related("dispatch")
    return [_exported(message) for message in messages.order_by("-id")[:EXPORT_MAX]]


def read_messages(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
    """All of the person's messages, newest first, each with what happened to it; page by page."""
    messages = messages_of_user(user).select_related("dispatch")
    if after:
        messages = messages.filter(pk__lt=UUID(after))
    found = list(messages.order_by("-id")[: PAGE_ROWS + 1])
    page = found[:PAGE_ROWS]
    rows = [
        {
            **_exported(message),
            "events": [
                {"event": event.event_type, "occurred_at": event.occurred_at} for event in message_events(message)
            ],
        }
        for message in page
    ]
    return Page(rows, str(page[-1].pk) if len(found) > PAGE_ROWS else "")


def count_messages(user: AppUser, subscription_ids: Sequence[UUID]) -> int:
    """Messages with the person's name on them."""
    return messages_of_user(user).count()


def count_inbox(user: AppUser, subscription_ids: Sequence[UUID]) -> int:
    """By `one_inbox_item_per_dispatch`, which begins with the owner."""
    return InboxItem.objects.filter(owner_id__in=[user.pk, *subscription_ids]).count()


def _exported(message: Message) -> dict[str, Any]:
    return {
        "id": str(message.pk),
        "channel_type": message.channel_type,
        "status": message.status,
        "created_at": message.created_at.isoformat(),
        "content": {key: message_content(message)[key] for key in ("title", "body", "data")},
    }
