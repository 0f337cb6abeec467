"""Credentials of e-mail for tests, and the stand-ins that know them."""

from __future__ import annotations

import pytest

from apps.messaging.senders import close_senders
from apps.tenants.services import credential_create
from tests.mail_peers import ESP_KEYS, SES_KEY_ID, SMTP_ACCOUNT, port_of


def smtp_secret(relay, **changes):
    """The secret of an account that `smtp_relay` knows."""
    return {
        "host": "localhost",
        "port": port_of(relay.url),
        "security": "starttls",
        "username": SMTP_ACCOUNT["username"],
        "password": SMTP_ACCOUNT["password"],
        "from_address": "news@example.com",
        "from_name": "Shop",
        **changes,
    }


@pytest.fixture
def relay_settings(settings, smtp_relay):
    settings.OUTGOING_ALLOW_PRIVATE = True
    settings.PROVIDER_CA_FILE = str(smtp_relay.ca_file)
    settings.PROVIDER_TIMEOUT_S = 3.0
    settings.PUBLIC_URL = "https://signal.example.com"


@pytest.fixture
def mail(application, smtp_relay, relay_settings):
    """The relay, and a credential of the application that it knows."""
    credential_create(application=application, provider="smtp", name="relay", secret=smtp_secret(smtp_relay))
    yield smtp_relay.control
    close_senders()


def esp_secret(esp, **changes):
    """The secret of an account that `esp_sandbox` knows; `esp` as the stand-in names it."""
    secret = {"esp": "amazon_ses" if esp == "ses" else esp, "from_address": "news@example.com", "from_name": "Shop"}
    if esp == "ses":
        keys = {"access_key_id": SES_KEY_ID, "secret_access_key": ESP_KEYS["ses"], "region": "ap-northeast-2"}
        return secret | keys | changes
    return secret | {"api_key": ESP_KEYS[esp]} | changes


@pytest.fixture
def esp_settings(settings, esp_sandbox):
    settings.EMAIL_API_URL = esp_sandbox.url
    settings.PROVIDER_CA_FILE = str(esp_sandbox.ca_file)
    settings.PROVIDER_TIMEOUT_S = 3.0
    settings.PUBLIC_URL = "https://signal.example.com"
