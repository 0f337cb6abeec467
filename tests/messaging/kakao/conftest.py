"""Kakao credentials, sender profiles and templates that the stand-ins know."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from apps.messaging import dispatch
from apps.messaging.content import content_source
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.kakao.models import KakaoTemplate
from apps.messaging.kakao.services import kakao_sync
from apps.messaging.senders import close_senders
from apps.sandbox.gateway_credentials import NhnApp, SolapiAccount
from apps.tenants.services import credential_create
from tests.factories import make_dispatch, make_subscriptions
from tests.gateways import reset_gateway
from tests.messaging.sms.conftest import Gateway

TEXT = "#{name}님, 주문 #{order}이 도착했습니다."
PROFILE = "KA01PF0000000000000000000001"
BUTTONS = {
    "solapi": [{"buttonType": "WL", "buttonName": "보기", "linkMo": "https://shop.example/o/#{order}"}],
    "nhn": [{"ordering": 1, "type": "WL", "name": "보기", "linkMo": "https://shop.example/o/#{order}"}],
}
APPROVED = {"solapi": "APPROVED", "nhn": "TSC03"}


@pytest.fixture
def to_sandbox(settings):
    settings.PROVIDER_TIMEOUT_S = 1.0
    settings.PUBLIC_URL = "https://signal.example"
    yield settings
    close_senders()


def registered(gateway, name, **template):
    fields = {"id": "T1", "profile": PROFILE, "name": "arrived", "content": TEXT, "buttons": BUTTONS[name]}
    gateway.control.register_templates({**fields, "status": APPROVED[name], **template})


def _gateway(application, sandbox, settings, provider, secret, registration, url):
    reset_gateway(sandbox)
    setattr(settings, url, sandbox.url)
    settings.PROVIDER_CA_FILE = str(sandbox.ca_file)
    sandbox.control.register_keys(registration)
    sandbox.control.settings(report_attempts=1)
    credential = credential_create(application=application, provider=provider, name=provider, secret=secret)
    return Gateway(sandbox, credential)


@pytest.fixture
def solapi(application, solapi_sandbox, to_sandbox):
    account = SolapiAccount()
    secret = {
        "api_key": account.api_key,
        "api_secret": account.api_secret,
        "webhook_secret": account.webhook_secret,
    }
    found = _gateway(
        application, solapi_sandbox, to_sandbox, "solapi_kakao", secret, account.registration(), "SOLAPI_URL"
    )
    found.control.register_profiles({"id": PROFILE, "search_id": "@shop"})
    found.control.report_to("http://127.0.0.1:9/", secret=account.webhook_secret)
    return found


@pytest.fixture
def nhn(application, nhn_sandbox, to_sandbox):
    app = NhnApp(service="kakao")
    secret = {"app_key": app.app_key, "secret_key": app.secret_key, "webhook_signature": app.webhook_signature}
    found = _gateway(application, nhn_sandbox, to_sandbox, "nhn_kakao", secret, app.registration(), "NHN_KAKAO_URL")
    found.control.register_profiles({"id": PROFILE, "search_id": "@shop", "account": app.app_key})
    found.control.report_to("http://127.0.0.1:9/", secret=app.webhook_signature)
    return found


@pytest.fixture(params=["solapi", "nhn"])
def kakao(request):
    """Each provider in turn, with an approved template that is in step."""
    gateway = request.getfixturevalue(request.param)
    gateway.name = request.param
    registered(gateway, request.param)
    kakao_sync(application=gateway.credential.application)
    assert KakaoTemplate.objects.get().is_usable
    return gateway


@pytest.fixture
def send(application):
    """Send the template to numbers, the whole way from a content to what is recorded."""

    def send(numbers, data=None, **fields):
        make_subscriptions(
            application, numbers, type="KakaoTalk", token_registered_at=timezone.now() - timedelta(days=1)
        )
        source = content_source(
            application=application,
            channel_type="kakao_talk",
            data={"name": "김", "order": "7"} if data is None else data,
            options={"template_code": "T1"},
        )
        words = {name: getattr(source, name) for name in ("title", "body", "data", "options")}
        order = make_dispatch(application, audience={}, channel_type="kakao_talk", **words, **fields)
        for batch_id in dispatch_slice(dispatch=order, after_id=None, limit=100_000).batch_ids:
            assert dispatch.run_batch(UUID(str(batch_id)))
        return order

    return send
