"""Which adapter serves which subscription type, and where the settings say its provider is."""

from __future__ import annotations

import pytest

from apps.messaging.adapters import registry
from apps.messaging.adapters.base import Endpoint


def test_each_push_type_has_its_adapter():
    assert registry.adapter_for("iOSPush").name == "apns"
    assert registry.adapter_for("AndroidPush").name == "fcm"
    assert [adapter.name for adapter in registry.adapters_of("push")] == ["apns", "fcm"]
    assert registry.subscription_types_of("push") == ["iOSPush", "AndroidPush"]
    assert registry.adapters_of("telegraph") == []
    assert registry.adapter_named("fcm") is registry.adapter_for("AndroidPush")
    with pytest.raises(KeyError):
        registry.adapter_for("Telegraph")


def test_endpoints_come_from_the_settings(settings):
    settings.APNS_URL, settings.APNS_SANDBOX_URL = "https://apns.test", "https://apns-sandbox.test"
    settings.FCM_URL, settings.FCM_TOKEN_URL = "https://fcm.test", "https://oauth.test/token"
    settings.PROVIDER_CA_FILE, settings.PROVIDER_CONNECTIONS = "/ca.pem", 3
    settings.PROVIDER_STREAMS, settings.PROVIDER_TIMEOUT_S = 50, 7.0
    common = {"ca_file": "/ca.pem", "connections": 3, "streams": 50, "timeout_s": 7.0}
    assert registry.endpoint_for("apns") == Endpoint(
        "https://apns.test", sandbox_url="https://apns-sandbox.test", **common
    )
    assert registry.endpoint_for("fcm") == Endpoint("https://fcm.test", token_url="https://oauth.test/token", **common)
