"""Solapi's rules over real connections (providers.md sections 4.2, 5.1, 5.3), and Solapi's own client as a witness."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from solapi import SolapiMessageService
from solapi.lib.authenticator import Authenticator
from solapi.model import RequestMessage
from solapi.model.request.message import Message
from solapi.model.request.send_message_request import SendRequestConfig
from solapi.model.webhook.group_report import GroupReportPayload
from solapi.model.webhook.single_report import SingleReportPayload

from apps.sandbox import gateway_codes as codes
from apps.sandbox.client import Sandbox
from apps.sandbox.gateway_behaviours import marked_number
from apps.sandbox.gateway_credentials import SolapiAccount
from apps.sandbox.solapi import sign
from tests.gateways import WebhookReceiver, reset_gateway

SENDER, RECIPIENT = "0212345678", "01012345678"
PROFILE, TEMPLATE = "KA01PF1", "KA01TP1"
CONTENT = "#{name}님, 주문 #{order}이 발송되었습니다."
BUTTON = {"buttonType": "WL", "buttonName": "열기", "linkMo": "https://example.com/#{order}"}
ACCOUNT = SolapiAccount()
Call = Callable[..., httpx.Response]


@pytest.fixture
def solapi(solapi_sandbox: Sandbox) -> Sandbox:
    control = reset_gateway(solapi_sandbox).control
    control.register_keys(ACCOUNT.registration())
    control.register_senders(
        SENDER, {"number": "15880000", "state": "reported"}, {"number": "0300", "account": "other"}
    )
    control.register_profiles(PROFILE, {"id": "KA01PF2", "blocked": True}, {"id": "KA01PF3", "account": "other"})
    control.register_templates(
        {"id": TEMPLATE, "profile": PROFILE, "content": CONTENT, "buttons": [BUTTON]},
        {"id": "KA01TP2", "profile": PROFILE, "content": CONTENT, "status": "INSPECTING"},
        {"id": "KA01TP3", "profile": "KA01PF3", "content": CONTENT},
    )
    return solapi_sandbox


@pytest.fixture
def http(solapi: Sandbox) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(solapi.ca_file))
    with httpx.Client(base_url=solapi.url, verify=context, timeout=5) as client:
        yield client


@pytest.fixture
def call(http: httpx.Client) -> Call:
    """A signed request: call("POST", path, {…})."""

    def send(method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {"authorization": ACCOUNT.authorization(), **headers}
        content = None if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        return http.request(method, path, headers=given, content=content)

    return send


@pytest.fixture
def send(call: Call) -> Call:
    """Messages by send-many/detail; further fields of the request by name."""

    def post(*messages: Any, **fields: Any) -> httpx.Response:
        body = {"messages": list(messages), "showMessageList": True, **fields}
        return call("POST", "/messages/v4/send-many/detail", body)

    return post


def message(to: Any = RECIPIENT, **changes: Any) -> dict[str, Any]:
    """A usual text message; None leaves a field out."""
    given = {"to": to, "from": SENDER, "text": "안녕하세요", "customFields": {"message_id": "m-1"}} | changes
    return {name: value for name, value in given.items() if value is not None}


def alimtalk(
    to: str = RECIPIENT, *, text: str | None = None, sender: str | None = None, **options: Any
) -> dict[str, Any]:
    kakao = {
        "pfId": PROFILE, "templateId": TEMPLATE, "variables": {"#{name}": "김", "#{order}": "7"}, "disableSms": True,
    } | options  # fmt: skip
    return message(to, text=text, type="ATA", kakaoOptions=kakao, **{"from": sender})


def code_of(answer: httpx.Response) -> str:
    """The code of the only message."""
    assert answer.status_code == 200, answer.text
    content = answer.json()
    (one,) = content["failedMessageList"] + content["messageList"]
    return str(one["statusCode"])


# credentials


def test_the_signature_is_that_of_the_documentation_and_of_solapis_package() -> None:
    date, salt = "2019-07-01T00:41:48Z", "jqsba2jxjnrjor"
    expected = "4297539ca79c85dd83b60cbddae60942710223ddcafc4bf02275193a649057ce"
    assert sign("secret", date, salt) == expected == Authenticator.get_signature("secret", date + salt)


def at(**difference: float) -> str:
    return (datetime.now(UTC) + timedelta(**difference)).isoformat()


@pytest.mark.parametrize(
    ("authorization", "status", "error"),
    [
        (lambda: "", 400, "ValidationError"),
        (lambda: "Bearer x", 400, "ValidationError"),
        (lambda: ACCOUNT.authorization(salt="short"), 400, "ValidationError"),
        (lambda: ACCOUNT.authorization(salt="x" * 65), 400, "ValidationError"),
        (lambda: ACCOUNT.authorization(date="yesterday"), 400, "ValidationError"),
        (lambda: ACCOUNT.authorization(key="NCS0"), 403, "InvalidAPIKey"),
        (lambda: ACCOUNT.authorization(date=at(minutes=-16)), 403, "RequestTimeTooSkewed"),
        (lambda: ACCOUNT.authorization(date=at(minutes=16)), 403, "RequestTimeTooSkewed"),
        (lambda: ACCOUNT.authorization()[:-1] + "x", 403, "SignatureDoesNotMatch"),
        (lambda: SolapiAccount(ACCOUNT.api_key).authorization(), 403, "SignatureDoesNotMatch"),
        (lambda: ACCOUNT.authorization(date=at(minutes=-14)), 200, None),
        (lambda: Authenticator(ACCOUNT.api_key, ACCOUNT.api_secret).get_auth_info(), 200, None),
    ],
)
def test_credentials_are_checked(call: Call, authorization: Callable[[], str], status: int, error: str | None) -> None:
    answer = call("GET", "/cash/v1/balance", authorization=authorization())
    assert (answer.status_code, answer.json().get("errorCode")) == (status, error)


def test_a_signature_works_once_in_fifteen_minutes(call: Call, solapi: Sandbox) -> None:
    authorization = ACCOUNT.authorization(date=at(minutes=14))
    assert call("GET", "/cash/v1/balance", authorization=authorization).status_code == 200
    again = call("GET", "/cash/v1/balance", authorization=authorization)
    assert (again.status_code, again.json()["errorCode"]) == (403, "DuplicatedSignature")
    solapi.control.settings(clock_offset_s=15 * 60 + 1)
    assert call("GET", "/cash/v1/balance", authorization=authorization).status_code == 200


# requests and messages


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", {}, {"messages": []}, {"messages": {}}, {"messages": ["x"]}, {"messages": [message()], "wrong": 1},
        {"messages": [message(wrong=1)]}, {"messages": [message()], "allowDuplicates": "yes"},
        {"messages": [message()], "scheduledDate": "tomorrow"},
        {"messages": [message([f"010{number:08d}" for number in range(10_001)])]},
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_as_a_whole(call: Call, solapi: Sandbox, body: Any) -> None:
    answer = call("POST", "/messages/v4/send-many/detail", body)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "ValidationError")
    assert solapi.control.stats()["accepted"] == 0


LONG = "가" * 46  # 92 bytes
RULES: list[tuple[str, dict[str, Any], str]] = [
    ("accepted", message(), "2000"),
    ("no recipient", message(to=None), "1010"),
    ("an empty recipient", message(to=""), "1010"),
    ("hyphens", message(to="010-1234-5678"), "1011"),
    ("an international form", message(to="+821012345678"), "1011"),
    ("no number", message(to=1012345678), "1011"),
    ("no sender", message(**{"from": None}), "1010"),
    ("an unknown sender", message(**{"from": "0299999999"}), "1062"),
    ("another account's sender", message(**{"from": "0300"}), "1062"),
    ("a sender reported to KISA", message(**{"from": "15880000"}), "1064"),
    ("no text", message(text=None), "1010"),
    ("an unknown type", message(type="XYZ"), "1025"),
    ("no type and no detection", message(autoTypeDetect=False), "1010"),
    ("a subject in a short one", message(type="SMS", subject="제목"), "1013"),
    ("90 bytes", message(type="SMS", text="가" * 45), "2000"),
    ("91 bytes", message(type="SMS", text="가" * 45 + "a"), "1031"),
    ("a long one by itself", message(text=LONG), "2000"),
    ("2000 bytes", message(type="LMS", text="가" * 1000), "2000"),
    ("2001 bytes", message(type="LMS", text="가" * 1000 + "a"), "1031"),
    ("40 bytes of subject", message(type="LMS", subject="가" * 20), "2000"),
    ("41 bytes of subject", message(type="LMS", subject="가" * 20 + "a"), "1014"),
    ("an emoji", message(text="안녕 😀"), "1029"),
    ("hangul beyond EUC-KR", message(text="똠방각하"), "1029"),
    ("a control character", message(text="a\x07b"), "1028"),
    ("lines are no control characters", message(text="a\r\n\tb"), "2000"),
    ("a picture message without picture", message(type="MMS"), "1010"),
    ("an unknown picture", message(type="MMS", imageId="ST01"), "1034"),
    ("a custom field that is no text", message(customFields={"a": 1}), "1032"),
    ("a long name of a custom field", message(customFields={"a" * 31: "x"}), "1032"),
    ("a long custom field", message(customFields={"a": "x" * 101}), "1032"),
    ("Kakao's options of a text message", message(type="SMS", kakaoOptions={"pfId": PROFILE}), "1033"),
    ("a long one abroad", message(type="LMS", country="1"), "1058"),
    ("a short one abroad", message(type="SMS", country="1"), "2000"),
    ("an Alimtalk", alimtalk(), "2000"),
    ("an Alimtalk with its text", alimtalk(text="김님, 주문 7이 발송되었습니다."), "2000"),
    ("another text", alimtalk(text="김님, 주문 8이 발송되었습니다."), "1043"),
    ("a text without variables", alimtalk(text="박님, 주문 1이 발송되었습니다.", variables={}), "2000"),
    ("a variable is missing", alimtalk(variables={"#{name}": "김"}), "1043"),
    ("a bare variable name", alimtalk(variables={"name": "김"}), "1011"),
    ("a variable that is no text", alimtalk(variables={"#{name}": 1}), "1011"),
    ("a very long variable", alimtalk(variables={"#{name}": "김" * 1000, "#{order}": "7"}), "1031"),
    ("emoji are allowed in Alimtalk", alimtalk(variables={"#{name}": "😀", "#{order}": "7"}), "2000"),
    ("an unknown channel", alimtalk(pfId="KA01PF9"), "1041"),
    ("a blocked channel", alimtalk(pfId="KA01PF2"), "1041"),
    ("another account's channel", alimtalk(pfId="KA01PF3", templateId="KA01TP3"), "1041"),
    ("an unknown template", alimtalk(templateId="KA01TP9"), "1042"),
    ("another channel's template", alimtalk(templateId="KA01TP3"), "1042"),
    ("a template in inspection", alimtalk(templateId="KA01TP2"), "1042"),
    ("a fallback without sender", alimtalk(disableSms=False), "1010"),
    ("a fallback by an unknown sender", alimtalk(disableSms=False, sender="0299999999"), "1062"),
    ("no options", message(type="ATA"), "1010"),
    ("unknown options", alimtalk(wrong=1), "1011"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "code"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_each_rule_for_a_message(send: Call, given: dict[str, Any], code: str) -> None:
    assert code_of(send(given)) == code


FILLED = BUTTON | {"linkMo": "https://example.com/7"}


@pytest.mark.parametrize(
    ("buttons", "code"),
    [
        ([FILLED], "2000"),
        ([], "1046"),
        ([FILLED, FILLED], "1047"),
        ([FILLED] * 6, "1050"),
        ([FILLED | {"buttonName": "다른"}], "1047"),
        ([FILLED | {"buttonName": "x" * 15}], "1049"),
        ([FILLED | {"buttonType": "ZZ"}], "1044"),
        ([FILLED | {"wrong": 1}], "1044"),
        ([FILLED | {"linkMo": "example.com"}], "1045"),
        ([FILLED | {"linkMo": "https://example.org/7"}], "1045"),
        ([FILLED | {"linkMo": "https://example.com/" + "x" * 100}], "1048"),
        ("x", "1044"),
    ],
)
def test_buttons_are_those_of_the_template(send: Call, buttons: Any, code: str) -> None:
    assert code_of(send(alimtalk(buttons=buttons))) == code


def test_a_repeated_recipient_is_refused_unless_allowed(send: Call) -> None:
    refused = send(message(), message([RECIPIENT, "01099998888"])).json()
    assert [one["statusCode"] for one in refused["failedMessageList"]] == ["1026"]
    assert len(refused["messageList"]) == 2
    allowed = send(message(), message(), allowDuplicates=True).json()
    assert allowed["failedMessageList"] == []
    assert allowed["groupInfo"]["count"]["registeredSuccess"] == 2


def test_opted_out_numbers_are_refused(send: Call, solapi: Sandbox) -> None:
    solapi.control.opt_out(RECIPIENT)
    assert code_of(send(message())) == "1061"
    solapi.control.opt_out(RECIPIENT, remove=True)
    assert code_of(send(message())) == "2000"


def test_an_empty_account_can_send_nothing(send: Call, call: Call, solapi: Sandbox) -> None:
    solapi.control.register_keys(ACCOUNT.registration(balance=30))
    answer = send(message(), message("01099998888"))
    assert (answer.status_code, answer.json()["errorCode"]) == (402, "NotEnoughBalance")
    assert code_of(send(message())) == "2000"
    assert call("GET", "/cash/v1/balance").json() == {"balance": 12.0, "point": 0}


def test_fallback_by_the_gateway_is_a_finding(send: Call, solapi: Sandbox) -> None:
    send(alimtalk())
    assert solapi.control.findings() == []
    send(alimtalk(disableSms=False, sender=SENDER))
    assert "disableSms" in solapi.control.findings()[0]


def test_one_message_answers_two_hundred_with_its_code(call: Call) -> None:
    one = call("POST", "/messages/v4/send", {"message": message()}).json()
    assert (one["statusCode"], one["type"], one["to"]) == ("2000", "SMS", RECIPIENT)
    refused = call("POST", "/messages/v4/send", {"message": message(text="😀")})
    assert (refused.status_code, refused.json()["statusCode"]) == (200, "1029")


@pytest.mark.parametrize("path", ["/messages/v4/nothing", "/messages/v3/send", "/"])
def test_an_unknown_path_is_not_found(call: Call, path: str) -> None:
    assert call("GET", path).status_code == 404


# every code, in replies and in reports


def test_every_code_can_be_a_reply(send: Call, solapi: Sandbox) -> None:
    given = []
    for code in codes.SOLAPI:
        number = marked_number("solapi", f"refused:{code}")
        given.append(alimtalk(number) if code in codes.SOLAPI_KAKAO else message(number))
    failed = send(*given).json()["failedMessageList"]
    assert [one["statusCode"] for one in failed] == list(codes.SOLAPI)
    assert [one["statusMessage"] for one in failed] == list(codes.SOLAPI.values())
    assert solapi.control.stats()["outcomes"] == {"refused": len(codes.SOLAPI)}


def test_every_code_can_be_a_report(send: Call, call: Call, solapi: Sandbox, webhook_receiver: WebhookReceiver) -> None:
    solapi.control.report_to(webhook_receiver.url, secret=ACCOUNT.webhook_secret)
    numbers = {code: marked_number("solapi", f"reported:{code}") for code in codes.SOLAPI}
    send(*(alimtalk(to) if code in codes.SOLAPI_KAKAO else message(to) for code, to in numbers.items()))
    solapi.control.wait_for_reports()
    reported = {
        item["data"]["to"]: item["data"]["statusCode"]
        for post in webhook_receiver.received
        for item in orjson.loads(post.body)
    }
    assert reported == {number: code for code, number in numbers.items()}
    listed = call("GET", "/messages/v4/list?limit=500").json()["messageList"].values()
    assert {one["to"]: one["statusCode"] for one in listed} == reported


def test_kakaos_codes_befall_an_alimtalk_only(send: Call, call: Call, solapi: Sandbox) -> None:
    number = marked_number("solapi", "reported:3104")
    send(alimtalk(number))
    send(message(number))
    solapi.control.wait_for_reports()
    listed = call("GET", f"/messages/v4/list?to={number}").json()["messageList"].values()
    assert {one["type"]: one["statusCode"] for one in listed} == {"ATA": "3104", "SMS": "4000"}


@pytest.mark.parametrize(("status", "error"), [row[:2] for row in codes.SOLAPI_ERRORS])
def test_each_error_of_a_whole_request(send: Call, solapi: Sandbox, status: int, error: str) -> None:
    answer = send(message(), message(marked_number("solapi", error)))
    assert (answer.status_code, answer.json()["errorCode"]) == (status, error)
    assert solapi.control.stats()["outcomes"] == {"refused": 2}


@pytest.mark.parametrize(
    ("behaviour", "status", "retry_after", "accepted"),
    [
        ("throttled", 429, "2", 0), ("throttled-plain", 429, None, 0), ("server-error", 500, None, 0),
        ("server-error-accepted", 500, None, 2), ("bad-gateway", 502, None, 0), ("unavailable", 503, "2", 0),
        ("unavailable-plain", 503, None, 0),
    ],
)  # fmt: skip
def test_each_fault_of_the_service(
    send: Call, solapi: Sandbox, behaviour: str, status: int, retry_after: str | None, accepted: int
) -> None:
    answer = send(message(), message(marked_number("solapi", behaviour)))
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert solapi.control.stats()["accepted"] == accepted


@pytest.mark.parametrize(
    ("behaviour", "error", "accepted"),
    [
        ("hang", httpx.ReadTimeout, 0), ("hang-accepted", httpx.ReadTimeout, 1),
        ("abort", httpx.NetworkError | httpx.RemoteProtocolError, 0),
        ("abort-accepted", httpx.NetworkError | httpx.RemoteProtocolError, 1),
    ],
)  # fmt: skip
def test_each_fault_of_the_connection(
    http: httpx.Client, send: Call, solapi: Sandbox, behaviour: str, error: Any, accepted: int
) -> None:
    http.timeout = httpx.Timeout(0.2)
    with pytest.raises(error if isinstance(error, type) else error.__args__):
        send(message(marked_number("solapi", behaviour)))
    assert solapi.control.stats()["accepted"] == accepted


def test_a_number_may_fail_only_the_first_times(send: Call) -> None:
    number = marked_number("solapi", "unavailable", times=2)
    assert [send(message(number)).status_code for _ in range(3)] == [503, 503, 200]


def test_rules_of_the_control_endpoint_come_first(send: Call, solapi: Sandbox) -> None:
    solapi.control.behave("refused:1060", token=RECIPIENT, times=1)
    assert [code_of(send(message())) for _ in range(2)] == ["1060", "2000"]
    solapi.control.behave("throttled", next=1)
    assert [send(message()).status_code for _ in range(2)] == [429, 200]


# reports


def test_reports_are_signed_and_readable_by_solapis_package(
    send: Call, solapi: Sandbox, webhook_receiver: WebhookReceiver
) -> None:
    solapi.control.report_to(f"{webhook_receiver.url}/hook", secret=ACCOUNT.webhook_secret, account=ACCOUNT.api_key)
    solapi.control.report_to(f"{webhook_receiver.url}/group", service="group")
    group = send(message(), alimtalk("01099998888")).json()["groupInfo"]["groupId"]
    solapi.control.wait_for_reports()
    posts = {post.path: post for post in webhook_receiver.received}
    assert posts["/hook"].headers["x-solapi-secret"] == hashlib.sha1(ACCOUNT.webhook_secret.encode()).hexdigest()
    assert posts["/hook"].headers["x-solapi-event-name"] == "SINGLE-REPORT"
    single = SingleReportPayload.model_validate_json(posts["/hook"].body).root
    assert [(one.data.type, one.data.status_code, one.retry_count) for one in single] == [
        ("SMS", "4000", 0), ("ATA", "4000", 0),
    ]  # fmt: skip
    assert single[0].data.custom_fields == {"message_id": "m-1"}
    assert single[0].data.group_id == group
    (of_group,) = GroupReportPayload.model_validate_json(posts["/group"].body).root
    assert of_group.data is not None
    assert (of_group.data.status, of_group.data.count.sent_success) == ("COMPLETE", 2)


def test_reports_are_retried_repeated_and_reordered_when_told_so(
    send: Call, solapi: Sandbox, webhook_receiver: WebhookReceiver
) -> None:
    solapi.control.report_to(webhook_receiver.url)
    solapi.control.settings(report_retry_ms=1, report_repeats=1, report_order="reversed", report_batch=1,
                            report_connections=1)  # fmt: skip
    webhook_receiver.answers = [500, 500]
    send(message("01011110000"), message("01022220000"))
    solapi.control.wait_for_reports()
    items = [orjson.loads(post.body)[0] for post in webhook_receiver.received]
    assert [item["data"]["to"][3] for item in items] == ["2", "2", "2", "1", "2", "1"]
    assert [item["retryCount"] for item in items] == [0, 1, 2, 0, 0, 0]
    assert len({item["eventDataId"] for item in items}) == 2
    assert [entry["status"] for entry in solapi.control.reports()["log"]] == [500, 500, 200, 200, 200, 200]


def test_reports_may_be_held_back_lost_or_never_come(
    send: Call, call: Call, solapi: Sandbox, webhook_receiver: WebhookReceiver
) -> None:
    solapi.control.report_to(webhook_receiver.url)

    def states() -> list[str]:
        solapi.control.wait_for_reports()
        return [one["statusCode"] for one in call("GET", "/messages/v4/list").json()["messageList"].values()]

    solapi.control.settings(reports="hold")
    send(message())
    assert states() == ["2000"]
    assert solapi.control.release_reports() == 1
    assert states() == ["4000"]
    assert len(webhook_receiver.received) == 1
    solapi.control.settings(reports="off")
    send(message())
    assert states() == ["4000", "4000"]
    solapi.control.settings(reports="send")
    send(message(marked_number("solapi", "silent")))
    assert states() == ["4000", "4000", "2000"]
    assert len(webhook_receiver.received) == 1


def test_messages_are_found_by_their_ids(send: Call, call: Call) -> None:
    ids = [one["messageId"] for one in send(message(), message("01099998888")).json()["messageList"]]
    other = send(message()).json()["messageList"][0]["messageId"]
    assert list(call("GET", f"/messages/v4/list?messageId={ids[1]}").json()["messageList"]) == [ids[1]]
    found = call("GET", f"/messages/v4/list?messageIds[]={ids[0]}&messageIds[]={other}").json()["messageList"]
    assert list(found) == [ids[0], other]
    page = call("GET", "/messages/v4/list?limit=2").json()
    assert (list(page["messageList"]), page["nextKey"]) == (ids, other)
    rest = call("GET", f"/messages/v4/list?limit=2&startKey={other}").json()
    assert (list(rest["messageList"]), rest["nextKey"]) == ([other], None)
    assert call("GET", "/messages/v4/list?limit=501").status_code == 400
    assert call("GET", "/messages/v4/list?wrong=1").status_code == 400


def test_a_scheduled_group_can_be_cancelled(send: Call, call: Call) -> None:
    group = send(message(), scheduledDate=at(hours=1)).json()["groupInfo"]
    assert group["status"] == "SCHEDULED"
    path = f"/messages/v4/groups/{group['groupId']}"
    assert call("DELETE", f"{path}/schedule").status_code == 200
    again = call("DELETE", f"{path}/schedule")
    assert (again.status_code, again.json()["errorCode"]) == (400, "InvalidStatusCode")
    assert len(call("GET", f"{path}/messages").json()["messageList"]) == 1
    assert call("GET", "/messages/v4/groups/G4V0").status_code == 404


# administration


def test_a_template_goes_through_inspection(call: Call, solapi: Sandbox, send: Call) -> None:
    created = call("POST", "/kakao/v2/templates", {"name": "새것", "channelId": PROFILE, "content": "#{a} 안내"}).json()
    path = f"/kakao/v2/templates/{created['templateId']}"
    assert created["status"] == "PENDING"
    assert code_of(send(alimtalk(templateId=created["templateId"], variables={"#{a}": "b"}))) == "1042"
    assert call("PUT", f"{path}/inspection").json()["status"] == "INSPECTING"
    assert call("PUT", f"{path}/inspection").json()["errorCode"] == "InvalidStatusCode"
    assert call("PUT", path, {"name": "a", "content": "b"}).json()["errorCode"] == "InvalidStatusCode"
    assert call("PUT", f"{path}/inspection/cancel").json()["status"] == "PENDING"
    call("PUT", f"{path}/inspection")
    solapi.control.register_templates({"id": created["templateId"], "status": "REJECTED", "comment": "변수가 많음"})
    assert call("GET", path).json()["comments"][0]["content"] == "변수가 많음"
    assert call("PUT", path, {"name": "새것", "content": "#{a} 알림"}).json()["status"] == "PENDING"
    solapi.control.register_templates({"id": created["templateId"], "status": "APPROVED"})
    assert code_of(send(alimtalk(templateId=created["templateId"], variables={"#{a}": "b"}))) == "2000"
    assert call("DELETE", path).json()["errorCode"] == "InvalidStatusCode"
    listed = call("GET", "/kakao/v2/templates/?status=APPROVED&limit=1").json()
    assert [one["templateId"] for one in listed["templateList"]] == [TEMPLATE]
    assert listed["nextKey"] == created["templateId"]


@pytest.mark.parametrize(
    "body",
    [
        b"x", {}, {"name": "a", "content": "b"}, {"name": "a", "content": "b", "channelId": "KA01PF3"},
        {"name": "a", "content": "b" * 1001, "channelId": PROFILE}, {"name": "a", "content": 1, "channelId": PROFILE},
        {"name": "a", "content": "b", "channelId": PROFILE, "wrong": 1},
        {"name": "a", "content": "".join(f"#{{v{n}}}" for n in range(41)), "channelId": PROFILE},
        {"name": "a", "content": "b", "channelId": PROFILE, "buttons": [{}] * 6},
    ],
)  # fmt: skip
def test_a_wrong_template_is_refused(call: Call, body: Any) -> None:
    answer = call("POST", "/kakao/v2/templates", body)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "ValidationError")


def test_administration_shows_an_account_its_own(call: Call) -> None:
    channels = call("GET", "/kakao/v2/channels").json()["channelList"]
    assert [one["channelId"] for one in channels] == [PROFILE, "KA01PF2"]
    assert call("GET", "/kakao/v2/templates/KA01TP3").status_code == 404
    assert call("GET", "/kakao/v2/channels/KA01PF3").status_code == 404
    assert call("GET", "/kakao/v2/templates?status=WRONG").status_code == 400


JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + b"x" * 100).decode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"file": JPEG, "type": "MMS"}, 200), ({"file": JPEG, "type": "WRONG"}, 400), ({"type": "MMS"}, 400),
        ({"file": "*", "type": "MMS"}, 400), ({"file": base64.b64encode(b"GIF89a").decode(), "type": "MMS"}, 400),
        ({"file": base64.b64encode(b"\xff\xd8\xff" + b"x" * 200 * 1024).decode(), "type": "MMS"}, 400),
        ({"file": JPEG, "type": "MMS", "wrong": 1}, 400),
    ],
)  # fmt: skip
def test_pictures_are_checked(call: Call, send: Call, body: dict[str, Any], status: int) -> None:
    answer = call("POST", "/storage/v1/files", body)
    assert answer.status_code == status
    if status == 200:
        assert code_of(send(message(type="MMS", imageId=answer.json()["fileId"]))) == "2000"


# Solapi's own client


def test_solapis_client_understands_every_answer(
    solapi: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(solapi.ca_file))
    service = SolapiMessageService(ACCOUNT.api_key, ACCOUNT.api_secret)
    service.base_url = solapi.url
    config = SendRequestConfig(show_message_list=True)
    sent = service.send(
        [RequestMessage.model_validate(message()), Message.model_validate(alimtalk(sender=SENDER))], config
    )
    assert sent.group_info.count.registered_success == 1
    assert sent.failed_message_list is not None
    assert [one.status_code for one in sent.failed_message_list] == ["1026"]
    assert sent.message_list is not None
    listed = service.get_messages().message_list
    assert list(listed) == [sent.message_list[0].message_id]
    assert service.get_balance().balance == pytest.approx(1e9 - 18)
    assert service.get_group(sent.group_info.group_id).status in ("SENDING", "COMPLETE")
    assert len(service.get_group_messages(sent.group_info.group_id).message_list) == 1
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(base64.b64decode(JPEG))
    assert service.upload_file(str(picture)).type == "MMS"
    config.scheduled_date = datetime.now(UTC) + timedelta(days=1)
    later = service.send(RequestMessage.model_validate(message()), config)
    assert service.cancel_scheduled_message(later.group_info.group_id).group_id == later.group_info.group_id
