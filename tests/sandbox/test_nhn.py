"""NHN Cloud's rules over real connections (providers.md sections 4.3, 5.2 to 5.4): SMS v3.0 and Alimtalk v2.3."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import orjson
import pytest

from apps.sandbox import gateway_codes as codes
from apps.sandbox.client import Sandbox
from apps.sandbox.gateway_behaviours import marked_number
from apps.sandbox.gateway_credentials import NhnApp
from tests.gateways import WebhookReceiver, reset_gateway

SENDER, RECIPIENT = "15446859", "01012345678"
PROFILE, CONTENT = "a" * 40, "#{name}님, 주문 #{order}이 발송되었습니다."
BUTTON = {"ordering": 1, "type": "WL", "name": "열기", "linkMo": "https://example.com/#{order}"}
# Fixed, since names of tests are made of them: processes that share the tests must agree on those.
SMS, KAKAO = (NhnApp(f"app{n}" + "0" * 12, f"key{n}0000", f"signature{n}", s) for n, s in enumerate(("sms", "kakao")))
SMS_PATH, KAKAO_PATH = f"/sms/v3.0/appKeys/{SMS.app_key}", f"/alimtalk/v2.3/appkeys/{KAKAO.app_key}"
ADVERTISEMENT = "(광고)예제 세일 무료수신거부 080-123-4567"
Call = Callable[..., Any]


@pytest.fixture
def nhn(nhn_sandbox: Sandbox) -> Sandbox:
    control = reset_gateway(nhn_sandbox).control
    control.register_keys(SMS.registration(), KAKAO.registration())
    control.register_senders(SENDER, {"number": "15880000", "state": "blocked"}, {"number": "0300", "account": "other"})
    control.register_profiles(
        {"id": PROFILE, "account": KAKAO.app_key},
        {"id": "blocked", "blocked": True},
        {"id": "new", "is_new": True, "can_resend": True},
        {"id": "others", "account": "other"},
    )
    control.register_templates(
        {"id": "order", "profile": PROFILE, "content": CONTENT},
        {"id": "button", "profile": PROFILE, "content": "안내", "buttons": [BUTTON]},
        {"id": "waiting", "profile": PROFILE, "content": CONTENT, "status": "TSC02"},
        {"id": "order", "profile": "new", "content": CONTENT},
        {"id": "order", "profile": "blocked", "content": CONTENT},
    )
    control.set_opt_out_numbers("0801234567")
    return nhn_sandbox


@pytest.fixture
def http(nhn: Sandbox) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(nhn.ca_file))
    with httpx.Client(base_url=nhn.url, verify=context, timeout=5) as client:
        yield client


@pytest.fixture
def call(http: httpx.Client) -> Call:
    """A request with the right keys, which NHN answers with 200 whatever it thinks of it."""

    def send(method: str, path: str, body: Any = None, **headers: str) -> Any:
        secret = SMS.secret_key if path.startswith("/sms") else KAKAO.secret_key
        given = {"x-secret-key": secret, "content-type": "application/json;charset=UTF-8"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        content = None if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        answer = http.request(method, path, headers=given, content=content)
        assert answer.status_code == 200, answer.text
        result = answer.json()
        assert result["header"]["isSuccessful"] == (result["header"]["resultCode"] == 0)
        return result

    return send


def text_message(*recipients: Any, **changes: Any) -> dict[str, Any]:
    """A usual SMS; None leaves a field out."""
    listed = [{"recipientNo": one} if isinstance(one, str) else one for one in recipients or (RECIPIENT,)]
    given = {"body": "안녕하세요", "sendNo": SENDER, "recipientList": listed} | changes
    return {name: value for name, value in given.items() if value is not None}


def alimtalk(*recipients: Any, **changes: Any) -> dict[str, Any]:
    values = {"templateParameter": {"name": "김", "order": "7"}}
    listed = [{"recipientNo": one, **values} if isinstance(one, str) else one for one in recipients or (RECIPIENT,)]
    given = {"senderKey": PROFILE, "templateCode": "order", "recipientList": listed} | changes
    return {name: value for name, value in given.items() if value is not None}


def code_of(result: Any) -> int:
    """The code of the request, or else of its only recipient."""
    code: int = result["header"]["resultCode"]
    results = (result.get("body") or {}).get("data", {}).get("sendResultList") or (result.get("message") or {}).get(
        "sendResults", []
    )
    if results:
        (one,) = results
        return int(one["resultCode"])
    return code


def at(**difference: float) -> str:
    return (datetime.now(timezone(timedelta(hours=9))) + timedelta(**difference)).strftime("%Y-%m-%d %H:%M")


# keys


@pytest.mark.parametrize(
    ("path", "changes", "code"),
    [
        (f"/sms/v3.0/appKeys/{KAKAO.app_key}/sender/sms", {}, -1001),
        ("/sms/v3.0/appKeys/wrong/sender/sms", {}, -1001),
        (f"{SMS_PATH}/sender/sms", {"x_secret_key": "wrong"}, -1000),
        (f"{SMS_PATH}/sender/sms", {"content_type": "text/plain"}, -9996),
        (f"{SMS_PATH}/sender/wrong", {}, -9998),
        (f"/alimtalk/v2.3/appkeys/{SMS.app_key}/messages", {}, -1000),
        (f"{KAKAO_PATH}/messages", {"x_secret_key": "wrong"}, -1001),
        (f"{KAKAO_PATH}/messages", {"content_type": "text/plain"}, 4),
        (f"{KAKAO_PATH}/wrong", {}, -9998),
    ],
)
def test_keys_and_paths_are_checked(call: Call, path: str, changes: dict[str, str], code: int) -> None:
    assert code_of(call("POST", path, b"{}", **changes)) == code


# SMS


def test_an_accepted_message_looks_as_documented(call: Call) -> None:
    given = text_message({"recipientNo": RECIPIENT, "recipientGroupingKey": "m-1"}, senderGroupingKey="g")
    result = call("POST", f"{SMS_PATH}/sender/sms", given)
    request_id = result["body"]["data"].pop("requestId")
    assert len(request_id) <= 25
    assert result == {
        "header": {"isSuccessful": True, "resultCode": 0, "resultMessage": "SUCCESS"},
        "body": {
            "data": {
                "statusCode": "2", "senderGroupingKey": "g",
                "sendResultList": [
                    {"recipientNo": RECIPIENT, "resultCode": 0, "resultMessage": "SUCCESS", "recipientSeq": 1,
                     "recipientGroupingKey": "m-1"}
                ],
            }
        },
    }  # fmt: skip


RULES: list[tuple[str, str, Any, int]] = [
    ("accepted", "sms", text_message(), 0),
    ("no JSON", "sms", b"{", -9997),
    ("an unknown field", "sms", text_message(wrong=1), 4),
    ("no recipients", "sms", text_message(recipientList=[]), -2001),
    ("1,001 recipients", "sms", text_message(*["01011112222"] * 1001), -2016),
    ("an unknown field of a recipient", "sms", text_message({"recipientNo": RECIPIENT, "wrong": 1}), 4),
    ("no text", "sms", text_message(body=None), -2014),
    ("90 bytes", "sms", text_message(body="가" * 45), 0),
    ("91 bytes", "sms", text_message(body="가" * 45 + "a"), -2015),
    ("an emoji", "sms", text_message(body="😀"), -2023),
    ("no sender", "sms", text_message(sendNo=None), -2312),
    ("an unknown sender", "sms", text_message(sendNo="0299999999"), -2312),
    ("another app's sender", "sms", text_message(sendNo="0300"), -2312),
    ("a blocked sender", "sms", text_message(sendNo="15880000"), -2313),
    ("a title of a short one", "sms", text_message(title="제목"), 4),
    ("an unknown template", "sms", text_message(templateId="x"), -2110),
    ("a long statsId", "sms", text_message(statsId="x" * 11), 4),
    ("a date of no form", "sms", text_message(requestDate="tomorrow"), -2000),
    ("a date in the past", "sms", text_message(requestDate="2020-01-01 00:00"), -2022),
    ("a date too far ahead", "sms", text_message(requestDate=at(days=61)), -2000),
    ("a date ahead", "sms", text_message(requestDate=at(days=59)), 0),
    ("no number", "sms", text_message({"countryCode": "82"}), -2018),
    ("hyphens", "sms", text_message("010-1234-5678"), -2019),
    ("no leading zero", "sms", text_message("1012345678"), -2019),
    ("an international form", "sms", text_message({"internationalRecipientNo": "821012345678"}), 0),
    ("abroad", "sms", text_message({"recipientNo": "2025550123", "countryCode": "1"}), 0),
    ("a long one abroad", "mms", text_message({"recipientNo": "2025550123", "countryCode": "1"}, title="제목"), -2024),
    ("a long one", "mms", text_message(title="제목", body="가" * 1000), 0),
    ("a long one without title", "mms", text_message(), -2014),
    ("2,001 bytes", "mms", text_message(title="제목", body="가" * 1000 + "a"), -2015),
    ("41 bytes of title", "mms", text_message(title="가" * 20 + "a"), -2015),
    ("an unknown picture", "mms", text_message(title="제목", attachFileIdList=[1]), -2004),
    ("a code", "auth/sms", text_message(body="인증번호 1234"), 0),
    ("a code without the word", "auth/sms", text_message(body="1234"), -8000),
    ("an advertisement", "ad-sms", text_message(body=ADVERTISEMENT), 0),
    ("a long advertisement", "ad-mms", text_message(title="제목", body=ADVERTISEMENT), 0),
    ("other marks", "ad-sms", text_message(body=ADVERTISEMENT.replace("(광고)", "[광고]")), -6003),
    ("marks with spaces", "ad-sms", text_message(body=ADVERTISEMENT.replace("(광고)", "(광 고)")), -6003),
    ("no opt-out", "ad-sms", text_message(body="(광고)예제 세일"), -6003),
    ("text behind the opt-out", "ad-sms", text_message(body=ADVERTISEMENT + " 안녕"), -6003),
    ("another 080 number", "ad-sms", text_message(body="(광고)예제 무료거부 0809999999"), -6004),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "given", "code"), [rule[1:] for rule in RULES], ids=[f"{rule[1]}: {rule[0]}" for rule in RULES]
)
def test_each_rule_for_a_text_message(call: Call, kind: str, given: Any, code: int) -> None:
    assert code_of(call("POST", f"{SMS_PATH}/sender/{kind}", given)) == code


def test_advertisements_need_the_opt_out_service(call: Call, nhn: Sandbox) -> None:
    nhn.control.set_opt_out_numbers()
    assert code_of(call("POST", f"{SMS_PATH}/sender/ad-sms", text_message(body=ADVERTISEMENT))) == -6000
    call("POST", f"{SMS_PATH}/sender/sms", text_message(body=ADVERTISEMENT))
    assert nhn.control.findings() == ["an advertisement by the route of ordinary messages"]


def test_who_calls_the_080_number_gets_no_more_advertisements(
    call: Call, nhn: Sandbox, webhook_receiver: WebhookReceiver
) -> None:
    nhn.control.report_to(webhook_receiver.url, secret=SMS.webhook_signature, account=SMS.app_key)
    nhn.control.unsubscribe(RECIPIENT, opt_out_number="0801234567", app_key=SMS.app_key)
    assert code_of(call("POST", f"{SMS_PATH}/sender/ad-sms", text_message(body=ADVERTISEMENT))) == -6001
    assert code_of(call("POST", f"{SMS_PATH}/sender/sms", text_message())) == 0
    nhn.control.wait_for_reports()
    post = webhook_receiver.received[0]
    assert post.headers["x-toast-webhook-signature"] == SMS.webhook_signature
    body = orjson.loads(post.body)
    assert (body["event"], body["productName"], body["appKey"]) == ("UNSUBSCRIBE", "SMS", SMS.app_key)
    assert (body["hooks"][0]["recipientNo"], body["hooks"][0]["unsubscribeNo"]) == (RECIPIENT, "0801234567")


def test_pictures_are_checked(call: Call) -> None:
    def upload(name: str, content: bytes) -> Any:
        body = {"fileName": name, "fileBody": base64.b64encode(content).decode(), "createUser": "x"}
        return call("POST", f"{SMS_PATH}/attachfile/binaryUpload", body)

    assert code_of(upload("a.gif", b"GIF89a")) == -2003
    assert code_of(upload("a.jpg", b"GIF89a")) == -2003
    assert code_of(upload("a.jpg", b"")) == -2005
    assert code_of(upload("a.jpg", b"\xff\xd8\xff" + b"x" * 300 * 1024)) == -2005
    file_id = upload("a.jpg", b"\xff\xd8\xff\xe0")["body"]["data"]["fileId"]
    given = text_message(title="제목", attachFileIdList=[file_id])
    assert code_of(call("POST", f"{SMS_PATH}/sender/mms", given)) == 0


# Alimtalk


def raw(content: str, **more: Any) -> dict[str, Any]:
    return {"recipientNo": RECIPIENT, "content": content, **more}


def resend(**more: Any) -> dict[str, Any]:
    parameter = {"isResend": True, "resendSendNo": SENDER} | more
    values = {"name": "김", "order": "7"}
    return {"recipientNo": RECIPIENT, "templateParameter": values, "resendParameter": parameter}


FILLED = BUTTON | {"linkMo": "https://example.com/7"}
KAKAO_RULES: list[tuple[str, str, Any, int]] = [
    ("accepted", "messages", alimtalk(), 0),
    ("no JSON", "messages", b"{", 4),
    ("an unknown field", "messages", alimtalk(wrong=1), 4),
    ("no profile", "messages", alimtalk(senderKey=None), -2001),
    ("a long profile", "messages", alimtalk(senderKey="a" * 41), -2000),
    ("an unknown profile", "messages", alimtalk(senderKey="b" * 40), -2017),
    ("another app's profile", "messages", alimtalk(senderKey="others"), -2017),
    ("a blocked profile", "messages", alimtalk(senderKey="blocked"), -1027),
    ("no template", "messages", alimtalk(templateCode=None), -2001),
    ("a long template code", "messages", alimtalk(templateCode="a" * 21), -2000),
    ("an unknown template", "messages", alimtalk(templateCode="wrong"), -3003),
    ("a template in review", "messages", alimtalk(templateCode="waiting"), -3005),
    ("no recipients", "messages", alimtalk(recipientList=None), -2002),
    ("no recipient", "messages", alimtalk(recipientList=[]), -2004),
    ("1,001 recipients", "messages", alimtalk(*[RECIPIENT] * 1001), -2004),
    ("an unknown field of a recipient", "messages", alimtalk({"recipientNo": RECIPIENT, "wrong": 1}), 4),
    ("no number", "messages", alimtalk({"templateParameter": {}}), -2001),
    ("a long number", "messages", alimtalk("0" * 16), -2000),
    ("hyphens", "messages", alimtalk("010-1234-5678"), -4019),
    ("a date of no form", "messages", alimtalk(requestDate="tomorrow"), -2027),
    ("a date in the past", "messages", alimtalk(requestDate="2020-01-01 00:00"), -2025),
    ("a date too far ahead", "messages", alimtalk(requestDate=at(days=61)), -2028),
    ("a long statsId", "messages", alimtalk(statsId="x" * 9), -2000),
    ("a variable is missing", "messages",
     alimtalk({"recipientNo": RECIPIENT, "templateParameter": {"name": "x"}}), -3004),
    ("a variable that is no text", "messages",
     alimtalk({"recipientNo": RECIPIENT, "templateParameter": {"name": 1, "order": "7"}}), -3004),
    ("1,301 characters", "messages",
     alimtalk({"recipientNo": RECIPIENT, "templateParameter": {"name": "x" * 1300, "order": "7"}}), -2000),
    ("15 characters of a new sender", "messages",
     alimtalk({"recipientNo": RECIPIENT, "templateParameter": {"name": "", "order": "x" * 15}}, senderKey="new"),
     -1028),
    ("a fallback of a profile without", "messages", alimtalk(resend()), -2502),
    ("a fallback", "messages", alimtalk(resend(), senderKey="new"), 0),
    ("a fallback by an unknown sender", "messages", alimtalk(resend(resendSendNo="1"), senderKey="new"), -1003),
    ("a fallback of no type", "messages", alimtalk(resend(resendType="FAX"), senderKey="new"), -4200),
    ("a whole text", "raw-messages", alimtalk(raw("김님, 주문 7이 발송되었습니다.")), 0),
    ("another whole text", "raw-messages", alimtalk(raw("김님, 주문 7이 도착했습니다.")), -3010),
    ("no whole text", "raw-messages", alimtalk({"recipientNo": RECIPIENT}), -2001),
    ("a long whole text", "raw-messages", alimtalk(raw("x" * 1301)), -2000),
    ("its button", "raw-messages", alimtalk(raw("안내", buttons=[FILLED]), templateCode="button"), 0),
    ("no button", "raw-messages", alimtalk(raw("안내"), templateCode="button"), -3011),
    ("another button", "raw-messages",
     alimtalk(raw("안내", buttons=[FILLED | {"name": "x"}]), templateCode="button"), -3011),
    ("another address", "raw-messages",
     alimtalk(raw("안내", buttons=[FILLED | {"linkMo": "https://example.org/7"}]), templateCode="button"), -3011),
    ("a button of no form", "raw-messages", alimtalk(raw("안내", buttons=["x"]), templateCode="button"), -2018),
    ("no code", "auth/messages", alimtalk(), -8006),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "given", "code"),
    [rule[1:] for rule in KAKAO_RULES],
    ids=[f"{rule[1]}: {rule[0]}" for rule in KAKAO_RULES],
)
def test_each_rule_for_an_alimtalk(call: Call, kind: str, given: Any, code: int) -> None:
    assert code_of(call("POST", f"{KAKAO_PATH}/{kind}", given)) == code


def test_a_new_sender_may_send_a_thousand_a_day(call: Call) -> None:
    given = alimtalk(*[RECIPIENT] * 1000, senderKey="new")
    assert call("POST", f"{KAKAO_PATH}/messages", given)["header"]["resultCode"] == 0
    assert code_of(call("POST", f"{KAKAO_PATH}/messages", alimtalk(senderKey="new"))) == -1017


def test_an_idempotency_key_works_once_in_ten_minutes(call: Call, nhn: Sandbox) -> None:
    path, key = f"{KAKAO_PATH}/messages", {"x_nc_api_idempotency_key": "k-1"}
    assert code_of(call("POST", path, alimtalk(templateCode="wrong"), **key)) == -3003
    assert code_of(call("POST", path, alimtalk(), **key)) == 0
    assert code_of(call("POST", path, alimtalk(), **key)) == -1005
    assert nhn.control.stats()["accepted"] == 1
    nhn.control.settings(clock_offset_s=601)
    assert code_of(call("POST", path, alimtalk(), **key)) == 0


def test_when_every_recipient_fails_the_header_says_so(call: Call) -> None:
    result = call("POST", f"{KAKAO_PATH}/messages", alimtalk("010-1", "010-2"))
    assert result["header"]["resultCode"] == -1031
    assert [one["resultCode"] for one in result["message"]["sendResults"]] == [-4019, -4019]


# every code, in replies and in reports


@pytest.mark.parametrize("product", ["sms", "kakao"])
def test_every_code_can_be_a_reply(call: Call, product: str) -> None:
    table = codes.NHN_SMS_REPLIES if product == "sms" else codes.NHN_KAKAO_REPLIES
    prefix = "" if product == "sms" else "kakao-"
    numbers = [marked_number("nhn", f"{prefix}refused:{code}") for code in table]
    if product == "sms":
        results = call("POST", f"{SMS_PATH}/sender/sms", text_message(*numbers))["body"]["data"]["sendResultList"]
    else:
        results = call("POST", f"{KAKAO_PATH}/messages", alimtalk(*numbers))["message"]["sendResults"]
    assert [(str(one["resultCode"]), one["resultMessage"]) for one in results] == list(table.items())


def test_every_code_can_be_a_report_of_sms(call: Call, nhn: Sandbox, webhook_receiver: WebhookReceiver) -> None:
    nhn.control.report_to(webhook_receiver.url, secret=SMS.webhook_signature, service="sms")
    numbers = {code: marked_number("nhn", f"reported:{code}") for code in codes.NHN_SMS_REPORTS}
    result = call("POST", f"{SMS_PATH}/sender/sms", text_message(*numbers.values()))
    request_id = result["body"]["data"]["requestId"]
    nhn.control.wait_for_reports()
    (post,) = webhook_receiver.received
    hooks = orjson.loads(post.body)["hooks"]
    assert {hook["recipientNo"]: hook["resultCode"] for hook in hooks} == {
        number: code for code, number in numbers.items()
    }
    assert {hook["messageStatus"] for hook in hooks} == {"COMPLETED", "FAILED", "DUPLICATED", "FAILED_AD"}
    listed = call("GET", f"{SMS_PATH}/sender/sms?requestId={request_id}&pageSize=1000")["body"]
    assert listed["totalCount"] == len(numbers)
    assert {one["recipientNo"]: one["resultCode"] for one in listed["data"]} == {
        number: code for code, number in numbers.items()
    }
    one = call("GET", f"{SMS_PATH}/sender/sms/{request_id}?recipientSeq=1")["body"]["data"]
    assert (one["resultCode"], one["msgStatus"], one["msgStatusName"]) == ("1000", "3", "성공")


def test_every_code_can_be_a_report_of_alimtalk(call: Call, nhn: Sandbox, webhook_receiver: WebhookReceiver) -> None:
    nhn.control.report_to(webhook_receiver.url, secret=KAKAO.webhook_signature, service="kakao")
    nhn.control.settings(report_batch=1000)
    numbers = {code: marked_number("nhn", f"kakao-reported:{code}") for code in codes.NHN_KAKAO_REPORTS}
    request_id = call("POST", f"{KAKAO_PATH}/messages", alimtalk(*numbers.values()))["message"]["requestId"]
    nhn.control.wait_for_reports()
    (post,) = webhook_receiver.received
    assert post.headers["x-toast-webhook-signature"] == KAKAO.webhook_signature
    hooks = orjson.loads(post.body)["hooks"]
    assert {hook["recipientNo"]: hook["resultCode"] for hook in hooks} == {
        number: code for code, number in numbers.items()
    }
    assert {hook["kakaoMessageType"] for hook in hooks} == {"ALIMTALK_NORMAL"}
    listed = call("GET", f"{KAKAO_PATH}/messages?requestId={request_id}&pageSize=1000")["messageSearchResultResponse"]
    assert {one["recipientNo"]: one["resultCode"] for one in listed["messages"]} == {
        number: code for code, number in numbers.items()
    }
    one = call("GET", f"{KAKAO_PATH}/messages/{request_id}/1")["message"]
    assert (one["resultCode"], one["messageStatus"], one["resendStatus"]) == ("1000", "COMPLETED", "RSC01")


def test_kakaos_codes_leave_text_messages_alone(call: Call) -> None:
    number = marked_number("nhn", "kakao-refused:-2017")
    assert code_of(call("POST", f"{KAKAO_PATH}/messages", alimtalk(number))) == -2017
    assert code_of(call("POST", f"{SMS_PATH}/sender/sms", text_message(number))) == 0


def test_every_receipt_from_abroad(call: Call, nhn: Sandbox, webhook_receiver: WebhookReceiver) -> None:
    nhn.control.report_to(webhook_receiver.url, service="sms")
    given = [
        {"recipientNo": marked_number("nhn", f"receipt:{code}"), "countryCode": "1"} for code in codes.NHN_DLR
    ]  # fmt: skip
    request_id = call("POST", f"{SMS_PATH}/sender/sms", text_message(*given))["body"]["data"]["requestId"]
    nhn.control.wait_for_reports()
    posts = [orjson.loads(post.body) for post in webhook_receiver.received]
    (receipts,) = [post["hooks"] for post in posts if post["event"] == "INTERNATIONAL_DELIVERY_RECEIPT"]
    assert [(hook["errorCode"], hook["dlrStatus"]) for hook in receipts] == [
        (code, status) for code, (status, _) in codes.NHN_DLR.items()
    ]
    shown = call("GET", f"{SMS_PATH}/sender/sms/{request_id}?recipientSeq=2")["body"]["data"]
    assert shown["dlr"]["dlrStatus"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("behaviour", "status", "retry_after", "accepted"),
    [("throttled", 429, "2", 0), ("server-error-accepted", 500, None, 2), ("bad-gateway", 502, None, 0),
     ("unavailable", 503, "2", 0)],
)  # fmt: skip
def test_faults_of_the_service(
    http: httpx.Client, nhn: Sandbox, behaviour: str, status: int, retry_after: str | None, accepted: int
) -> None:
    headers = {"x-secret-key": SMS.secret_key}
    body = text_message(RECIPIENT, marked_number("nhn", behaviour))
    answer = http.post(f"{SMS_PATH}/sender/sms", json=body, headers=headers)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert nhn.control.stats()["accepted"] == accepted


@pytest.mark.parametrize(("behaviour", "accepted"), [("hang-accepted", 1), ("abort", 0), ("abort-accepted", 1)])
def test_faults_of_the_connection(http: httpx.Client, nhn: Sandbox, behaviour: str, accepted: int) -> None:
    body = alimtalk(marked_number("nhn", behaviour))
    with pytest.raises((httpx.ReadTimeout, httpx.NetworkError, httpx.RemoteProtocolError)):
        http.post(f"{KAKAO_PATH}/messages", json=body, headers={"x-secret-key": KAKAO.secret_key}, timeout=0.2)
    assert nhn.control.stats()["accepted"] == accepted


# queries and templates


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/sender/sms", -2011),
        ("/sender/sms?startRequestDate=2026-01-01%2000:00:00&endRequestDate=2026-03-01%2000:00:00", -4000),
        ("/sender/sms?startRequestDate=x&endRequestDate=y", -2000),
        ("/sender/sms?requestId=x&pageSize=1001", -1005),
        ("/sender/sms/x?recipientSeq=1", -2008),
        ("/sender/sms/x", -2012),
    ],
)
def test_wrong_queries_are_refused(call: Call, path: str, code: int) -> None:
    assert code_of(call("GET", f"{SMS_PATH}{path}")) == code


def test_messages_are_found_by_their_dates(call: Call, nhn: Sandbox) -> None:
    call("POST", f"{SMS_PATH}/sender/sms", text_message())
    call("POST", f"{KAKAO_PATH}/messages", alimtalk())
    nhn.control.wait_for_reports()
    dates = f"startRequestDate={at(minutes=-5)}&endRequestDate={at(minutes=5)}"
    assert call("GET", f"{SMS_PATH}/sender/sms?{dates}")["body"]["totalCount"] == 1
    assert call("GET", f"{SMS_PATH}/sender/sms?{dates}&recipientNo=1")["body"]["totalCount"] == 0
    assert call("GET", f"{SMS_PATH}/sender/mms?{dates}")["body"]["totalCount"] == 0
    found = call("GET", f"{KAKAO_PATH}/messages?{dates}&messageStatus=COMPLETED")["messageSearchResultResponse"]
    assert found["totalCount"] == 1
    assert code_of(call("GET", f"{KAKAO_PATH}/messages")) == -2001


def test_a_template_goes_through_review(call: Call, nhn: Sandbox, webhook_receiver: WebhookReceiver) -> None:
    nhn.control.report_to(webhook_receiver.url, secret=KAKAO.webhook_signature, account=KAKAO.app_key, service="kakao")
    templates = f"{KAKAO_PATH}/senders/{PROFILE}/templates"
    given = {"templateCode": "new", "templateName": "새것", "templateContent": "#{a} 안내"}
    values = {"recipientNo": RECIPIENT, "templateParameter": {"a": "b"}}
    assert code_of(call("POST", templates, given)) == 0
    assert call("GET", f"{templates}/new")["template"]["status"] == "TSC01"
    assert code_of(call("POST", f"{KAKAO_PATH}/messages", alimtalk(values, templateCode="new"))) == -3005
    assert code_of(call("PUT", f"{templates}/new", given)) == -3005
    nhn.control.register_templates({"id": "new", "profile": PROFILE, "status": "TSC04", "comment": "광고"})
    assert call("GET", f"{templates}/new")["template"]["comments"][0]["status"] == "REJ"
    assert code_of(call("POST", f"{templates}/new/comments", {"comment": "왜요"})) == 0
    assert call("GET", f"{templates}/new")["template"]["status"] == "TSC02"
    nhn.control.register_templates({"id": "new", "profile": PROFILE, "status": "TSC03"})
    assert code_of(call("POST", f"{KAKAO_PATH}/messages", alimtalk(values, templateCode="new"))) == 0
    listed = call("GET", f"{templates}?templateStatus=TSC03")["templateListResponse"]
    assert [one["templateCode"] for one in listed["templates"]] == ["order", "button", "new"]
    nhn.control.wait_for_reports()
    events = [orjson.loads(post.body) for post in webhook_receiver.received]
    states = [event["hooks"][0]["status"] for event in events if event["event"] != "MESSAGE_RESULT_UPDATE"]
    assert states == ["TSC04", "TSC03"]
    assert code_of(call("DELETE", f"{templates}/new")) == 0
    assert code_of(call("GET", f"{templates}/new")) == -3003


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"templateCode": "x" * 21}, -2004), ({"templateCode": "order"}, 4), ({"templateName": ""}, -2001),
        ({"templateName": "x" * 151}, -2000), ({"templateContent": "x" * 1301}, -2000),
        ({"templateContent": "".join(f"#{{v{n}}}" for n in range(41))}, -3004), ({"buttons": [BUTTON] * 6}, -2018),
        ({"buttons": [{"type": "WL"}]}, -3009), ({"wrong": 1}, 4),
    ],
)  # fmt: skip
def test_a_wrong_template_is_refused(call: Call, changes: dict[str, Any], code: int) -> None:
    given = {"templateCode": "new", "templateName": "새것", "templateContent": "안내"} | changes
    assert code_of(call("POST", f"{KAKAO_PATH}/senders/{PROFILE}/templates", given)) == code


def test_administration_shows_an_app_its_own(call: Call) -> None:
    keys = [one["senderKey"] for one in call("GET", f"{KAKAO_PATH}/senders")["senders"]]
    assert keys == [PROFILE, "blocked", "new"]
    assert code_of(call("GET", f"{KAKAO_PATH}/senders/others")) == -2017
    assert code_of(call("GET", f"{KAKAO_PATH}/senders/others/templates")) == -2017
