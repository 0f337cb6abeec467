"""Who prefers, consents and refuses: a user on all of their devices, or a subscription that belongs to nobody."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from apps.subscriptions.models import AppUser, Subscription, SubscriptionType
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application

CHANNEL_OF: dict[str, str] = {
    SubscriptionType.IOS_PUSH: ChannelType.PUSH,
    SubscriptionType.ANDROID_PUSH: ChannelType.PUSH,
    SubscriptionType.EMAIL: ChannelType.EMAIL,
    SubscriptionType.SMS: ChannelType.SMS,
    SubscriptionType.KAKAO_TALK: ChannelType.KAKAO_TALK,
    SubscriptionType.IN_APP_MESSAGE: ChannelType.IN_APP,
}
"""Channel by type of subscription."""


class Subject(NamedTuple):
    """Either `user` or `subscription` is set, as in the rows of this package."""

    application: Application
    user_id: UUID | None
    subscription_id: UUID | None
    """Of a subject without user: itself."""
    through_id: UUID | None = None
    """The subscription that the choice came through; events name it."""

    @property
    def id(self) -> UUID:
        key = self.user_id or self.subscription_id
        assert key is not None
        return key

    @classmethod
    def of_user(cls, user: AppUser) -> Subject:
        return cls(user.application, user.pk, None)

    @classmethod
    def of_subscription(cls, subscription: Subscription) -> Subject:
        """The subscription's user if it has one, else itself."""
        own = None if subscription.user_id else subscription.pk
        return cls(subscription.application, subscription.user_id, own, subscription.pk)


def masked_address(type: str, address: str) -> str:
    """Enough of an address to recognise one's own: `k…@example.com`, `+8210…78`."""
    if type == SubscriptionType.EMAIL:
        local, _, domain = address.rpartition("@")
        return f"{local[:1]}…@{domain}"[:100]
    if type in (SubscriptionType.SMS, SubscriptionType.KAKAO_TALK):
        return f"{address[:5]}…{address[-2:]}"
    return "…"
