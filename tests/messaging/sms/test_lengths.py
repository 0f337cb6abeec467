"""What a text costs and how long it is, before it is sent."""

import pytest

from apps.tenants.services import credential_create
from automata_signal.errors import ValidationFailed

pytestmark = pytest.mark.django_db
TWILIO = {"account_sid": "AC" + "0" * 32, "auth_token": "0" * 32, "from": "+15005550006"}


def parts(server, **body):
    answer = server.post("messages/sms-parts", body)
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]


def test_lengths_are_shown_for_each_gateway_with_the_price(server, settings):
    found = parts(server, body="가" * 46)
    by_provider = {row["provider"]: row for row in found["gateways"]}
    assert list(by_provider) == ["solapi", "twilio", "nhn_sms"]
    assert by_provider["solapi"] == {
        "provider": "solapi", "encoding": "euc_kr", "units": 92, "limit": 2000, "segments": 1, "kind": "lms",
        "problem": "",
    }  # fmt: skip
    assert (by_provider["twilio"]["encoding"], by_provider["twilio"]["segments"]) == ("ucs2", 1)
    assert found["price"]["per"] == "message"


def test_only_the_gateways_in_use_are_asked(server, application):
    credential_create(application=application, provider="twilio", name="t", secret=TWILIO)
    (row,) = parts(server, body="x" * 161)["gateways"]
    assert (row["provider"], row["segments"]) == ("twilio", 2)


def test_what_would_be_refused_is_said_with_its_place(server):
    row = parts(server, body="안녕 😀")["gateways"][0]
    assert row["segments"] == 0
    assert "GRINNING FACE) at character 4" in row["problem"]


def test_a_message_that_a_gateway_would_refuse_is_not_accepted(server, application):
    secret = {"api_key": "NCS0123456789", "api_secret": "A" * 32, "from": "0212345678"}
    credential_create(application=application, provider="solapi", name="s", secret=secret)
    body = {"channel_type": "sms", "recipients": {"external_ids": ["u-1"]}, "body": "안녕 😀"}
    refused = server.post("messages", body)
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "body")
    refused = server.post("messages", {**body, "body": "", "title": "Only a title"})
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "body")
    refused = server.post("messages", {**body, "body": "x", "options": {"from": "not a number"}})
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "options.from")


@pytest.mark.parametrize(
    ("provider", "secret", "field"),
    [
        ("solapi", {"api_key": "NCS0123456789", "api_secret": "A" * 32}, "from"),
        ("solapi", {"api_key": "NCS0123\r\nX: 1", "api_secret": "A" * 32, "from": "021234567"}, "api_key"),
        ("twilio", {**TWILIO, "account_sid": "AC/../x"}, "account_sid"),
        ("twilio", {**TWILIO, "api_key_sid": "SK" + "0" * 32}, "api_key_secret"),
        ("twilio", {**TWILIO, "from": "x" * 12}, "from"),
        ("nhn_sms", {"app_key": "a/b" * 5, "secret_key": "abcdefgh", "from": "021234567"}, "app_key"),
        ("nhn_sms", {"app_key": "abcdefgh", "secret_key": "abcdefgh", "from": "021234567", "x": "1"}, "x"),
    ],
)
def test_a_secret_that_cannot_be_right_is_refused(application, provider, secret, field):
    with pytest.raises(ValidationFailed) as refused:
        credential_create(application=application, provider=provider, name="c", secret=secret)
    assert refused.value.details[0].field == f"secret.{field}"
