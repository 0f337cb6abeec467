"""What messages hold about a person, for erasure and export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.messaging.selectors import message_content, messages_of_user
from apps.subscriptions.models import AppUser

EXPORT_MAX = 10_000


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
    theirs = dict(messages.values_list("dispatch_id").annotate(n=Count("id")))
    named = DispatchBatch.objects.filter(dispatch__in=theirs, dispatch__audience__isnull=True)
    recipients = named.values_list("dispatch_id").annotate(n=Sum("recipient_count"))
    return [dispatch_id for dispatch_id, count in recipients if count == theirs[dispatch_id]]


def export_messages(user: AppUser, subscription_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """The person's messages, newest first, `EXPORT_MAX` at most."""
    messages = messages_of_user(user).select_related("dispatch")
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
