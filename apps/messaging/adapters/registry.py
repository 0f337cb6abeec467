"""Which adapters serve which kind of subscription. A new provider is its file, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from apps.messaging.adapters import email_content, in_app_content, kakao_content, push_content, sms_content
from apps.messaging.adapters.anymail import AnymailAdapter
from apps.messaging.adapters.apns import ApnsAdapter
from apps.messaging.adapters.base import Adapter, Endpoint
from apps.messaging.adapters.fcm import FcmAdapter
from apps.messaging.adapters.in_app import InAppAdapter
from apps.messaging.adapters.nhn_kakao import NhnKakaoAdapter
from apps.messaging.adapters.nhn_sms import NhnSmsAdapter
from apps.messaging.adapters.smtp import SmtpAdapter
from apps.messaging.adapters.solapi import SolapiAdapter
from apps.messaging.adapters.solapi_kakao import SolapiKakaoAdapter
from apps.messaging.adapters.twilio import TwilioAdapter

__all__ = [
    "CHANNELS",
    "OPTION_CHECKS",
    "Reach",
    "adapter_named",
    "adapters_for",
    "all_adapters",
    "endpoint_for",
    "providers_for",
    "subscription_types_of",
    "types_reached_by",
]


class Reach(NamedTuple):
    """How subscriptions of one type are reached."""

    channel: str
    adapters: tuple[Adapter, ...]
    """One for each provider. The application's active credentials decide by which of them a message goes."""


CHANNELS: dict[str, Reach] = {
    "iOSPush": Reach("push", (ApnsAdapter(),)),
    "AndroidPush": Reach("push", (FcmAdapter(),)),
    "Email": Reach("email", (SmtpAdapter(), AnymailAdapter())),
    "InAppMessage": Reach("in_app", (InAppAdapter(),)),
    "SMS": Reach("sms", (SolapiAdapter(), TwilioAdapter(), NhnSmsAdapter())),
    "KakaoTalk": Reach("kakao_talk", (SolapiKakaoAdapter(), NhnKakaoAdapter())),
}
"""Subscription type (specification 3.3) → channel and adapters."""


OPTION_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "push": push_content.check_options,
    "email": email_content.check_options,
    "in_app": in_app_content.check_options,
    "sms": sms_content.check_options,
    "kakao_talk": kakao_content.check_options,
}
"""Channel → the check of its content's options, which raises `ContentError`."""


def adapters_for(subscription_type: str) -> tuple[Adapter, ...]:
    """The adapters that reach subscriptions of this type. Raises KeyError for a type that none reaches."""
    return CHANNELS[subscription_type].adapters


def providers_for(subscription_type: str) -> list[str]:
    """Their names in credentials."""
    return [adapter.name for adapter in adapters_for(subscription_type)]


def subscription_types_of(channel: str) -> list[str]:
    """The subscription types that a message on this channel can reach; empty for a channel that has no adapter."""
    return [subscription_type for subscription_type, reach in CHANNELS.items() if reach.channel == channel]


def types_reached_by(provider: str) -> list[str]:
    """The subscription types that this provider reaches."""
    return [subscription_type for subscription_type in CHANNELS if provider in providers_for(subscription_type)]


@cache
def all_adapters() -> dict[str, Adapter]:
    """Every adapter by its provider's name."""
    return {adapter.name: adapter for reach in CHANNELS.values() for adapter in reach.adapters}


def adapter_named(name: str) -> Adapter:
    """The adapter of a provider, by its name in credentials. Raises KeyError for an unknown one."""
    return all_adapters()[name]


def endpoint_for(name: str, credential_id: UUID | None = None) -> Endpoint:
    """Where the provider is, from the settings, and where it is to report on what is sent with a credential. Raises
    KeyError for an unknown name."""
    addresses = {
        "apns": {"url": settings.APNS_URL, "sandbox_url": settings.APNS_SANDBOX_URL},
        "fcm": {"url": settings.FCM_URL, "token_url": settings.FCM_TOKEN_URL},
        "solapi": {"url": settings.SOLAPI_URL},
        "solapi_kakao": {"url": settings.SOLAPI_URL},
        "twilio": {"url": settings.TWILIO_URL},
        "nhn_sms": {"url": settings.NHN_SMS_URL},
        "nhn_kakao": {"url": settings.NHN_KAKAO_URL},
        "smtp": {"url": ""},  # in the credential
        "anymail": {"url": settings.EMAIL_API_URL},  # of the provider that the credential names, unless told
        "in_app": {"url": ""},  # ourselves
    }
    return Endpoint(
        **addresses[name],
        public_url=settings.PUBLIC_URL,
        report_url=f"{settings.PUBLIC_URL.rstrip('/')}/webhooks/{name}/{credential_id}" if credential_id else "",
        ca_file=settings.PROVIDER_CA_FILE,
        connections=settings.PROVIDER_CONNECTIONS,
        streams=settings.PROVIDER_STREAMS,
        timeout_s=settings.PROVIDER_TIMEOUT_S,
    )
