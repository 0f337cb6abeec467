"""The adapter of e-mail providers' APIs, against stand-ins that are held to django-anymail on both sides."""

from __future__ import annotations

import json
from collections import Counter
from email import message_from_string, policy

import boto3
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ses.models import ses_backends

from apps.messaging.adapters.anymail import ESPS, METADATA_KEY, AnymailAdapter
from apps.messaging.adapters.base import Content, CredentialError, Delivery, Endpoint, Outcome
from automata_signal.ids import new_id
from tests.mail_senders import esp_secret

STAND_INS = ("ses", "sendgrid", "mailgun", "postmark", "brevo", "resend")
BODY = '<p>안녕 <a href="https://shop.example.com/a?x=1&amp;y=2">shop</a></p><a href="{{ unsubscribe_url }}">out</a>'
HELLO = Content(title="(광고) Hello", body=BODY, options={"tags": ["spring"], "reply_to": "help@example.com"})
PLAIN = Content(
    title="Hi", body="<p>x</p>", options={"track_opens": False, "track_clicks": False, "list_unsubscribe": False}
)


@pytest.fixture
def open_sender(esp_sandbox, esp_settings):
    senders = []

    def opened(esp, secret=None, **changes):
        fields = {"public_url": "https://signal.example.com", "connections": 2, "timeout_s": 3.0}
        endpoint = Endpoint(esp_sandbox.url, **{**fields, "ca_file": str(esp_sandbox.ca_file), **changes})
        senders.append(AnymailAdapter().open(secret or esp_secret(esp), endpoint))
        return senders[-1]

    yield opened
    for sender in senders:
        sender.close()


def delivery(address="anna@example.net", content=HELLO):
    return Delivery(str(new_id()), address, content, subscription_id=str(new_id()))


def outcomes(sender, *addresses, content=HELLO):
    sent = [delivery(address, content) for address in addresses]
    results = {result.message_id: result for result in sender.send(iter(sent))}
    assert len(results) == len(sent)
    return [results[one.message_id] for one in sent]


@pytest.mark.parametrize("esp", STAND_INS)
@pytest.mark.parametrize("content", [HELLO, PLAIN], ids=["personal links", "the same for all"])
def test_each_provider_takes_what_we_send_with_our_id(esp_sandbox, open_sender, esp, content):
    addresses = [f"user{n}@example.net" for n in range(12)]
    sent = [delivery(address, content) for address in addresses]
    results = list(open_sender(esp).send(iter(sent)))
    assert Counter((r.outcome, r.reason) for r in results) == {(Outcome.ACCEPTED, ""): 12}
    entries = esp_sandbox.control.entries(outcome="accepted")
    assert sorted(entry["token"] for entry in entries) == sorted(addresses)
    ids = {one.address: one.message_id for one in sent}
    if esp == "resend":  # in a header
        told = {e["token"]: json.loads(e["headers"]["X-Metadata"])[METADATA_KEY] for e in entries}
        assert told == ids
        return
    assert {entry["token"]: entry["message_id"] for entry in entries} == ids


@pytest.mark.parametrize(("esp", "content"), [("sendgrid", HELLO), ("mailgun", HELLO), ("postmark", PLAIN)])
def test_what_can_go_together_is_one_request(esp_sandbox, open_sender, esp, content):
    outcomes(open_sender(esp), *(f"user{n}@example.net" for n in range(60)), content=content)
    entries = esp_sandbox.control.entries(outcome="accepted")
    assert len(entries) == 60
    assert len({entry["connection"] for entry in entries}) == 1
    if esp != "postmark":  # each message of its list is counted by itself
        assert len({entry["stream"] for entry in entries}) == 1


def test_the_same_address_twice_gets_two_messages(esp_sandbox, open_sender):
    results = outcomes(open_sender("sendgrid"), "a@example.net", "a@example.net", "b@example.net")
    assert [r.outcome for r in results] == [Outcome.ACCEPTED] * 3
    assert Counter(e["token"] for e in esp_sandbox.control.entries()) == {"a@example.net": 2, "b@example.net": 1}


@pytest.mark.parametrize("esp", STAND_INS)
@pytest.mark.parametrize(
    ("marker", "outcome"),
    [
        ("400", Outcome.PAYLOAD_REJECTED),
        ("401", Outcome.CREDENTIAL),
        ("413", Outcome.PAYLOAD_REJECTED),
        ("429", Outcome.THROTTLED),
        ("500", Outcome.TRANSIENT),
        ("503", Outcome.TRANSIENT),
        ("abort-accepted", Outcome.UNKNOWN),
    ],
)
def test_each_refusal_has_its_outcome(open_sender, esp, marker, outcome):
    (result,) = outcomes(open_sender(esp), f"anna+{marker}@example.net")
    assert (result.outcome, result.subscription_status) == (outcome, None)
    assert outcome is not Outcome.THROTTLED or result.retry_after_s >= 2


