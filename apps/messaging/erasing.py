"""What messages hold about a person, for erasure and export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from apps.messaging.models import Message
from apps.messaging.selectors import message_content
from apps.subscriptions.models import AppUser

EXPORT_MAX = 10_000


def erase_messages(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """Take the rendered content and the link to the person out of the messages; the counted facts stay."""
    messages = Message.objects.filter(subscription_id__in=subscription_ids, user=user)
    messages.update(user=None, title=None, body=None, data=None)


def export_messages(user: AppUser, subscription_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """The person's messages, newest first, `EXPORT_MAX` at most."""
    messages = Message.objects.filter(subscription_id__in=subscription_ids, user=user).select_related("dispatch")
    return [
        {
            "id": str(message.pk),
            "channel_type": message.channel_type,
            "status": message.status,
            "created_at": message.created_at.isoformat(),
            "content": {key: message_content(message)[key] for key in ("title", "body", "data")},
        }
        for message in messages.order_by("-id")[:EXPORT_MAX]
    ]
