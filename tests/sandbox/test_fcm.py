"""FCM's rules over a real connection (providers.md section 2)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from apps.sandbox.behaviours import FCM_TABLE, Action, Behaviour
from apps.sandbox.client import Sandbox
from apps.sandbox.credentials import FcmAccount, make_fcm_account
from tests.sandbox.requests import MESSAGE_ID, PROJECT, grant
from tests.sandbox.wire import Reply, Wire

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
ANSWERS = [row for row in FCM_TABLE if row.action is Action.ANSWER and not row.accepted]
WITHOUT_FCM_ERROR = {"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"}
TOKEN = "cAbCdEfGhIjKlMnOpQrStU:APA91bExample"
Send = Callable[..., Reply]


@pytest.fixture
def send(fcm_wire: Wire, access_token: str) -> Send:
    """Send one message: send({...}) or send(body=b"…"), project= and authorization= to differ."""

    def post(
        message: dict[str, Any] | None = None,
        *,
        body: bytes | None = None,
        project: str = PROJECT,
        authorization: str | None = f"Bearer {access_token}",
    ) -> Reply:
        headers = [("content-type", "application/json")]
        if authorization is not None:
            headers.append(("authorization", authorization))
        content = orjson.dumps({"message": message or {"token": TOKEN}}) if body is None else body
        return fcm_wire.send("POST", f"/v1/projects/{project}/messages:send", headers, content)

    return post


def detail(reply: Reply, kind: str) -> dict[str, Any] | None:
    found = [item for item in reply.json["error"].get("details", ()) if item["@type"] == kind]
    return found[0] if found else None


def field_at_fault(reply: Reply) -> str | None:
    bad_request = detail(reply, BAD_REQUEST)
    return bad_request["fieldViolations"][0]["field"] if bad_request else None


FULL_MESSAGE: dict[str, Any] = {
    "token": TOKEN,
    "notification": {"title": "Hi", "body": "There", "image": "https://example.com/i.png"},
    "data": {"automata_message_id": MESSAGE_ID, "deep_link": "app://x"},
    "android": {
        "collapse_key": "news",
        "priority": "HIGH",
        "ttl": "3600.5s",
        "notification": {
            "channel_id": "news",
            "color": "#ff0000",
            "notification_count": 3,
            "default_sound": True,
            "notification_priority": "PRIORITY_HIGH",
            "event_time": "2026-11-20T10:00:00Z",
            "vibrate_timings": ["0.5s"],
        },
        "fcm_options": {"analytics_label": "campaign-1"},
    },
    "apns": {"headers": {"apns-priority": "10"}, "payload": {"aps": {"badge": 1}}, "fcm_options": {"image": "x"}},
    "webpush": {"headers": {"TTL": "60"}, "notification": {"title": "x"}, "fcm_options": {"link": "https://x"}},
    "fcm_options": {"analytics_label": "all"},
}


def test_a_full_message_is_accepted_and_journaled(send: Send, fcm: Sandbox) -> None:
    reply = send(FULL_MESSAGE)
    assert reply.status == 200
    assert reply.json["name"].startswith(f"projects/{PROJECT}/messages/0:")
    (entry,) = fcm.control.entries(outcome="accepted")
    assert (entry["token"], entry["message_id"]) == (TOKEN, MESSAGE_ID)
    assert entry["provider_id"] == reply.json["name"]
    assert entry["headers"] == {"priority": "HIGH", "ttl": "3600.5s", "collapse_key": "news"}
    assert orjson.loads(entry["body"])["message"] == FULL_MESSAGE


def test_camel_case_names_are_the_same_names(send: Send) -> None:
    android = {"collapseKey": "k", "directBootOk": True, "notification": {"channelId": "c", "bodyLocArgs": ["a"]}}
    assert send({"token": TOKEN, "android": android, "fcmOptions": {"analyticsLabel": "x"}}).status == 200


@pytest.mark.parametrize("target", [{"fid": "abc"}, {"topic": "news"}, {"condition": "'a' in topics"}])
def test_the_other_targets_are_accepted(send: Send, target: dict[str, str]) -> None:
    assert send(target).status == 200


def test_validate_only_sends_nothing(send: Send, fcm: Sandbox) -> None:
    reply = send(body=orjson.dumps({"validateOnly": True, "message": {"token": TOKEN}}))
    assert reply.json == {"name": f"projects/{PROJECT}/messages/fake_message_id"}
    assert fcm.control.stats()["accepted"] == 0


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"data": {"a": "b"}}, "message"),
        ({"token": TOKEN, "topic": "news"}, "message.topic"),
        ({"token": "with space"}, "message.token"),
        ({"token": ""}, "message.token"),
        ({"token": 5}, "message.token"),
        ({"topic": "no good"}, "message.topic"),
        ({"token": TOKEN, "data": {"a": 1}}, "message.data[0].value"),
        ({"token": TOKEN, "data": {"a": "b", "c": {"d": "e"}}}, "message.data[1].value"),
        ({"token": TOKEN, "data": ["a"]}, "message.data"),
        ({"token": TOKEN, "data": {"from": "x"}}, "message.data[0].key"),
        ({"token": TOKEN, "data": {"message_type": "x"}}, "message.data[0].key"),
        ({"token": TOKEN, "data": {"google.x": "x"}}, "message.data[0].key"),
        ({"token": TOKEN, "data": {"gcm.notification.x": "x"}}, "message.data[0].key"),
        ({"token": TOKEN, "android": {"ttl": "3600"}}, "message.android.ttl"),
        ({"token": TOKEN, "android": {"ttl": 3600}}, "message.android.ttl"),
        ({"token": TOKEN, "android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"token": TOKEN, "android": {"priority": "URGENT"}}, "message.android.priority"),
        ({"token": TOKEN, "android": {"notification": {"color": "red"}}}, "message.android.notification.color"),
        ({"token": TOKEN, "android": {"notification": {"colour": "x"}}}, "message.android.notification"),
        ({"token": TOKEN, "android": {}, "android_v2": {}}, "message.android_v2"),
        ({"token": TOKEN, "notification": {"title": 5}}, "message.notification.title"),
        ({"token": TOKEN, "notification": "Hi"}, "message.notification"),
        ({"token": TOKEN, "sound": "x"}, "message"),
        ({"token": TOKEN, "apns": {"headers": {"apns-priority": 10}}}, "message.apns.headers[0].value"),
        ({"token": TOKEN, "fcm_options": {"analytics_label": "a b"}}, "message.fcm_options.analytics_label"),
    ],
)
def test_a_wrong_message_names_the_field(send: Send, message: dict[str, Any], field: str) -> None:
    reply = send(message)
    assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert detail(reply, FCM_ERROR) == {"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}
    assert field_at_fault(reply) == field


def test_an_unknown_field_is_named_in_the_text(send: Send) -> None:
    text = send({"token": TOKEN, "sound": "x"}).json["error"]["message"]
    assert text == "Invalid JSON payload received. Unknown name \"sound\" at 'message': Cannot find field."


@pytest.mark.parametrize(
    "message",
    [
        {"token": TOKEN, "data": {"a": "x" * 4096}},
        {"token": TOKEN, "notification": {"title": "가" * 1400}},
        {"topic": "news", "data": {"a": "x" * 2048}},
        {"token": TOKEN, "apns": {"payload": {"aps": {"alert": "x" * 4096}}}},
    ],
)
def test_too_large_a_payload_has_no_details(send: Send, message: dict[str, Any]) -> None:
    error = send(message).json["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert "details" not in error


def test_a_payload_of_4096_bytes_is_accepted(send: Send) -> None:
    assert send({"token": TOKEN, "data": {"a": "x" * 4095}}).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"{}"])
def test_a_body_that_is_no_message_is_an_invalid_argument(send: Send, body: bytes) -> None:
    assert send(body=body).json["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("authorization", [None, "Basic abc", "Bearer ", "Bearer ya29.unknown"])
def test_without_a_valid_access_token(send: Send, authorization: str | None) -> None:
    reply = send(authorization=authorization)
    assert (reply.status, reply.json["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert detail(reply, FCM_ERROR) is None


def test_an_access_token_expires(send: Send, fcm: Sandbox) -> None:
    assert send().status == 200
    fcm.control.settings(clock_offset_s=3600)
    assert send().status == 401
    fcm.control.settings(clock_offset_s=0)
    assert send().status == 200
    fcm.control.reset("access_tokens")
    assert send().status == 401


def test_projects_that_are_unknown_or_of_others(send: Send, fcm: Sandbox, fcm_account: FcmAccount) -> None:
    fcm.control.register_keys(make_fcm_account("other-project", fcm.token_url).registration())
    assert send(project=fcm_account.project_number).status == 200
    unknown, others = send(project="nowhere"), send(project="other-project")
    assert (unknown.status, unknown.json["error"]["status"]) == (404, "NOT_FOUND")
    assert (others.status, others.json["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert detail(unknown, FCM_ERROR) is None
    assert detail(others, FCM_ERROR) is None


def test_a_token_of_another_project_is_a_sender_id_mismatch(send: Send, fcm: Sandbox) -> None:
    fcm.control.register_tokens([{"token": "theirs", "project_id": "other-project"}])
    reply = send({"token": "theirs"})
    assert (reply.status, detail(reply, FCM_ERROR)) == (403, {"@type": FCM_ERROR, "errorCode": "SENDER_ID_MISMATCH"})


@pytest.mark.parametrize(("path", "is_json"), [("/v1/projects/x/messages", True), ("/fcm/send", False)])
def test_an_unknown_path_is_not_found(fcm_wire: Wire, path: str, is_json: bool) -> None:
    reply = fcm_wire.send("POST", path, [], b"{}")
    assert reply.status == 404
    assert reply.body.startswith(b"{" if is_json else b"<!DOCTYPE")


@pytest.mark.parametrize("behaviour", ANSWERS, ids=lambda behaviour: behaviour.name)
def test_every_marker_of_a_registration_token_gives_its_answer(send: Send, behaviour: Behaviour) -> None:
    reply = send({"token": f"sandbox:{behaviour.name}:abc"})
    assert reply.status == behaviour.status
    assert reply.headers.get("retry-after") == (
        None if behaviour.retry_after_s is None else str(behaviour.retry_after_s)
    )
    if behaviour.body == "html":
        assert b"<html>" in reply.body
        return
    error = detail(reply, FCM_ERROR)
    assert (error and error["errorCode"]) == (None if behaviour.name in WITHOUT_FCM_ERROR else behaviour.reason)
    assert (field_at_fault(reply) == "message.token") is (behaviour.name == "INVALID_TOKEN")
    assert reply.json["error"]["code"] == behaviour.status


def test_a_marker_with_a_count_fails_k_times(send: Send) -> None:
    message = {"token": "sandbox:UNAVAILABLE.2:abc"}
    assert [send(message).status for _ in range(3)] == [503, 503, 200]


# the token endpoint


def test_the_grant_answers_as_google_does(fcm_wire: Wire, fcm_account: FcmAccount) -> None:
    reply = grant(fcm_wire, fcm_account.assertion(aud="https://oauth2.googleapis.com/token"))
    assert reply.status == 200
    assert reply.json.keys() == {"access_token", "expires_in", "token_type"}
    assert (reply.json["expires_in"], reply.json["token_type"]) == (3599, "Bearer")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"iss": "nobody@example.com"}, "invalid_grant", "account not found"),
        ({"aud": "https://example.com/token"}, "invalid_grant", "audience"),
        ({"scope": None}, "invalid_scope", "scope"),
        ({"exp": None}, "invalid_grant", "short-lived"),
    ],
)
def test_a_wrong_assertion(
    fcm_wire: Wire, fcm_account: FcmAccount, changes: dict[str, Any], error: str, text: str
) -> None:
    reply = grant(fcm_wire, fcm_account.assertion(**changes))
    assert (reply.status, reply.json["error"]) == (400, error)
    assert text in reply.json["error_description"]


@pytest.mark.parametrize(("issued_s", "expires_s"), [(0, 7200), (-7200, -3600), (600, 1200)])
def test_an_assertion_for_another_time(fcm_wire: Wire, fcm_account: FcmAccount, issued_s: int, expires_s: int) -> None:
    now = int(time.time())
    reply = grant(fcm_wire, fcm_account.assertion(iat=now + issued_s, exp=now + expires_s))
    assert (reply.status, reply.json["error"]) == (400, "invalid_grant")
    assert "short-lived" in reply.json["error_description"]


def test_signature_form_and_grant_type(fcm_wire: Wire, fcm_account: FcmAccount, fcm: Sandbox) -> None:
    stranger = make_fcm_account(PROJECT, fcm.token_url)
    assert grant(fcm_wire, stranger.assertion()).json["error_description"] == "Invalid JWT Signature."
    assert grant(fcm_wire, "abc").json["error"] == "invalid_grant"
    assert grant(fcm_wire, "").json["error"] == "invalid_request"
    assert grant(fcm_wire, fcm_account.assertion(), "password").json["error"] == "unsupported_grant_type"
    assert fcm.control.stats()["outcomes"] == {"refused": 4}


def test_another_scope_may_not_send(fcm_wire: Wire, fcm_account: FcmAccount, send: Send) -> None:
    token = grant(fcm_wire, fcm_account.assertion(scope="https://www.googleapis.com/auth/drive")).json["access_token"]
    reply = send(authorization=f"Bearer {token}")
    assert (reply.status, reply.json["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_http1_is_served_too(fcm: Sandbox, fcm_account: FcmAccount) -> None:
    with httpx.Client(verify=ssl.create_default_context(cafile=str(fcm.ca_file))) as client:
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": fcm_account.assertion()}
        granted = client.post(fcm.token_url, data=form)
        assert granted.http_version == "HTTP/1.1"
        for _ in range(3):
            answer = client.post(
                f"{fcm.url}/v1/projects/{PROJECT}/messages:send",
                json={"message": {"token": TOKEN}},
                headers={"authorization": f"Bearer {granted.json()['access_token']}"},
            )
            assert answer.status_code == 200


def test_the_official_client_is_understood(fcm: Sandbox, fcm_account: FcmAccount) -> None:
    """google-auth fetches its access token from the stand-in (firebase-admin uses it for every call)."""
    google_requests = pytest.importorskip("google.auth.transport.requests")
    service_account = pytest.importorskip("google.oauth2.service_account")
    requests = pytest.importorskip("requests")
    session = requests.Session()
    session.trust_env, session.verify = False, str(fcm.ca_file)  # REQUESTS_CA_BUNDLE would win
    credentials = service_account.Credentials.from_service_account_info(
        fcm_account.service_account, scopes=["https://www.googleapis.com/auth/firebase.messaging"]
    )
    credentials.refresh(google_requests.Request(session=session))
    authorized = google_requests.AuthorizedSession(credentials)
    authorized.trust_env, authorized.verify = False, str(fcm.ca_file)
    answer = authorized.post(f"{fcm.url}/v1/projects/{PROJECT}/messages:send", json={"message": {"token": TOKEN}})
    assert answer.status_code == 200
    session.close()
    authorized.close()
