"""What gateways say later, by webhook and when they are asked; and what people answer to a message."""

import hashlib
import hmac
import json
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from twilio.request_validator import RequestValidator

from apps.messaging import gateway_requests
from apps.messaging.models import GatewayRequest, Message
from apps.messaging.receipts.hooks import ask_for_reports
from apps.messaging.receipts.providers import ASKERS, AskFailed
from apps.messaging.receipts.twilio import signature
from apps.sandbox.gateway_behaviours import marked_number
from apps.subscriptions.models import Subscription
from apps.tenants.models import ChannelCredential
from tests.factories import make_subscription
from tests.messaging.sms.conftest import TWILIO_SENDER, e164

pytestmark = pytest.mark.django_db(transaction=True)
NUMBER = "+821020000001"


def fates():
    return sorted((status, reason or "") for status, reason in Message.objects.values_list("status", "error_reason"))


def replayed(gateway, *, repeats=1):
    """Post to us what the stand-in posted; gives the answers' statuses."""
    statuses = []
    for post in gateway.control.wait_for_reports()["log"]:
        headers = {name.lower(): value for name, value in post["headers"].items()}
        kind = headers.pop("content-type")
        query = post["url"].partition("?")[2]
        for _ in range(repeats):
            answer = gateway.report(post["body"].encode(), f"?{query}" if query else "", kind, **headers)
            statuses.append(answer.status_code)
    return statuses


def test_what_solapi_reports_moves_each_message_once(solapi, send):
    send([NUMBER, e164(marked_number("solapi", "reported:3032"))])
    assert set(replayed(solapi, repeats=2)) == {204}
    assert fates() == [("failed", "3032"), ("received", "")]
    assert sorted(Subscription.objects.values_list("subscription_status", flat=True)) == [-52, 1]


def test_solapis_report_needs_the_webhooks_secret(solapi, send):
    send([NUMBER])
    body = b'[{"eventDataId": "1", "data": {"statusCode": "4000"}}]'
    assert solapi.report(body).status_code == 403
    assert solapi.report(body, **{"x-solapi-secret": "0" * 40}).status_code == 403
    assert solapi.report(body, "?secret=").status_code == 403
    secret = solapi.credential.secret["webhook_secret"]
    assert solapi.report(body, f"?secret={secret}").status_code == 204
    for unreadable in (b"", b"{}", b"\xff", b"[" * 5_000):
        assert solapi.report(unreadable, f"?secret={secret}").status_code == 400


def test_a_report_about_a_strangers_message_changes_nothing(solapi, send):
    send([NUMBER])
    data = {"statusCode": "3032", "customFields": {"message_id": str(uuid4())}}
    secret = solapi.credential.secret["webhook_secret"]
    for message_id in (str(uuid4()), "no-uuid", 7, None):
        data["customFields"]["message_id"] = message_id
        body = json.dumps([{"data": data}, {"data": 3}, 4]).encode()
        assert solapi.report(body, f"?secret={secret}").status_code == 204
    assert Message.objects.get().status == "successful"


def test_twilios_callbacks_come_in_any_order_and_never_move_back(twilio, send):
    twilio.control.settings(report_order="reversed", reports="send", report_attempts=1)
    send([NUMBER, e164(marked_number("twilio", "reported:30005"))])
    assert set(replayed(twilio)) == {204}
    assert fates() == [("failed", "30005"), ("received", "")]
    assert sorted(Subscription.objects.values_list("subscription_status", flat=True)) == [-52, 1]


def test_twilios_signature_is_that_of_its_own_library():
    form = {"MessageStatus": "delivered", "To": "+82 한", "A": ""}
    url = "https://signal.example/webhooks/twilio/1?message_id=2"
    ours = signature("token", url, {name: [value] for name, value in form.items()})
    assert RequestValidator("token").validate(url, form, ours)


def post_signed(twilio, form, *, token=None, query="", url=None):
    url = url or f"https://signal.example{twilio.address}{query}"
    token = token or twilio.credential.secret["auth_token"]
    signed = RequestValidator(token).compute_signature(url, form)
    body = urlencode(form).encode()
    return twilio.report(body, query, "application/x-www-form-urlencoded", **{"x-twilio-signature": signed})


def test_a_forged_or_altered_callback_of_twilio_is_refused(twilio, send):
    send([NUMBER])
    message = Message.objects.get()
    form = {"AccountSid": twilio.credential.secret["account_sid"], "MessageStatus": "undelivered", "ErrorCode": "30005"}
    query = f"?message_id={message.pk}"
    assert post_signed(twilio, form, query=query, token="0" * 32).status_code == 403
    other_address = f"https://signal.example{twilio.address}?message_id={uuid4()}"
    assert post_signed(twilio, form, query=query, url=other_address).status_code == 403
    assert post_signed(twilio, {**form, "AccountSid": "AC" + "0" * 32}, query=query).status_code == 403
    assert Message.objects.get().status == "successful"
    with_port = f"https://signal.example:443{twilio.address}{query}"
    assert post_signed(twilio, form, query=query, url=with_port).status_code == 204
    assert Message.objects.get().status == "failed"


