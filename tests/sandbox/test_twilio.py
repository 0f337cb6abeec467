"""Twilio's rules over real connections (providers.md section 4.1), and Twilio's own package as a witness."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from apps.sandbox import gateway_codes as codes
from apps.sandbox.client import Sandbox
from apps.sandbox.gateway_behaviours import marked_number
from apps.sandbox.gateway_credentials import TwilioAccount
from apps.sandbox.twilio import segments, sign
from tests.gateways import WebhookReceiver, reset_gateway

SENDER, RECIPIENT = "+15017122661", "+821012345678"
SERVICE = "MG" + "0" * 32
# Fixed, since names of tests are made of them: processes that share the tests must agree on those.
ACCOUNT, OTHER = (TwilioAccount("AC" + f"{n}" * 32, f"a{n}" * 16, "SK" + f"{n}" * 32, f"b{n}" * 16) for n in range(2))
PATH = f"/2010-04-01/Accounts/{ACCOUNT.account_sid}/Messages"
Send = Callable[..., httpx.Response]


@pytest.fixture
def twilio(twilio_sandbox: Sandbox) -> Sandbox:
    control = reset_gateway(twilio_sandbox).control
    control.register_keys(ACCOUNT.registration(), OTHER.registration())
    control.register_senders(SENDER, SERVICE, "Example", {"number": "+15550001111", "account": OTHER.account_sid})
    return twilio_sandbox


@pytest.fixture
def http(twilio: Sandbox) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(twilio.ca_file))
    headers = {"authorization": ACCOUNT.authorization()}
    with httpx.Client(base_url=twilio.url, verify=context, timeout=5, headers=headers) as client:
        yield client


@pytest.fixture
def send(http: httpx.Client) -> Send:
    """One message; parameters by name, None leaves one out."""

    def post(**changes: Any) -> httpx.Response:
        given = {"To": RECIPIENT, "From": SENDER, "Body": "Hello"} | changes
        return http.post(f"{PATH}.json", data={name: value for name, value in given.items() if value is not None})

    return post


@pytest.fixture
def client(twilio: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Twilio's own client, whose requests go to the stand-in."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(twilio.ca_file))

    class Here(TwilioHttpClient):
        def request(self, method: str, url: str, *arguments: Any, **named: Any) -> Any:
            return super().request(method, url.replace("https://api.twilio.com", twilio.url), *arguments, **named)

    return Client(ACCOUNT.account_sid, ACCOUNT.auth_token, http_client=Here())


def error_of(answer: httpx.Response) -> tuple[int, int]:
    content = answer.json()
    assert content["status"] == answer.status_code
    assert content["more_info"] == f"https://www.twilio.com/docs/errors/{content['code']}"
    assert content["message"]
    return answer.status_code, content["code"]


def test_an_accepted_message_looks_as_documented(send: Send) -> None:
    answer = send()
    assert answer.status_code == 201
    content = answer.json()
    assert re.fullmatch(r"SM[0-9a-f]{32}", content["sid"])
    assert parsedate_to_datetime(content["date_created"]).tzinfo is not None
    del content["sid"], content["date_created"], content["date_updated"], content["uri"], content["subresource_uris"]
    assert content == {
        "account_sid": ACCOUNT.account_sid, "api_version": "2010-04-01", "body": "Hello", "date_sent": None,
        "direction": "outbound-api", "error_code": None, "error_message": None, "from": SENDER,
        "messaging_service_sid": None, "num_media": "0", "num_segments": "1", "price": None, "price_unit": "USD",
        "status": "queued", "to": RECIPIENT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("authorization", "path", "status"),
    [
        ("", PATH, 401),
        ("Basic !", PATH, 401),
        (ACCOUNT.authorization().replace("Basic", "Bearer"), PATH, 401),
        (ACCOUNT.authorization(password="wrong"), PATH, 401),
        (OTHER.authorization(), PATH, 401),
        (ACCOUNT.authorization(user=ACCOUNT.api_key_sid, password=ACCOUNT.api_key_secret), PATH, 200),
        (ACCOUNT.authorization(), PATH, 200),
        (ACCOUNT.authorization(), PATH.replace("Messages", "Wrong"), 404),
    ],
)
def test_credentials_are_checked(http: httpx.Client, authorization: str, path: str, status: int) -> None:
    answer = http.get(f"{path}.json", headers={"authorization": authorization})
    assert answer.status_code == status
    if status >= 400:
        assert error_of(answer) == (status, {401: 20003, 404: 20404}[status])


SOON = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
SCHEDULED = {"From": None, "MessagingServiceSid": SERVICE, "ScheduleType": "fixed"}
RULES: list[tuple[str, dict[str, Any], int | None]] = [
    ("accepted", {}, None),
    ("no recipient", {"To": None}, 21604),
    ("a national number", {"To": "01012345678"}, 21211),
    ("hyphens", {"To": "+82-10-1234-5678"}, 21211),
    ("another channel", {"To": "whatsapp:+821012345678"}, 21211),
    ("no sender", {"From": None}, 21603),
    ("a sender of no form", {"From": "0212345678x!"}, 21212),
    ("an unknown sender", {"From": "+15550009999"}, 21606),
    ("another account's sender", {"From": "+15550001111"}, 21606),
    ("a name as sender", {"From": "Example"}, None),
    ("a long name as sender", {"From": "ExampleExample"}, 21212),
    ("to itself", {"From": SENDER, "To": SENDER}, 21612),
    ("a service", {"From": None, "MessagingServiceSid": SERVICE}, None),
    ("an unknown service", {"From": None, "MessagingServiceSid": "MG" + "1" * 32}, 21705),
    ("no text", {"Body": None}, 21619),
    ("an empty text", {"Body": ""}, 21602),
    ("a picture without text", {"Body": None, "MediaUrl": "https://example.com/i.jpg"}, None),
    ("1,600 characters", {"Body": "가" * 1600}, None),
    ("1,601 characters", {"Body": "a" * 1601}, 21617),
    ("a wrong callback", {"StatusCallback": "example.com"}, 21609),
    ("a wrong period", {"ValidityPeriod": "0"}, 20001),
    ("a wrong switch", {"SmartEncoded": "yes"}, 20001),
    ("a scheduled message", SCHEDULED | {"SendAt": SOON}, None),
    ("a scheduled message without service", {"ScheduleType": "fixed", "SendAt": SOON}, 20001),
    ("a scheduled message in the past", SCHEDULED | {"SendAt": "2020-01-01T00:00:00Z"}, 20001),
]


@pytest.mark.parametrize(("given", "code"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_each_rule_for_a_message(send: Send, given: dict[str, Any], code: int | None) -> None:
    answer = send(**given)
    if code is None:
        assert answer.status_code == 201, answer.text
    else:
        assert error_of(answer) == (400, code)


def test_only_a_form_is_read(http: httpx.Client) -> None:
    assert error_of(http.post(f"{PATH}.json", json={"To": RECIPIENT})) == (400, 21604)


def test_parameters_that_twilio_does_not_know_are_findings(send: Send, twilio: Sandbox) -> None:
    assert send(Wrong="1", MaxPrice="1").status_code == 201
    assert [finding.split(" ")[0] for finding in twilio.control.findings()] == ["parameter", "MaxPrice"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("가" * 70, 1),
        ("가" * 71, 2),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("😀" * 35, 1),
        ("", 1),
    ],
)
def test_segments_are_counted(text: str, count: int) -> None:
    assert segments(text) == count


@pytest.mark.parametrize("code", codes.TWILIO)
def test_every_code_can_be_a_reply(send: Send, code: str) -> None:
    answer = send(To=marked_number("twilio", f"refused:{code}"))
    assert error_of(answer) == (codes.TWILIO[code][0], int(code))


def test_every_code_can_be_a_report(send: Send, twilio: Sandbox, webhook_receiver: WebhookReceiver) -> None:
    for code in codes.TWILIO:
        send(To=marked_number("twilio", f"reported:{code}"), StatusCallback=f"{webhook_receiver.url}/{code}")
    twilio.control.wait_for_reports()
    ends = {}
    for post in webhook_receiver.received:
        given = parse_qs(post.body.decode())
        if "ErrorCode" in given:
            ends[post.path[1:]] = (given["MessageStatus"][0], given["ErrorCode"][0])
    assert ends == {code: ("failed" if code in codes.TWILIO_FAILED else "undelivered", code) for code in codes.TWILIO}


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "retry_after", "accepted"),
    [
        ("throttled", 429, 20429, "2", 0), ("throttled-plain", 429, 20429, None, 0),
        ("server-error", 500, 20500, None, 0), ("server-error-accepted", 500, 20500, None, 1),
        ("bad-gateway", 502, None, None, 0), ("unavailable", 503, 20503, "2", 0),
        ("unavailable-plain", 503, 20503, None, 0),
    ],
)  # fmt: skip
def test_each_fault_of_the_service(
    send: Send, twilio: Sandbox, behaviour: str, status: int, code: int | None, retry_after: str | None, accepted: int
) -> None:
    answer = send(To=marked_number("twilio", behaviour))
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    if code is not None:
        assert error_of(answer) == (status, code)
    assert twilio.control.stats()["accepted"] == accepted


@pytest.mark.parametrize(
    ("behaviour", "accepted"), [("hang", 0), ("hang-accepted", 1), ("abort", 0), ("abort-accepted", 1)]
)
def test_each_fault_of_the_connection(
    http: httpx.Client, send: Send, twilio: Sandbox, behaviour: str, accepted: int
) -> None:
    http.timeout = httpx.Timeout(0.2)
    with pytest.raises((httpx.ReadTimeout, httpx.NetworkError, httpx.RemoteProtocolError)):
        send(To=marked_number("twilio", behaviour))
    assert twilio.control.stats()["accepted"] == accepted


def test_a_number_may_fail_only_the_first_times(send: Send) -> None:
    number = marked_number("twilio", "refused:30001", times=2)
    assert [send(To=number).status_code for _ in range(3)] == [429, 429, 201]


# callbacks


def test_twilios_signature_of_the_documentation() -> None:
    """https://www.twilio.com/docs/usage/security: the worked example, and Twilio's validator agrees."""
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    given = {
        "CallSid": "CA1234567890ABCDE", "Caller": "+14158675310", "Digits": "1234", "From": "+14158675310",
        "To": "+18005551212",
    }  # fmt: skip
    assert sign("12345", url, given) == RequestValidator("12345").compute_signature(url, given)


