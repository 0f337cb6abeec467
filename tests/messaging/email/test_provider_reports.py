"""What e-mail providers report by webhook: rules, signatures, and the way to the subscription."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from uuid import UUID

import pytest
from django.test import Client

from apps.messaging import dispatch
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import Message
from apps.messaging.receipts import anymail
from apps.messaging.receipts.anymail import Event, by_code, report_of
from apps.messaging.receipts.providers import Forged, Hook, Unreadable
from apps.messaging.receipts.reports import ReportKind
from apps.messaging.retry import Fault
from apps.messaging.senders import close_senders
from apps.sandbox.esp_events import TOPIC, signed, subscription_confirmation
from apps.sandbox.esp_events import Hook as SandboxHook
from apps.subscriptions.models import Subscription
from apps.tenants.models import ChannelCredential
from apps.tenants.services import credential_create
from tests.factories import make_dispatch, make_subscriptions
from tests.mail_senders import esp_secret

PAYLOADS = Path(__file__).resolve().parents[2] / "payloads"
ESPS = ("ses", "sendgrid", "mailgun", "postmark", "brevo", "resend")
MESSAGE_ID = "0198c0de-0000-7000-8000-000000000001"
CERTIFICATE = "https://sns.ap-northeast-2.amazonaws.com/SimpleNotificationService-0123.pem"


def payload(esp, name):
    """An event as the provider's documentation has it."""
    return json.loads((PAYLOADS / esp / f"{name}.json").read_text())


@pytest.fixture
def amazons(monkeypatch):
    """Amazon's certificate, and what was fetched beside it."""
    fetched = []

    def install(hook):
        anymail._sns_key.cache_clear()

        def fetch(url):
            fetched.append(url)
            return hook.certificate()

        monkeypatch.setattr(anymail, "_fetched", fetch)
        return fetched

    yield install
    anymail._sns_key.cache_clear()


def hook_of(esp):
    return SandboxHook(esp, certificate_url=CERTIFICATE if esp == "ses" else "")


def secret_of(esp, hook):
    """The credential's secret that fits the stand-in's signatures."""
    proof = {
        "sendgrid": lambda: {"webhook_key": hook.public_key},
        "mailgun": lambda: {"webhook_key": hook.signing_key},
        "resend": lambda: {"webhook_key": hook.signing_key},
        "postmark": lambda: {"webhook_auth": hook.basic_auth},
        "brevo": lambda: {"webhook_auth": hook.basic_auth},
        "ses": lambda: {"topic_arn": TOPIC},
    }
    return esp_secret(esp, **proof[esp]())


def posted(esp, hook, *events, at=None, request=None, secret=None, **changes):
    """The request as our door sees it."""
    raws = [event["event-data"] if esp == "mailgun" else event for event in events]
    request = request or signed(hook, raws, at=time.time() if at is None else at)
    headers = {name.lower(): value for name, value in request.headers.items()}
    fields = {"headers": headers, "body": request.body, "content_type": headers.get("content-type", "")}
    secret = secret or secret_of(esp, hook)
    return Hook(UUID(int=1), secret, "https://signal.example.com/webhooks/anymail/1", {}, **{**fields, **changes})


# --- The tables ----------------------------------------------------------------------------------------------------

EXPECTED = {
    "delivered": (ReportKind.DELIVERED, None, None),
    "bounced": (ReportKind.FAILED, -42, None),
    "soft-bounced": (ReportKind.FAILED, None, -43),
    "complained": (ReportKind.COMPLAINED, -44, None),
    "opened": (ReportKind.OPENED, None, None),
    "clicked": (ReportKind.CLICKED, None, None),
    "unsubscribed": (ReportKind.UNSUBSCRIBED, -45, None),
    "rejected": (ReportKind.FAILED, None, None),
    "deferred": (ReportKind.DEFERRED, None, None),
}
"""Of a provider's event: kind of report, the code that ends the subscription, the one that counts."""
DIFFERENT = {
    ("ses", "unsubscribed"): None,
    ("ses", "deferred"): None,
    ("sendgrid", "rejected"): (ReportKind.FAILED, -42, None),  # "Bounced Address"
    ("resend", "rejected"): (ReportKind.FAILED, -42, None),  # suppressed since it has bounced
}
EVENTS = [(esp, path.stem) for esp in ESPS for path in sorted((PAYLOADS / esp).glob("*.json"))]


