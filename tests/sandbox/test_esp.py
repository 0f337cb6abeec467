"""The e-mail providers' stand-in, with django-anymail on both sides: its backends send, its views read the events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from anymail.exceptions import AnymailAPIError, AnymailRecipientsRefused
from anymail.message import AnymailMessage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.conf import settings
from django.core.mail import get_connection
from django.test import RequestFactory

from apps.sandbox.client import Sandbox
from apps.sandbox.esp_apis import Outgoing
from apps.sandbox.esp_events import ESPS, EVENTS, Hook, event_of, signed, subscription_confirmation
from tests.mail_peers import ESP_KEYS, SES_KEY_ID, esp_process, esp_sandbox, esp_url

if not settings.configured:  # run by itself, without the product's settings
    settings.configure()
    django.setup()
warnings.filterwarnings("ignore", module="anymail")

__all__ = ["esp_process", "esp_sandbox"]  # fixtures; here they also serve without tests/conftest.py
VIEWS = {
    "sendgrid": ("sendgrid", "SendGridTrackingWebhookView"),
    "mailgun": ("mailgun", "MailgunTrackingWebhookView"),
    "postmark": ("postmark", "PostmarkTrackingWebhookView"),
    "brevo": ("brevo", "BrevoTrackingWebhookView"),
    "resend": ("resend", "ResendTrackingWebhookView"),
    "ses": ("amazon_ses", "AmazonSESTrackingWebhookView"),
}
KEY_NAMES = {"postmark": "server_token"}
Send = Callable[..., AnymailMessage]
RECIPIENT = "anna@example.net"


@pytest.fixture
def send(esp_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Send one message by a provider's django-anymail backend."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(esp_sandbox.ca_file))

    def post(esp: str, *to: str, key: str | None = None, **fields: Any) -> AnymailMessage:
        secret = key or ESP_KEYS[esp]
        if esp == "ses":
            client = {
                "endpoint_url": esp_url(esp_sandbox, esp), "verify": str(esp_sandbox.ca_file),
                "region_name": "eu-west-1", "aws_access_key_id": SES_KEY_ID,
                "aws_secret_access_key": secret, "config": {"retries": {"max_attempts": 0}},
            }  # fmt: skip
            connection = get_connection("anymail.backends.amazon_ses.EmailBackend", client_params=client)
        else:
            keys = {KEY_NAMES.get(esp, "api_key"): secret, "api_url": esp_url(esp_sandbox, esp)}
            connection = get_connection(f"anymail.backends.{esp}.EmailBackend", **keys)
        message = AnymailMessage(
            "안녕", "text", fields.pop("from_email", "Shop <news@example.com>"), list(to) or [RECIPIENT],
            connection=connection,
        )  # fmt: skip
        message.attach_alternative("<p>html</p>", "text/html")
        message.metadata = {"message_id": "0198c0de"}
        for name, value in fields.items():
            setattr(message, name, value)
        message.send()
        return message

    return post


@pytest.mark.parametrize("esp", ESPS)
def test_each_provider_takes_what_anymail_sends(esp_sandbox: Sandbox, send: Send, esp: str) -> None:
    message = send(
        esp,
        extra_headers={"List-Unsubscribe": "<https://example.com/u/1>"},
        attachments=[("a.txt", "hello", "text/plain")],
    )
    status = message.anymail_status.recipients[RECIPIENT]
    assert status.status in ("queued", "sent")
    (entry,) = esp_sandbox.control.entries(outcome="accepted")
    assert (entry["token"], entry["headers"]["esp"]) == (RECIPIENT, esp)
    if esp != "resend":
        assert entry["message_id"] == "0198c0de"
    if esp != "sendgrid":  # anymail makes that id itself
        assert entry["provider_id"] == status.message_id


@pytest.mark.parametrize("esp", ["sendgrid", "mailgun", "postmark", "brevo", "resend"])
def test_many_recipients_of_one_request_are_messages_of_their_own(esp_sandbox: Sandbox, send: Send, esp: str) -> None:
    to = [f"user{number}@example.net" for number in range(3)]
    send(esp, *to, merge_metadata={address: {"message_id": f"m-{address}"} for address in to}, merge_data={})
    entries = esp_sandbox.control.entries(outcome="accepted")
    assert [entry["token"] for entry in entries] == to
    if esp != "resend":
        assert [entry["message_id"] for entry in entries] == [f"m-{address}" for address in to]


@pytest.mark.parametrize("esp", ESPS)
def test_a_wrong_key_a_foreign_sender_and_a_bad_address_are_refused(esp_sandbox: Sandbox, send: Send, esp: str) -> None:
    for wrong in ({"key": "wrong"}, {"from_email": "news@example.org"}):
        with pytest.raises(AnymailAPIError):
            send(esp, **wrong)
    assert {entry["outcome"] for entry in esp_sandbox.control.entries()} == {"refused"}


@pytest.mark.parametrize("esp", ESPS)
@pytest.mark.parametrize("status", [429, 503])
def test_an_address_asks_for_a_refusal(send: Send, esp: str, status: int) -> None:
    with pytest.raises(AnymailAPIError) as caught:
        send(esp, f"anna+{status}~1@example.net")
    response = caught.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"] if esp == "ses" else response.status_code) == status
    send(esp, f"anna+{status}~1@example.net")


def test_postmark_knows_inactive_recipients(send: Send) -> None:
    with pytest.raises(AnymailRecipientsRefused):
        send("postmark", "anna+inactive@example.net")


OUTGOING = {
    esp: Outgoing(
        esp, "news@example.com", (RECIPIENT,), "Hi", {"message_id": "0198c0de"}, ["sale"],
        {"X-Metadata": '{"message_id": "0198c0de"}', "X-Mailin-custom": '{"message_id": "0198c0de"}'}, f"<id-{esp}@x>",
    )
    for esp in ESPS
}  # fmt: skip


def read_by_anymail(esp: str, hook: Hook, request: Any) -> list[Any]:
    """The events as anymail's view understands them, once it has checked the signature where it can."""
    module, name = VIEWS[esp]
    view_class = getattr(__import__(f"anymail.webhooks.{module}", fromlist=[name]), name)
    secrets = {"sendgrid": {"tracking_webhook_verification_key": hook.public_key if esp == "sendgrid" else ""},
               "mailgun": {"webhook_signing_key": hook.signing_key}}.get(esp, {})  # fmt: skip
    for key in secrets:
        if not hasattr(view_class, key):
            setattr(view_class, key, None)
    view = view_class(**secrets)
    view.basic_auth = [hook.basic_auth] if hook.basic_auth else []
    kind = request.headers["Content-Type"]
    posted = RequestFactory().post("/", request.body, content_type=kind, headers=request.headers)
    view.run_validators(posted)
    events: list[Any] = view.parse_events(posted)
    return events