@pytest.mark.parametrize("query", ["", "?message_id=m-1&x=%20a"])
def test_callbacks_come_for_each_state_after_the_first_and_are_signed(
    send: Send, twilio: Sandbox, webhook_receiver: WebhookReceiver, query: str
) -> None:
    url = f"{webhook_receiver.url}/status{query}"
    sid = send(Body="한글 + text", StatusCallback=url).json()["sid"]
    twilio.control.wait_for_reports()
    states = []
    for post in webhook_receiver.received:
        given = {name: values[0] for name, values in parse_qs(post.body.decode(), keep_blank_values=True).items()}
        states.append(given["MessageStatus"])
        assert (given["MessageSid"], given["To"], given["From"]) == (sid, RECIPIENT, SENDER)
        signature = post.headers["x-twilio-signature"]
        assert RequestValidator(ACCOUNT.auth_token).validate(url, given, signature)
        assert not RequestValidator(OTHER.auth_token).validate(url, given, signature)
        assert not RequestValidator(ACCOUNT.auth_token).validate(url, given | {"MessageStatus": "failed"}, signature)
    assert states == ["sent", "delivered"]
    (entry,) = twilio.control.entries(outcome="accepted")
    assert entry["message_id"] == ("m-1" if query else "")


def test_callbacks_are_reordered_and_repeated_when_told_so(
    send: Send, twilio: Sandbox, webhook_receiver: WebhookReceiver
) -> None:
    twilio.control.settings(report_order="reversed", report_repeats=1, report_connections=1)
    send(From=None, MessagingServiceSid=SERVICE, StatusCallback=webhook_receiver.url)
    twilio.control.wait_for_reports()
    states = [parse_qs(post.body.decode())["MessageStatus"][0] for post in webhook_receiver.received]
    assert states == ["delivered", "sent", "queued"] * 2


