"""The stand-ins for mail relays and e-mail providers: `smtp_relay` and `esp_sandbox`, reset before each test."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from apps.sandbox.client import Sandbox, running_sandbox

MAIL_DOMAIN = "example.com"
SMTP_ACCOUNT = {"username": "shop", "password": "relay-secret", "domains": [MAIL_DOMAIN]}
ESP_KEYS = {
    "sendgrid": "SG.sandbox-key", "mailgun": "mailgun-sandbox-key", "postmark": "postmark-sandbox-token",
    "brevo": "xkeysib-sandbox", "resend": "re_sandbox", "ses": "ses-sandbox-secret-access-key",
}  # fmt: skip
SES_KEY_ID = "AKIASANDBOX000000000"
ESP_PATHS = {
    "sendgrid": "/sendgrid/v3/", "mailgun": "/mailgun/v3/", "postmark": "/postmark/", "brevo": "/brevo/v3/",
    "resend": "/resend/", "ses": "/ses",
}  # fmt: skip


def port_of(url: str) -> int:
    """The port of a stand-in's address, e.g. of `smtp_relay.url` (STARTTLS) and `smtp_relay.tls_url`."""
    port = urlsplit(url).port
    assert port is not None
    return port


def esp_url(sandbox: Sandbox, esp: str) -> str:
    """What django-anymail takes as `api_url`, and boto3 as `endpoint_url`."""
    return sandbox.url + ESP_PATHS[esp]


@pytest.fixture(scope="session")
def smtp_process(ca_dir):
    with running_sandbox("smtp", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture
def smtp_relay(smtp_process):
    """A mail relay that knows `SMTP_ACCOUNT`; `.control` looks into its journal."""
    smtp_process.control.reset()
    smtp_process.control.register_keys(SMTP_ACCOUNT)
    return smtp_process


@pytest.fixture(scope="session")
def esp_process(ca_dir):
    with running_sandbox("esp", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture
def esp_sandbox(esp_process):
    """The e-mail providers, each knowing its key of `ESP_KEYS`; `.control.add_hook`, `.send_event` are for webhooks."""
    control = esp_process.control
    control.reset()
    control.reset("keys", "hooks")
    control.register_keys(
        *({"esp": esp, "api_key": key, "domains": [MAIL_DOMAIN], "key_id": SES_KEY_ID} for esp, key in ESP_KEYS.items())
    )
    return esp_process
