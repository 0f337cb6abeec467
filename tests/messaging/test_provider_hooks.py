"""The door for providers' reports: who may knock, and what is answered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.test import Client

from apps.messaging.models import Message
from apps.messaging.receipts.nhn import parse_kakao
from apps.messaging.receipts.providers import Hook
from apps.subscriptions.models import Subscription
from apps.tenants.services import credential_create
from tests.factories import make_messages

pytestmark = pytest.mark.django_db
SECRET = {"account_sid": "AC" + "0" * 32, "auth_token": "f" * 32, "from": "+15005550006"}


@pytest.fixture
def credential(application):
    return credential_create(application=application, provider="twilio", name="t", secret=SECRET)


@pytest.fixture
def knock(settings):
    settings.PUBLIC_URL = "https://signal.example.com"

    def post(path: str, fields: dict[str, str], *, token: str = SECRET["auth_token"]):
        url = f"https://signal.example.com{path}"
        said = url + "".join(name + fields[name] for name in sorted(fields))
        mac = hmac.new(token.encode(), said.encode(), hashlib.sha1).digest()
        client = Client(headers={"X-Twilio-Signature": base64.b64encode(mac).decode()})
        return client.post(path, urlencode(fields), content_type="application/x-www-form-urlencoded")

    return post


def status(message: Message, state: str, code: str = "") -> dict[str, str]:
    fields = {"MessageSid": "SM" + "1" * 32, "AccountSid": SECRET["account_sid"], "MessageStatus": state}
    return {**fields, "To": "+821012345678", **({"ErrorCode": code} if code else {})}


def test_a_signed_report_is_applied_before_it_is_answered_and_once(application, credential, knock):
    message = make_messages(application, ["successful"])[0]
    path = f"/webhooks/twilio/{credential.pk}?message_id={message.pk}"
    answers = [knock(path, status(message, "undelivered", "30005")) for _ in range(2)]
    assert {answer.status_code for answer in answers} <= {200, 204}
    row = Message.objects.get(pk=message.pk)
    assert (row.status, row.error_reason) == ("failed", "30005")
    assert Subscription.objects.get(pk=message.subscription_id).subscription_status == -52


def test_a_forged_report_changes_nothing_and_tells_nothing(application, credential, knock):
    message = make_messages(application, ["successful"])[0]
    path = f"/webhooks/twilio/{credential.pk}?message_id={message.pk}"
    forged = knock(path, status(message, "delivered"), token="0" * 32)
    nobodys = knock(f"/webhooks/twilio/{uuid4()}?message_id={message.pk}", status(message, "delivered"))
    unknown = knock(f"/webhooks/telegraph/{credential.pk}", {})
    assert [(a.status_code, a.content) for a in (forged, nobodys, unknown)] == [(403, forged.content)] * 3
    assert Message.objects.get(pk=message.pk).status == "successful"


def test_what_cannot_be_read_and_proves_nothing_leaves_no_trace(credential):
    answer = Client().post(f"/webhooks/twilio/{credential.pk}", b"\xff=%", content_type="application/octet-stream")
    assert answer.status_code == 403
    credential.refresh_from_db()
    assert not credential.last_error


def test_a_neighbours_message_is_not_reached_with_a_signature_of_ones_own(other_application, credential, knock):
    message = make_messages(other_application, ["successful"])[0]
    knock(f"/webhooks/twilio/{credential.pk}?message_id={message.pk}", status(message, "undelivered", "30005"))
    assert Message.objects.get(pk=message.pk).status == "successful"
    assert Subscription.objects.get(pk=message.subscription_id).subscription_status == 1


def test_what_nhn_says_of_a_template_is_of_the_credential_that_it_came_to():
    own, stranger = uuid4(), uuid4()
    row = {"status": "TSC03", "credential_id": str(stranger), "kind": "else"}
    body = json.dumps({"event": "TEMPLATE_STATUS_UPDATE", "hooks": [row]}).encode()
    headers = {"x-toast-webhook-signature": "s" * 16}
    found = parse_kakao(Hook(own, {"webhook_signature": "s" * 16}, "", {}, headers, body, "application/json"))
    assert [(event["kind"], event["credential_id"]) for event in found.events] == [("template", str(own))]


def test_a_report_that_is_too_large_is_refused(credential, settings):
    settings.WEBHOOK_BODY_MAX_BYTES = 1_000
    body = json.dumps({"x": "y" * 2_000})
    answer = Client().post(f"/webhooks/twilio/{credential.pk}", body, content_type="application/json")
    assert answer.status_code == 413


def test_who_guesses_is_stopped(credential, knock, settings):
    settings.API_RATE_PER_MINUTE = {**settings.API_RATE_PER_MINUTE, "unauthenticated": 2}
    codes = [knock(f"/webhooks/twilio/{credential.pk}", {}, token="0" * 32).status_code for _ in range(4)]
    assert codes == [403, 403, 429, 429]