def test_stop_opts_out_and_is_told_with_a_signature(
    send: Send, twilio: Sandbox, webhook_receiver: WebhookReceiver
) -> None:
    url = f"{webhook_receiver.url}/inbound"
    named = {"account": ACCOUNT.account_sid, "sender": RECIPIENT, "to": SENDER, "url": url}
    assert twilio.control.inbound(body=" stop ", **named)["opt_out_type"] == "STOP"
    twilio.control.wait_for_reports()
    (post,) = webhook_receiver.received
    given = {name: values[0] for name, values in parse_qs(post.body.decode(), keep_blank_values=True).items()}
    assert (given["From"], given["Body"], given["OptOutType"]) == (RECIPIENT, " stop ", "STOP")
    assert RequestValidator(ACCOUNT.auth_token).validate(url, given, post.headers["x-twilio-signature"])
    assert error_of(send()) == (400, 21610)
    assert send(From="Example").status_code == 201
    twilio.control.inbound(body="START", **named)
    assert send().status_code == 201


# queries, by Twilio's own client


def test_twilios_client_sends_and_reads(client: Client, twilio: Sandbox) -> None:
    sent = client.messages.create(to=RECIPIENT, from_=SENDER, body="안녕", status_callback=None)
    assert (sent.status, sent.num_segments, sent.error_code) == ("queued", "1", None)
    twilio.control.wait_for_reports()
    read = client.messages(sent.sid or "").fetch()
    assert (read.status, read.body) == ("delivered", "안녕")
    failing = client.messages.create(to=marked_number("twilio", "reported:30003"), from_=SENDER, body="x")
    twilio.control.wait_for_reports()
    failed = client.messages(failing.sid or "").fetch()
    assert (failed.status, failed.error_code) == ("undelivered", 30003)
    assert [one.sid for one in client.messages.list(page_size=1)] == [failing.sid, sent.sid]
    assert [one.sid for one in client.messages.list(to=RECIPIENT)] == [sent.sid]