NORMAL = {
    "delivered": "delivered", "bounced": "bounced", "soft-bounced": "bounced", "complained": "complained",
    "opened": "opened", "clicked": "clicked", "unsubscribed": "unsubscribed", "rejected": "rejected",
    "deferred": "deferred",
}  # fmt: skip
DIFFERENT = {
    ("resend", "rejected"): "bounced", ("ses", "unsubscribed"): "unknown", ("ses", "deferred"): "unknown",
}  # fmt: skip


@pytest.mark.parametrize("esp", ESPS)
def test_anymail_understands_every_event_and_its_signature(esp: str) -> None:
    hook, at = Hook(esp), 1_790_000_000.0
    for event in EVENTS:
        if (esp, event) == ("resend", "unsubscribed"):
            continue
        content = event_of(event, OUTGOING[esp], RECIPIENT, at=at)
        (read,) = read_by_anymail(esp, hook, signed(hook, [content], at=at))
        assert read.event_type == DIFFERENT.get((esp, event), NORMAL[event]), event
        assert read.recipient == RECIPIENT
        assert read.timestamp.timestamp() == at
        assert read.metadata["message_id"] == "0198c0de"
        assert (read.click_url is not None) == (event == "clicked")
        if esp != "sendgrid":
            assert read.message_id == OUTGOING[esp].message_id