def test_one_bad_recipient_does_not_cost_the_others_of_the_request(open_sender):
    addresses = [f"user{n}@example.net" for n in range(9)]
    results = outcomes(open_sender("sendgrid"), *addresses[:4], "anna+400@example.net", *addresses[4:])
    assert results.pop(4).outcome is Outcome.PAYLOAD_REJECTED
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}


def test_a_recipient_on_the_providers_own_list_ends(open_sender):
    (result,) = outcomes(open_sender("postmark"), "anna+inactive@example.net")
    assert (result.outcome, result.subscription_status) == (Outcome.RECIPIENT_GONE, -42)


@pytest.mark.parametrize("esp", STAND_INS)
def test_a_wrong_key_stops_the_credential(open_sender, esp):
    wrong = {"secret_access_key": "wrong"} if esp == "ses" else {"api_key": "wrong"}
    (result,) = outcomes(open_sender(esp, esp_secret(esp, **wrong)), "anna@example.net")
    assert result.outcome is Outcome.CREDENTIAL


@pytest.mark.parametrize("esp", ["ses", "postmark"])
def test_a_provider_that_is_away_is_no_fault_of_anybody(esp_sandbox, open_sender, esp):
    secret = esp_secret(esp)
    sender = AnymailAdapter().open(secret, Endpoint("https://localhost:9", public_url="https://s.example", timeout_s=2))
    (result,) = outcomes(sender, "anna@example.net")
    sender.close()
    assert (result.outcome, result.reason) == (Outcome.TRANSIENT, "couldnt_connect")


@pytest.mark.parametrize("esp", ["ses", "sendgrid"])
def test_no_answer_is_unknown(open_sender, esp):
    (result,) = outcomes(open_sender(esp, timeout_s=0.5), "anna+hang@example.net")
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, "operation_timedout")


def test_what_is_no_address_is_not_sent(esp_sandbox, open_sender):
    results = outcomes(
        open_sender("sendgrid"), "anna@example.net, eve@example.net", "a\nb@example.net", "민수@example.net"
    )
    assert [(r.outcome, r.subscription_status) for r in results] == [
        (Outcome.RECIPIENT_GONE, -40),
        (Outcome.RECIPIENT_GONE, -40),
        (Outcome.UNSUPPORTED, None),
    ]
    assert not esp_sandbox.control.entries()


@pytest.mark.parametrize("esp", ESPS)
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"from_address": "x"}, "from_address"),
        ({"from_name": "a\nb"}, "from_name"),
        ({"track_opens": 1}, "track_opens"),
        ({"more": "x"}, "more"),
        ({"esp": "other"}, "esp"),
    ],
)
def test_a_malformed_secret_is_refused_with_its_field(esp, changes, field):
    good = esp_secret("ses" if esp == "amazon_ses" else esp)
    AnymailAdapter().check_secret(good)
    with pytest.raises(CredentialError) as caught:
        AnymailAdapter().check_secret(good | changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("esp", "changes", "field"),
    [
        ("ses", {"region": "x.evil.example/"}, "region"),
        ("ses", {"topic_arn": "arn:aws:s3:::bucket"}, "topic_arn"),
        ("ses", {"api_key": "x"}, "api_key"),
        ("mailgun", {"region": "kr"}, "region"),
        ("mailgun", {"sender_domain": "a/../b"}, "sender_domain"),
        ("sendgrid", {"api_key": ""}, "api_key"),
        ("postmark", {"webhook_auth": "short"}, "webhook_auth"),
    ],
)
def test_what_one_provider_needs_is_checked(esp, changes, field):
    with pytest.raises(CredentialError) as caught:
        AnymailAdapter().check_secret(esp_secret(esp, **changes))
    assert caught.value.field == field


def test_no_key_is_shown():
    for esp in STAND_INS:
        secret = esp_secret(esp)
        shown = AnymailAdapter().summarise_secret(secret)
        assert not {"api_key", "secret_access_key", "webhook_key", "webhook_auth"} & shown.keys()


def test_amazons_own_api_by_moto():
    """The request as botocore checks and another implementation of SES reads it."""
    with mock_aws():
        boto3.client("sesv2", region_name="ap-northeast-2").create_email_identity(EmailIdentity="news@example.com")
        sender = AnymailAdapter().open(esp_secret("ses"), Endpoint("", public_url="https://s.example", connections=1))
        results = outcomes(sender, "a@example.net", "b@example.net", content=HELLO)
        sender.close()
        assert [(r.outcome, r.reason) for r in results] == [(Outcome.ACCEPTED, "")] * 2
        assert all(r.provider_message_id for r in results)
        sent = ses_backends[DEFAULT_ACCOUNT_ID]["ap-northeast-2"].sent_messages
    mails = [message_from_string(message.raw_data, policy=policy.default) for message in sent]
    assert {mail["to"] for mail in mails} == {"a@example.net", "b@example.net"}
    for mail in mails:
        assert mail["subject"] == "(광고) Hello"
        assert "/e/unsubscribe/" in mail["list-unsubscribe"]
        assert METADATA_KEY in mail["x-metadata"]
        assert "/e/c/" in mail.get_body(("html",)).get_content()