@pytest.mark.parametrize(("esp", "name"), EVENTS, ids=[f"{esp} {name}" for esp, name in EVENTS])
def test_each_event_of_each_provider_is_signed_read_and_judged(amazons, esp, name):
    hook = hook_of(esp)
    amazons(hook)
    reports = anymail.parse(posted(esp, hook, payload(esp, name))).reports
    expected = DIFFERENT.get((esp, name), EXPECTED[name])
    if expected is None:
        assert not reports
        return
    (report,) = reports
    assert (report.kind, report.subscription_status, report.soft_status) == expected
    assert report.message_id == MESSAGE_ID
    assert "@" not in report.reason


SES_BOUNCES = [
    ("Permanent", "General", -42, None, Fault.RECIPIENT),
    ("Permanent", "NoEmail", -42, None, Fault.RECIPIENT),
    ("Permanent", "Suppressed", -42, None, Fault.RECIPIENT),
    ("Permanent", "OnAccountSuppressionList", -42, None, Fault.RECIPIENT),
    ("Permanent", "UnsubscribedRecipient", -45, None, Fault.RECIPIENT),
    ("Permanent", "SomethingNew", -42, None, Fault.RECIPIENT),
    ("Transient", "General", None, -43, Fault.RECIPIENT),
    ("Transient", "MailboxFull", None, -43, Fault.RECIPIENT),
    ("Transient", "MessageTooLarge", None, None, Fault.SENDER),
    ("Transient", "ContentRejected", None, None, Fault.SENDER),
    ("Transient", "AttachmentRejected", None, None, Fault.SENDER),
    ("Undetermined", "Undetermined", None, -43, Fault.RECIPIENT),
]


@pytest.mark.parametrize(("kind", "subtype", "ends", "counts", "fault"), SES_BOUNCES)
def test_amazons_bounces_by_kind(amazons, kind, subtype, ends, counts, fault):
    hook = hook_of("ses")
    amazons(hook)
    event = payload("ses", "bounced")
    event["bounce"] |= {"bounceType": kind, "bounceSubType": subtype}
    (report,) = anymail.parse(posted("ses", hook, event)).reports
    assert (report.subscription_status, report.soft_status, report.fault) == (ends, counts, fault)


def test_one_amazon_notification_names_several_recipients_and_a_complaint_may_be_none(amazons):
    hook = hook_of("ses")
    amazons(hook)
    event = payload("ses", "complained")
    event["complaint"]["complaintFeedbackType"] = "not-spam"
    assert not anymail.parse(posted("ses", hook, event)).reports
    event = payload("ses", "bounced")
    event["bounce"]["bouncedRecipients"] *= 2
    assert len(anymail.parse(posted("ses", hook, event)).reports) == 2


NORMAL = [  # providers.md 3.1
    ("queued", "", "", None),
    ("sent", "", "", None),
    ("delivered", "", "", (ReportKind.DELIVERED, None, None)),
    ("deferred", "", "", (ReportKind.DEFERRED, None, None)),
    ("bounced", "bounced", "550 5.1.1 x", (ReportKind.FAILED, -42, None)),
    ("bounced", "other", "452 4.2.2 x", (ReportKind.FAILED, None, -43)),
    ("bounced", "bounced", "", (ReportKind.FAILED, None, -43)),
    ("bounced", "bounced", "550 5.7.1 spam", (ReportKind.FAILED, None, None)),
    ("bounced", "invalid", "", (ReportKind.FAILED, -40, None)),
    ("rejected", "invalid", "", (ReportKind.FAILED, -40, None)),
    ("rejected", "bounced", "", (ReportKind.FAILED, -42, None)),
    ("rejected", "timed_out", "", (ReportKind.FAILED, -43, None)),
    ("rejected", "spam", "", (ReportKind.FAILED, -44, None)),
    ("rejected", "unsubscribed", "", (ReportKind.FAILED, -45, None)),
    ("rejected", "blocked", "", (ReportKind.FAILED, None, None)),
    ("rejected", "other", "", (ReportKind.FAILED, None, None)),
    ("failed", "", "", (ReportKind.FAILED, None, None)),
    ("complained", "spam", "", (ReportKind.COMPLAINED, -44, None)),
    ("unsubscribed", "", "", (ReportKind.UNSUBSCRIBED, -45, None)),
    ("subscribed", "", "", None),
    ("opened", "", "", (ReportKind.OPENED, None, None)),
    ("clicked", "", "", (ReportKind.CLICKED, None, None)),
    ("autoresponded", "", "", None),
    ("inbound", "", "", None),
    ("inbound_failed", "", "", None),
    ("unknown", "", "", None),
]