def test_twilios_client_reads_errors(client: Client) -> None:
    with pytest.raises(TwilioRestException) as caught:
        client.messages.create(to="123", from_=SENDER, body="x")
    assert (caught.value.status, caught.value.code) == (400, 21211)
    with pytest.raises(TwilioRestException) as caught:
        client.messages("SM" + "0" * 32).fetch()
    assert (caught.value.status, caught.value.code) == (404, 20404)


def test_a_scheduled_message_can_be_cancelled(client: Client, twilio: Sandbox) -> None:
    sent = client.messages.create(
        to=RECIPIENT, messaging_service_sid=SERVICE, body="x", schedule_type="fixed",
        send_at=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip
    assert sent.status == "scheduled"
    assert client.messages(sent.sid or "").update(status="canceled").status == "canceled"
    with pytest.raises(TwilioRestException) as caught:
        client.messages(sent.sid or "").update(status="canceled")
    assert caught.value.code == 30409


def test_another_accounts_message_is_not_found(send: Send, http: httpx.Client) -> None:
    sid = send().json()["sid"]
    path = f"/2010-04-01/Accounts/{OTHER.account_sid}/Messages/{sid}.json"
    answer = http.get(path, headers={"authorization": OTHER.authorization()})
    assert error_of(answer) == (404, 20404)
    listed = http.get(path.replace(f"/{sid}", ""), headers={"authorization": OTHER.authorization()})
    assert listed.json()["messages"] == []


def test_a_broken_form_is_refused(http: httpx.Client) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for body in (b"\xff\xfe=1", b"To"):
        assert http.post(f"{PATH}.json", content=body, headers=headers).status_code == 400
    assert http.post(f"{PATH}.json", content=urlencode({"To": RECIPIENT}), headers=headers).status_code == 400
