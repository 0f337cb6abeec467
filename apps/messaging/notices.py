"""Sending what people have to be told about their choices (`apps.subscriptions.preferences.notices`)."""

from __future__ import annotations

from uuid import UUID

from django.utils import timezone

from apps.messaging import charges
from apps.messaging.content import content_source
from apps.messaging.dispatches import dispatch_create
from apps.messaging.models import Priority
from apps.messaging.named import by_subscription_ids, insert, rendered_for
from apps.messaging.services import ttl_of
from apps.subscriptions.preferences.letters import NoticeToSend
from apps.subscriptions.preferences.models import NoticeKind
from automata_signal.errors import Conflict


def notice_send(notice: NoticeToSend) -> UUID:
    """A notifier (`register_notifier`): accept the notice as a transactional message, in the caller's transaction; its
    id. A request for confirmation also goes to an address that waits for it. Raises as `messages_send` does."""
    is_opt_in = notice.kind == NoticeKind.OPT_IN
    content = content_source(
        application=notice.application, channel_type=notice.channel, title=notice.title, body=notice.body
    )
    recipients = by_subscription_ids(notice.application, notice.channel, [notice.subscription_id])
    if not recipients:
        raise Conflict("The subscription cannot be reached on this channel.", code="RECIPIENT_UNREACHABLE")
    dispatch = dispatch_create(
        application=notice.application,
        channel_type=notice.channel,
        priority=Priority.HIGH if is_opt_in else Priority.MEDIUM,
        content=content,
        ttl_s=ttl_of(notice.application, None),
        reaches_pending=is_opt_in,
    )
    rows = rendered_for(notice.application, content, recipients)
    (sent,) = insert(dispatch, rows, due_at=timezone.now(), queue_now=True)
    charges.reserve(application_id=notice.application.pk, channel_type=notice.channel, messages=1)
    return sent.id