@pytest.mark.parametrize(("kind", "reason", "words", "expected"), NORMAL)
def test_the_table_of_normal_events(kind, reason, words, expected):
    report = report_of("other", Event(kind, reason, words, MESSAGE_ID, None, {}))
    found = None if report is None else (report.kind, report.subscription_status, report.soft_status)
    assert found == expected
    if kind == "failed":
        assert (report.fault, report.details) == (Fault.SENDER, {"code": -41})


@pytest.mark.parametrize(
    ("words", "ends", "counts", "fault"),
    [
        ("550 5.1.1 unknown", -42, None, Fault.RECIPIENT),
        ("smtp; 553 5.1.3 bad", -40, None, Fault.RECIPIENT),
        ("552 5.2.2 full", None, -43, Fault.RECIPIENT),
        ("452 4.2.2 full", None, -43, Fault.RECIPIENT),
        ("451 4.4.1 away", None, -43, Fault.RECIPIENT),
        ("421 busy", None, -43, Fault.RECIPIENT),
        ("552 5.3.4 too large", None, None, Fault.SENDER),
        ("550 5.7.26 dmarc", None, None, Fault.SENDER),
        ("550 no such user", -42, None, Fault.RECIPIENT),
    ],
)
def test_a_bounce_is_judged_by_the_servers_code(words, ends, counts, fault):
    assert by_code(words) == (ends, counts, fault)


def test_machines_that_open_everything_are_nobody():
    for esp, mark in (("sendgrid", {"sg_machine_open": True}), ("brevo", {"event": "unique_proxy_open"})):
        hook = hook_of(esp)
        assert not anymail.parse(posted(esp, hook, payload(esp, "opened") | mark)).reports


# --- Forged, replayed, broken --------------------------------------------------------------------------------------


@pytest.mark.parametrize("esp", ESPS)
def test_what_is_not_signed_as_it_should_be_is_not_believed(amazons, esp):
    hook, other = hook_of(esp), hook_of(esp)
    amazons(hook)
    event = payload(esp, "bounced")
    raws = [event["event-data"] if esp == "mailgun" else event]
    forged = signed(hook, raws, at=time.time(), is_forged=True)
    unsigned = {name: value for name, value in forged.headers.items() if name.lower() in ("content-type",)}
    for request in (forged, signed(other, raws, at=time.time()), forged.__class__(unsigned, b"[]")):
        with pytest.raises(Forged):
            anymail.parse(posted(esp, hook, request=request))
    with pytest.raises(Forged):  # nothing is known by which it could be proved
        anymail.parse(posted(esp, hook, event, secret=esp_secret(esp)))


@pytest.mark.parametrize(("esp", "age_s"), [("sendgrid", 13 * 3600), ("mailgun", 13 * 3600), ("resend", 600)])
def test_an_old_signature_is_not_believed(esp, age_s):
    hook = hook_of(esp)
    anymail.parse(posted(esp, hook, payload(esp, "bounced"), at=time.time() - 60))
    with pytest.raises(Forged, match="old"):
        anymail.parse(posted(esp, hook, payload(esp, "bounced"), at=time.time() - age_s))


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.ap-northeast-2.amazonaws.com.evil.example/x.pem",
        "https://evil.example/sns.ap-northeast-2.amazonaws.com/x.pem",
        "http://sns.ap-northeast-2.amazonaws.com/x.pem",
        "https://sns.ap-northeast-2.amazonaws.com@evil.example/x.pem",
        "https://sns.ap-northeast-2.amazonaws.com:8443/x.pem",
        "https://bucket.s3.amazonaws.com/x.pem",
        "https://sns.s3.amazonaws.com/SimpleNotificationService-0123.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-0123.pem",
        "https://sns.ap-northeast-2.amazonaws.com/of-somebody/x.pem",
        "https://sns.ap-northeast-2.amazonaws.com/x.txt",
        "",
    ],
)
def test_only_amazons_certificate_counts(amazons, url):
    hook = SandboxHook("ses", certificate_url=url)
    fetched = amazons(hook)
    with pytest.raises(Forged):
        anymail.parse(posted("ses", hook, payload("ses", "bounced")))
    assert not fetched


