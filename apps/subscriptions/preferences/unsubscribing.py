"""What a link or a page of ours does: unsubscribe from all of a channel, or refuse one category of it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from apps.subscriptions.models import Subscription, SubscriptionType
from apps.subscriptions.preferences.categories import category_by_slug
from apps.subscriptions.preferences.consents import Choices, marketing_withdraw, preferences_set
from apps.subscriptions.preferences.models import ConsentSource, MessageCategory, SuppressionReason
from apps.subscriptions.preferences.subjects import CHANNEL_OF, Subject
from apps.subscriptions.preferences.suppressing import suppress_subscription
from apps.subscriptions.services.changes import SubscriptionChange, locked
from apps.subscriptions.status import Setter, SubscriptionStatus
from automata_signal.errors import NotFound

OPTED_OUT: dict[str, int] = {
    SubscriptionType.IOS_PUSH: SubscriptionStatus.MANUALLY_UNSUBSCRIBED,
    SubscriptionType.ANDROID_PUSH: SubscriptionStatus.MANUALLY_UNSUBSCRIBED,
    SubscriptionType.EMAIL: SubscriptionStatus.EMAIL_OPTED_OUT,
    SubscriptionType.SMS: SubscriptionStatus.SMS_BLOCKED,
    SubscriptionType.KAKAO_TALK: SubscriptionStatus.KAKAO_BLOCKED,
    SubscriptionType.IN_APP_MESSAGE: SubscriptionStatus.IN_APP_DISABLED_BY_USER,
}


class Unsubscribed(NamedTuple):
    subscription: Subscription
    category: MessageCategory | None
    """The one that was refused; None: everything on this channel was."""


def linked_subscription(subscription_id: UUID) -> Subscription:
    """Whom a link is about, with its application and user, ended ones too. Raises `NotFound` if there is no address."""
    row: Subscription | None = (
        Subscription.with_archived.select_related("application", "user").filter(pk=subscription_id).first()
    )
    if row is None or not row.token:
        raise NotFound("There is no such subscription.")
    return row


def category_of_link(subscription: Subscription, slug: str) -> MessageCategory | None:
    """The category that a link unsubscribes from; None: from all, also if the category is gone or cannot be refused,
    since a link in a message has to work."""
    category = category_by_slug(subscription.application_id, slug) if slug else None
    return category if category is not None and category.may_opt_out else None


def unsubscribe(
    *, subscription: Subscription, category: str = "", message_id: UUID | None = None, source: str = ConsentSource.LINK
) -> Unsubscribed:
    """Refuse the category (slug), or everything: the subscription ends (-45 for e-mail), its address comes on the
    suppression list and consent to advertising on the channel is withdrawn. Doing it again changes nothing."""
    channel = CHANNEL_OF[subscription.type]
    refused = category_of_link(subscription, category)
    if refused is not None:
        choices = Choices(categories={channel: {refused.slug: False}})
        preferences_set(
            subject=Subject.of_subscription(subscription), choices=choices, source=source, message_id=message_id
        )
        return Unsubscribed(subscription, refused)
    with transaction.atomic():
        row = locked(subscription, archived_too=True)
        change = SubscriptionChange(row, setter=Setter.PERSON, source=source)
        if row.is_subscribed or row.subscription_status == SubscriptionStatus.OPT_IN_PENDING:
            change.set_status(OPTED_OUT[row.type], reason=f"by a link of message {message_id}" if message_id else "")
        change.save()
        suppress_subscription(row, reason=SuppressionReason.UNSUBSCRIBED, source=source)
        marketing_withdraw(subject=Subject.of_subscription(row), channel=channel, source=source, message_id=message_id)
    return Unsubscribed(row, None)
