"""Which adapter serves which kind of subscription. A new channel is its file, and a line here."""

from __future__ import annotations

from django.conf import settings

from apps.messaging.adapters.apns import ApnsAdapter
from apps.messaging.adapters.base import Adapter, Endpoint
from apps.messaging.adapters.fcm import FcmAdapter

__all__ = [
    "ADAPTERS",
    "adapter_for",
    "adapter_named",
    "adapters_of",
    "endpoint_for",
    "subscription_types_of",
]

ADAPTERS: dict[str, tuple[str, Adapter]] = {
    "iOSPush": ("push", ApnsAdapter()),
    "AndroidPush": ("push", FcmAdapter()),
}
"""Subscription type (specification 3.3) → channel and adapter."""


def adapter_for(subscription_type: str) -> Adapter:
    """The adapter that reaches subscriptions of this type. Raises KeyError for a type that none reaches."""
    return ADAPTERS[subscription_type][1]


def adapters_of(channel: str) -> list[Adapter]:
    """All adapters of a channel; empty for a channel that has none."""
    return [adapter for of_channel, adapter in ADAPTERS.values() if of_channel == channel]


def subscription_types_of(channel: str) -> list[str]:
    """The subscription types that a message on this channel can reach."""
    return [subscription_type for subscription_type, (of_channel, _) in ADAPTERS.items() if of_channel == channel]


def adapter_named(name: str) -> Adapter:
    """The adapter of a provider, by its name in credentials. Raises KeyError for an unknown one."""
    return {adapter.name: adapter for _, adapter in ADAPTERS.values()}[name]


def endpoint_for(name: str) -> Endpoint:
    """Where the provider is, from the settings. Raises KeyError for an unknown name."""
    addresses = {
        "apns": {"url": settings.APNS_URL, "sandbox_url": settings.APNS_SANDBOX_URL},
        "fcm": {"url": settings.FCM_URL, "token_url": settings.FCM_TOKEN_URL},
    }
    return Endpoint(
        **addresses[name],
        ca_file=settings.PROVIDER_CA_FILE,
        connections=settings.PROVIDER_CONNECTIONS,
        streams=settings.PROVIDER_STREAMS,
        timeout_s=settings.PROVIDER_TIMEOUT_S,
    )