def test_stop_ends_the_subscription_and_start_revives_it(twilio):
    subscription = make_subscription(twilio.credential.application, type="SMS", token=NUMBER)
    form = {"AccountSid": twilio.credential.secret["account_sid"], "From": NUMBER, "To": TWILIO_SENDER}
    for words, status in (({"Body": "stop ", "OptOutType": "STOP"}, -54), ({"Body": "START"}, 1), ({"Body": "Hi"}, 1)):
        answer = post_signed(twilio, {**form, **words})
        assert (answer.status_code, answer.content) == (200, b"<Response/>")
        subscription.refresh_from_db()
        assert subscription.subscription_status == status


def test_start_revives_nobody_who_was_ended_otherwise(twilio):
    subscription = make_subscription(twilio.credential.application, type="SMS", token=NUMBER, subscription_status=-31)
    form = {"AccountSid": twilio.credential.secret["account_sid"], "From": NUMBER, "Body": "START"}
    post_signed(twilio, form)
    subscription.refresh_from_db()
    assert subscription.subscription_status == -31


def test_what_nhn_reports_is_believed_with_its_signature_only(nhn, send):
    send([NUMBER, e164(marked_number("nhn", "reported:3006")), "+14155552671"])
    assert set(replayed(nhn, repeats=2)) == {204}
    found = fates()
    assert found == [("failed", "3006"), ("received", ""), ("received", "")]
    assert nhn.report(b"{}").status_code == 403
    assert nhn.report(b"{}", **{"x-toast-webhook-signature": "guess"}).status_code == 403


def test_a_call_to_the_080_number_ends_the_subscription(nhn, send):
    subscription = make_subscription(nhn.credential.application, type="SMS", token=NUMBER)
    nhn.control.unsubscribe("01020000001", app_key=nhn.credential.secret["app_key"])
    assert replayed(nhn) == [204]
    subscription.refresh_from_db()
    assert subscription.subscription_status == -54


@pytest.mark.parametrize(
    ("provider", "behaviour", "status"),
    [("solapi", "reported:3010", -50), ("nhn", "reported:3003", -52), ("twilio", "reported:21610", -54)],
)
def test_a_gateway_that_does_not_report_is_asked(request, send, settings, provider, behaviour, status):
    gateway = request.getfixturevalue(provider)
    settings.PUBLIC_URL = "http://localhost:8000"
    gateway.control.settings(reports="off")
    send([NUMBER, e164(marked_number(provider, behaviour))])
    GatewayRequest.objects.update(ask_at=timezone.now())
    assert ask_for_reports() == (2 if provider == "twilio" else 1)
    assert sorted(Message.objects.values_list("status", flat=True)) == ["failed", "received"]
    assert sorted(Subscription.objects.values_list("subscription_status", flat=True)) == [status, 1]
    assert not GatewayRequest.objects.filter(ask_at__isnull=False).exists()
    assert gateway_requests.take_due(10) == []


def test_a_gateway_that_does_not_answer_holds_up_no_other(solapi, send, monkeypatch):
    """One that hangs is asked once and left alone; a fault of ours ends the question and nobody else's."""
    send([NUMBER])
    GatewayRequest.objects.update(ask_at=timezone.now())
    (first,) = GatewayRequest.objects.all()
    for number, provider in enumerate(("silent", "silent", "broken", "broken")):
        credential = {"silent": UUID(int=1), "broken": UUID(int=2)}[provider]
        ChannelCredential.objects.get_or_create(
            pk=credential, application=first.application, provider=provider, name=provider, defaults={"secret": {}}
        )
        GatewayRequest.objects.create(
            application=first.application,
            credential_id=credential,
            provider=provider,
            request_id=str(number),
            message_ids=first.message_ids,
            references=[""],
            ask_at=timezone.now() - timedelta(minutes=1),
        )
    asked = []

    def silent(_secret, request_id):
        asked.append(request_id)
        raise AskFailed("operation_timedout")

    def broken(_secret, request_id):
        asked.append(request_id)
        raise KeyError("list")

    monkeypatch.setitem(ASKERS, "silent", silent)
    monkeypatch.setitem(ASKERS, "broken", broken)
    ask_for_reports()
    assert asked == ["0", "2", "3"]
    assert Message.objects.get().status == "received"
    assert GatewayRequest.objects.filter(provider="broken", ask_at__gt=timezone.now()).count() == 2


def test_one_missed_delivery_is_forgiven_and_many_end_the_subscription(solapi, send, settings):
    number = e164(marked_number("solapi", "reported:3043"))
    send([number])
    replayed(solapi)
    subscription = Subscription.objects.get()
    assert (subscription.subscription_status, subscription.soft_failures) == (1, 1)
    message = Message.objects.get()
    assert (message.status, message.error_reason, message.error_details["class"]) == ("failed", "3043", "recipient")


def test_hmac_of_solapis_documentation_is_ours():
    signed = hmac.new(b"secret", b"2019-07-01T00:41:48Zjqsba2jxjnrjor", hashlib.sha256).hexdigest()
    assert signed == "4297539ca79c85dd83b60cbddae60942710223ddcafc4bf02275193a649057ce"
