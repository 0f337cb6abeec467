"""Which adapter serves which subscriptions: adding a channel is one adapter file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.conf import settings

from apps.messaging.adapters.base import Adapter, Endpoint


class Route(NamedTuple):
    """A kind of subscription, its channel, and who delivers to it."""

    subscription_type: str
    channel_type: str
    adapter: Adapter


def _routes() -> tuple[Route, ...]:
    return ()


ROUTES = _routes()


def adapters() -> list[Adapter]:
    """Every adapter once."""
    return list({route.adapter.name: route.adapter for route in ROUTES}.values())


def adapters_of(channel_type: str) -> list[Adapter]:
    """The adapters of a channel: content must please each of them."""
    return [route.adapter for route in ROUTES if route.channel_type == channel_type]


def adapter_for(subscription_type: str) -> Adapter:
    """Raises `KeyError` for a kind of subscription that nobody delivers to yet."""
    return {route.subscription_type: route.adapter for route in ROUTES}[subscription_type]


def subscription_types_of(channel_type: str) -> Sequence[str]:
    """The kinds of subscription that a message on this channel can go to; empty if the channel is not there yet."""
    return [route.subscription_type for route in ROUTES if route.channel_type == channel_type]


def endpoint_for(name: str) -> Endpoint:
    """Where an adapter's provider is, from settings."""
    prefix = name.upper()
    return Endpoint(
        url=getattr(settings, f"{prefix}_URL"),
        sandbox_url=getattr(settings, f"{prefix}_SANDBOX_URL", ""),
        token_url=getattr(settings, f"{prefix}_TOKEN_URL", ""),
        ca_file=settings.PROVIDER_CA_FILE,
        connections=settings.PROVIDER_CONNECTIONS,
        streams=settings.PROVIDER_STREAMS,
        timeout_s=settings.PROVIDER_TIMEOUT_S,
    )
