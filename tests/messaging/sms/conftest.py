"""Credentials that the gateways' stand-ins know, and sends that go the whole way."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client
from django.utils import timezone

from apps.messaging import dispatch
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.senders import close_senders
from apps.sandbox.gateway_credentials import NhnApp, SolapiAccount, TwilioAccount
from apps.tenants.services import credential_create
from tests.factories import make_dispatch, make_subscriptions
from tests.gateways import reset_gateway

KOREAN_SENDER = "0212345678"
TWILIO_SENDER = "+15005550006"


class Gateway:
    """A stand-in, and our credential at it."""

    def __init__(self, sandbox, credential) -> None:
        self.control = sandbox.control
        self.credential = credential

    @property
    def address(self) -> str:
        return f"/webhooks/{self.credential.provider}/{self.credential.pk}"

    def report(self, body: bytes, query: str = "", content_type: str = "application/json", **headers: str):
        """Post a report to us, as the gateway would."""
        return Client().generic("POST", self.address + query, data=body, content_type=content_type, headers=headers)


@pytest.fixture
def to_sandboxes(settings):
    settings.PROVIDER_TIMEOUT_S = 1.0
    settings.PUBLIC_URL = "https://signal.example"

    def point(name: str, sandbox) -> None:
        setattr(settings, name, sandbox.url)
        settings.PROVIDER_CA_FILE = str(sandbox.ca_file)

    yield point
    close_senders()


@pytest.fixture
def solapi(application, solapi_sandbox, to_sandboxes):
    to_sandboxes("SOLAPI_URL", reset_gateway(solapi_sandbox))
    account = SolapiAccount()
    solapi_sandbox.control.register_keys(account.registration())
    solapi_sandbox.control.register_senders(KOREAN_SENDER)
    secret = {
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "from": KOREAN_SENDER,
        "webhook_secret": account.webhook_secret,
    }
    credential = credential_create(application=application, provider="solapi", name="solapi", secret=secret)
    solapi_sandbox.control.report_to("http://127.0.0.1:9/", secret=account.webhook_secret)
    solapi_sandbox.control.settings(report_attempts=1)
    return Gateway(solapi_sandbox, credential)


@pytest.fixture
def twilio(application, twilio_sandbox, to_sandboxes):
    to_sandboxes("TWILIO_URL", reset_gateway(twilio_sandbox))
    account = TwilioAccount()
    twilio_sandbox.control.register_keys(account.registration())
    twilio_sandbox.control.register_senders(TWILIO_SENDER)
    secret = {"account_sid": account.account_sid, "auth_token": account.auth_token, "from": TWILIO_SENDER}
    credential = credential_create(application=application, provider="twilio", name="twilio", secret=secret)
    twilio_sandbox.control.settings(reports="hold")
    return Gateway(twilio_sandbox, credential)


@pytest.fixture
def nhn(application, nhn_sandbox, to_sandboxes):
    to_sandboxes("NHN_SMS_URL", reset_gateway(nhn_sandbox))
    app = NhnApp(service="sms")
    nhn_sandbox.control.register_keys(app.registration())
    nhn_sandbox.control.register_senders(KOREAN_SENDER)
    secret = {
        "app_key": app.app_key,
        "secret_key": app.secret_key,
        "from": KOREAN_SENDER,
        "webhook_signature": app.webhook_signature,
    }
    credential = credential_create(application=application, provider="nhn_sms", name="nhn", secret=secret)
    nhn_sandbox.control.report_to("http://127.0.0.1:9/", secret=app.webhook_signature)
    nhn_sandbox.control.settings(report_attempts=1)
    return Gateway(nhn_sandbox, credential)


def e164(marked: str) -> str:
    """A number as a stand-in marks it, as we keep it."""
    return marked if marked.startswith("+") else f"+82{marked[1:]}"


@pytest.fixture
def send(application):
    """Send a text to numbers, the whole way from a dispatch to what is recorded."""

    def send(numbers, **fields):
        since = timezone.now() - timedelta(days=1)
        make_subscriptions(application, numbers, type="SMS", token_registered_at=since)
        order = make_dispatch(application, audience={}, channel_type="sms", **{"title": "", "body": "Hi"} | fields)
        for batch_id in dispatch_slice(dispatch=order, after_id=None, limit=100_000).batch_ids:
            assert dispatch.run_batch(UUID(str(batch_id)))
        return order

    return send
