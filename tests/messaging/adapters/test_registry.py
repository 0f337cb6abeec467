"""Which adapter serves which subscription type, and where the settings say its provider is."""

from __future__ import annotations

import pytest

from apps.messaging.adapters import registry
from apps.messaging.adapters.base import Endpoint
from apps.subscriptions.models import SubscriptionType
from apps.tenants.channels import ChannelType


def test_each_push_type_has_its_adapter():
    assert registry.providers_for("iOSPush") == ["apns"]
    assert registry.providers_for("AndroidPush") == ["fcm"]
    assert registry.subscription_types_of("push") == ["iOSPush", "AndroidPush"]
    assert registry.subscription_types_of("telegraph") == []
    assert registry.types_reached_by("fcm") == ["AndroidPush"]
    assert registry.adapter_named("fcm") is registry.adapters_for("AndroidPush")[0]
    with pytest.raises(KeyError):
        registry.adapters_for("Telegraph")


def test_every_channel_reaches_somebody():
    assert all(registry.subscription_types_of(channel) for channel in ChannelType.values)
    assert set(registry.CHANNELS) == set(SubscriptionType.values)


def test_every_provider_of_a_credential_has_an_adapter_with_an_address():
    assert {name: registry.endpoint_for(name).public_url for name in registry.all_adapters()}


def test_endpoints_come_from_the_settings(settings):
    settings.APNS_URL, settings.APNS_SANDBOX_URL = "https://apns.test", "https://apns-sandbox.test"
    settings.PUBLIC_URL = "https://us.test"
    settings.FCM_URL, settings.FCM_TOKEN_URL = "https://fcm.test", "https://oauth.test/token"
    settings.PROVIDER_CA_FILE, settings.PROVIDER_CONNECTIONS = "/ca.pem", 3
    settings.PROVIDER_STREAMS, settings.PROVIDER_TIMEOUT_S = 50, 7.0
    common = {"public_url": "https://us.test", "ca_file": "/ca.pem", "connections": 3, "streams": 50, "timeout_s": 7.0}
    assert registry.endpoint_for("apns") == Endpoint(
        "https://apns.test", sandbox_url="https://apns-sandbox.test", **common
    )
    assert registry.endpoint_for("fcm") == Endpoint("https://fcm.test", token_url="https://oauth.test/token", **common)