def test_a_subscription_of_our_topic_is_confirmed_at_amazons_only(amazons):
    hook = hook_of("ses")
    fetched = amazons(hook)
    good = "https://sns.ap-northeast-2.amazonaws.com/?Action=ConfirmSubscription&Token=x"
    request = subscription_confirmation(hook, good, at=time.time())
    assert not anymail.parse(posted("ses", hook, request=request)).reports
    assert fetched == [CERTIFICATE, good]
    for url in ("https://evil.example/", "http://169.254.169.254/latest/meta-data/"):
        with pytest.raises(Forged):
            anymail.parse(posted("ses", hook, request=subscription_confirmation(hook, url, at=time.time())))
    other = secret_of("ses", hook) | {"topic_arn": TOPIC.replace("ses-events", "another")}
    with pytest.raises(Forged, match="topic"):
        anymail.parse(posted("ses", hook, request=request, secret=other))
    assert fetched == [CERTIFICATE, good]


@pytest.mark.parametrize("esp", ["ses", "mailgun", "resend"])
@pytest.mark.parametrize("body", [b"[", b'{"signature": {"token": "\\ud800", "signature": "\\udc00"}}', b"[" * 100_000])
def test_what_proves_nothing_is_forged_whatever_it_looks_like(amazons, esp, body):
    hook = hook_of(esp)
    amazons(hook)
    with pytest.raises(Forged):
        anymail.parse(posted(esp, hook, payload(esp, "bounced"), body=body))


def test_one_event_that_cannot_be_read_costs_none_of_the_others():
    hook = hook_of("sendgrid")
    good = payload("sendgrid", "bounced")
    broken = [{"event": []}, {"timestamp": "x"}, good]
    assert len(anymail.parse(posted("sendgrid", hook, *broken)).reports) == 1
    with pytest.raises(Unreadable):
        anymail.parse(posted("sendgrid", hook, *broken[1:2]))


def test_an_event_of_somebody_elses_message_says_nothing():
    hook = hook_of("postmark")
    for metadata in ({}, {"automata_message_id": "x"}, {"automata_message_id": None}):
        assert not anymail.parse(
            posted("postmark", hook, payload("postmark", "bounced") | {"Metadata": metadata})
        ).reports


# --- The whole way -------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("esp", ["sendgrid", "ses"])
def test_a_bounce_comes_back_to_its_subscription(application, esp_sandbox, esp_settings, esp):
    known = esp_sandbox.control.add_hook(esp, "https://signal.example.com/hook")
    proof = {"topic_arn": known["topic_arn"]} if esp == "ses" else {"webhook_key": known["public_key"]}
    credential_create(application=application, provider="anymail", name="esp", secret=esp_secret(esp, **proof))
    names = ("a", "b", "c")
    make_subscriptions(application, [f"{name}@example.net" for name in names], type="Email")
    order = make_dispatch(application, audience={}, channel_type="email", title="Hi", body="<p>x</p>")
    (batch_id,) = dispatch_slice(dispatch=order, after_id=None, limit=1_000).batch_ids
    assert dispatch.run_batch(UUID(str(batch_id)))
    close_senders()
    assert Message.objects.filter(status="successful").count() == 3
    anymail._sns_key.cache_clear()
    credential = ChannelCredential.objects.get()
    for event, address in (
        ("bounced", "a@example.net"),
        ("delivered", "b@example.net"),
        ("complained", "c@example.net"),
    ):
        for request in esp_sandbox.control.send_event(event, address, esp=esp, send=False):
            for _ in range(2):  # as providers do
                answer = Client().generic(
                    "POST",
                    f"/webhooks/anymail/{credential.pk}",
                    base64.b64decode(request["body"]),
                    content_type=request["headers"].get("Content-Type", "application/json"),
                    headers=request["headers"],
                )
                assert answer.status_code == 204, answer.content
    subscriptions = {s.token[0]: s.subscription_status for s in Subscription.with_archived.all()}
    assert subscriptions == {"a": -42, "b": 1, "c": -44}
    assert sorted(Message.objects.values_list("status", flat=True)) == ["failed", "received", "received"]
    failed = Message.objects.get(status="failed")
    assert failed.error_reason == "bounced 5.1.1"
