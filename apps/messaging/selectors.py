"""Reading messages, their content and their timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from apps.messaging.models import Dispatch, Message, MessageEvent, MessageTemplate
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.tenants.models import Application
from automata_signal.errors import NotFound
from automata_signal.ids import event_id


def message_get(application: Application, message_id: UUID) -> Message:
    """The message of this application, or `NotFound`."""
    message = _details(Message.objects.for_application(application)).filter(pk=message_id).first()
    if message is None:
        raise NotFound("There is no such message.")
    return message


def message_list(
    application: Application,
    *,
    campaign_id: UUID | None = None,
    subscription_id: UUID | None = None,
    external_id: str | None = None,
    status: str | None = None,
) -> QuerySet[Message]:
    """Messages of the application, for a page by key.

    A subscription's and a user's come by `message_by_subscription`, all others by `message_by_application`; the state
    has no index (design, section 7) and only thins out what the others find.
    """
    messages = _details(Message.objects.for_application(application))
    if external_id is not None:
        user = AppUser.with_archived.for_application(application).filter(external_id=external_id).first()
        messages = _details(messages_of_user(user)) if user else messages.none()
    if subscription_id is not None:
        messages = messages.filter(subscription_id=subscription_id)
    if campaign_id is not None:
        messages = messages.filter(campaign_id=campaign_id)
        dispatches = Dispatch.objects.for_application(application).filter(campaign_id=campaign_id)
        first = dispatches.order_by("id").values_list("id", flat=True).first()
        # A message's id is made after its dispatch's, so nothing older can belong to the campaign.
        messages = messages.filter(id__gt=first) if first else messages.none()
    if status is not None:
        messages = messages.filter(status=status)
    return messages


def _details(messages: QuerySet[Message]) -> QuerySet[Message]:
    return messages.select_related("dispatch__template_version", "user")


def messages_of_user(user: AppUser) -> QuerySet[Message]:
    """What went to the user, also to devices that were theirs once: by `message_by_subscription`.

    A message belongs to who was signed in when it was made, not to who has the device now.
    """
    now_linked = Subscription.with_archived.filter(user=user).values_list("id", flat=True)
    once_linked = SubscriptionEvent.objects.filter(application_id=user.application_id, user=user)
    subscriptions = {*now_linked, *once_linked.values_list("subscription_id", flat=True)}
    return Message.objects.filter(application_id=user.application_id, user=user, subscription_id__in=subscriptions)


def message_events(message: Message) -> Sequence[MessageEvent]:
    """The events of a message in the order they happened: a range of the primary key."""
    events = MessageEvent.objects.filter(id__range=(event_id(message.pk, 1), event_id(message.pk, 255)))
    return sorted(events, key=lambda event: (event.occurred_at, event.pk))


def message_content(message: Message) -> dict[str, Any]:
    """What the recipient sees: the message's own content, or its dispatch's."""
    own = message.title is not None
    source: Any = message if own else message.dispatch
    return {"title": source.title, "body": source.body, "data": source.data or {}, "options": message.dispatch.options}


def template_get(application: Application, template_id: UUID) -> MessageTemplate:
    """The template of this application, or `NotFound`."""
    template = MessageTemplate.objects.for_application(application).filter(pk=template_id).first()
    if template is None:
        raise NotFound("There is no such template.")
    return template