@pytest.mark.parametrize("esp", ["sendgrid", "mailgun", "postmark", "brevo"])
def test_a_forged_request_does_not_pass(esp: str) -> None:
    hook = Hook(esp)
    content = event_of("bounced", OUTGOING[esp], RECIPIENT, at=time.time())
    with pytest.raises(Exception, match=r"signature|basic auth"):
        read_by_anymail(esp, hook, signed(hook, [content], at=time.time(), is_forged=True))


def test_resend_signs_as_svix_documents() -> None:
    hook = Hook("resend", signing_key="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    request = signed(hook, [event_of("opened", OUTGOING["resend"], RECIPIENT, at=1.0)], at=1_614_265_330)
    number, timestamp = request.headers["svix-id"], request.headers["svix-timestamp"]
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    digest = hmac.new(key, f"{number}.{timestamp}.".encode() + request.body, hashlib.sha256).digest()
    assert request.headers["svix-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(("version", "algorithm"), [("1", hashes.SHA1()), ("2", hashes.SHA256())])
def test_sns_signs_with_its_certificate(version: str, algorithm: hashes.HashAlgorithm) -> None:
    hook = Hook("ses", signature_version=version, certificate_url="https://sns.eu-west-1.amazonaws.com/x.pem")
    key = x509.load_pem_x509_certificate(hook.certificate()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    content = event_of("bounced", OUTGOING["ses"], RECIPIENT, at=1.0)
    names = {"Notification": "Message MessageId Subject Timestamp TopicArn Type",
             "SubscriptionConfirmation": "Message MessageId SubscribeURL Timestamp Token TopicArn Type"}  # fmt: skip
    for request in (signed(hook, [content], at=1.0), subscription_confirmation(hook, "https://x", at=1.0)):
        envelope = json.loads(request.body)
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names[envelope["Type"]].split())
        key.verify(base64.b64decode(envelope["Signature"]), text.encode(), padding.PKCS1v15(), algorithm)


@pytest.fixture
def receiver() -> Iterator[list[tuple[str, bytes]]]:
    """What was posted to a server of this test, whose address is the first entry; the first request gets 503."""
    seen: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if len(seen) == 2 else 200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing is printed."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        seen.append((f"http://127.0.0.1:{server.server_address[1]}", b""))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


def test_an_event_follows_by_itself_and_is_posted_again_until_it_is_taken(
    esp_sandbox: Sandbox, send: Send, receiver: list[tuple[str, bytes]]
) -> None:
    esp_sandbox.control.add_hook("postmark", f"{receiver[0][0]}/hook?x=1")
    send("postmark", "anna+complained@example.net")
    deadline = time.monotonic() + 5
    while len(receiver) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    kinds = [json.loads(body)["RecordType"] for _, body in receiver[1:]]
    assert kinds == ["Delivery", "Delivery", "SpamComplaint"]
    assert receiver[1][0] == "/hook?x=1"


def test_events_are_posted_or_shown_when_asked_for(
    esp_sandbox: Sandbox, send: Send, receiver: list[tuple[str, bytes]]
) -> None:
    known = esp_sandbox.control.add_hook("sendgrid", receiver[0][0])
    assert set(known) == {"public_key"}
    send("sendgrid", RECIPIENT, "bert@example.net", merge_metadata={}, merge_data={})
    (shown,) = esp_sandbox.control.send_event("opened", RECIPIENT, send=False)
    assert shown["status"] is None
    assert json.loads(base64.b64decode(shown["body"]))[0]["email"] == RECIPIENT
    assert len(receiver) == 1
    posted = esp_sandbox.control.send_event("delivered", [RECIPIENT, "bert@example.net"], times=2)
    assert [request["status"] for request in posted] == [503, 200]
    assert receiver[1] == receiver[2]
    assert [event["email"] for event in json.loads(receiver[1][1])] == [RECIPIENT, "bert@example.net"]
