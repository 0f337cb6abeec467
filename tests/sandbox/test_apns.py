"""APNs' rules over a real connection (providers.md section 1)."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable

import pytest

from apps.sandbox.apns import PUSH_TYPES
from apps.sandbox.behaviours import APNS_TABLE, LONG_AGO_MS, Action, Behaviour
from apps.sandbox.client import Sandbox
from apps.sandbox.credentials import ApnsKey, make_apns_key
from tests.sandbox.requests import DEVICE, MESSAGE_ID, TOPIC, push_body, push_headers
from tests.sandbox.wire import Reply, Wire

Push = Callable[..., Reply]
ANSWERS = [row for row in APNS_TABLE if row.action is Action.ANSWER and not row.accepted]


def test_a_right_push_is_accepted_with_its_apns_id_and_journaled(push: Push, apns: Sandbox) -> None:
    apns_id = str(uuid.uuid4())
    reply = push(apns_id=apns_id, apns_collapse_id="c" * 64, apns_expiration="0")
    assert (reply.status, reply.headers["apns-id"], reply.body) == (200, apns_id, b"")
    assert "apns-unique-id" not in reply.headers
    (entry,) = apns.control.entries(token=DEVICE)
    assert entry["outcome"] == "accepted"
    assert entry["provider_id"] == apns_id
    assert entry["message_id"] == MESSAGE_ID
    assert entry["body"] == push_body().decode()
    assert entry["status"] == 200
    assert abs(entry["received_at"] - time.time()) < 5
    assert entry["headers"] == {
        "apns-topic": TOPIC,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-collapse-id": "c" * 64,
        "apns-expiration": "0",
    }


def test_an_apns_id_is_made_when_missing(push: Push) -> None:
    assert uuid.UUID(push().headers["apns-id"])


def test_development_gives_a_unique_id_too(apns: Sandbox, apns_key: ApnsKey) -> None:
    with Wire(apns.sandbox_url, apns.ca_file) as wire:
        reply = wire.send("POST", f"/3/device/{DEVICE}", push_headers(apns_key), push_body())
    assert reply.status == 200
    assert uuid.UUID(reply.headers["apns-unique-id"])


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"authorization": None}, 403, "MissingProviderToken"),
        ({"authorization": "basic abc"}, 403, "MissingProviderToken"),
        ({"authorization": "bearer not.a.token"}, 403, "InvalidProviderToken"),
        ({"apns_id": "not-a-uuid"}, 400, "BadMessageId"),
        ({"apns_id": str(uuid.uuid4()).upper()}, 400, "BadMessageId"),
        ({"apns_expiration": "tomorrow"}, 400, "BadExpirationDate"),
        ({"apns_expiration": "-1"}, 400, "BadExpirationDate"),
        ({"apns_priority": "7"}, 400, "BadPriority"),
        ({"apns_collapse_id": "c" * 65}, 400, "BadCollapseId"),
        ({"apns_topic": None}, 400, "MissingTopic"),
        ({"apns_topic": "com.example app"}, 400, "BadTopic"),
        ({"apns_topic": f"{TOPIC}.voip"}, 400, "BadTopic"),
        ({"apns_push_type": "voip"}, 400, "BadTopic"),
        ({"apns_topic": "com.example.other"}, 400, "TopicDisallowed"),
        ({"apns_push_type": "shout"}, 400, "InvalidPushType"),
        ({"apns_push_type": "background", "apns_priority": "10"}, 400, "BadPriority"),
        ({"apns_push_type": "background", "apns_priority": None}, 400, "BadPriority"),
        ({"apns_push_type": "background", "apns_priority": "5"}, 400, "InvalidPushType"),  # no content-available
        ({"body": b""}, 400, "PayloadEmpty"),
        ({"body": b"not json"}, 400, "PayloadEmpty"),
        ({"body": b"[]"}, 400, "PayloadEmpty"),
        ({"body": b'{"aps":{"alert":"%s"}}' % (b"x" * 4096)}, 413, "PayloadTooLarge"),
        ({"device": "xyz"}, 400, "BadDeviceToken"),
        ({"device": "abc"}, 400, "BadDeviceToken"),
        ({"device": ""}, 400, "MissingDeviceToken"),
        ({"device": f"{DEVICE}/more"}, 404, "BadPath"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_apples_reason(
    push: Push, apns: Sandbox, changes: dict[str, str], status: int, reason: str
) -> None:
    reply = push(**changes)
    assert (reply.status, reply.json) == (status, {"reason": reason})
    assert apns.control.stats()["reasons"] == {reason: 1}
    assert apns.control.entries(outcome="refused")[0]["reason"] == reason


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", f"/3/device/{DEVICE}", 405, "MethodNotAllowed"),
        ("POST", f"/4/device/{DEVICE}", 404, "BadPath"),
        ("POST", f"/3/devices/{DEVICE}", 404, "BadPath"),
    ],
)
def test_method_and_path(wire: Wire, apns_key: ApnsKey, method: str, path: str, status: int, reason: str) -> None:
    reply = wire.send(method, path, push_headers(apns_key), push_body())
    assert (reply.status, reply.json["reason"]) == (status, reason)


def test_a_repeated_header_is_refused(wire: Wire, apns_key: ApnsKey) -> None:
    headers = [*push_headers(apns_key), ("apns-priority", "10")]
    assert wire.send("POST", f"/3/device/{DEVICE}", headers, push_body()).json["reason"] == "DuplicateHeaders"


@pytest.mark.parametrize("push_type", PUSH_TYPES)
def test_every_push_type_with_its_topic_is_accepted(push: Push, push_type: str) -> None:
    topic = TOPIC + (PUSH_TYPES[push_type] or "")
    body = b'{"aps":{"content-available":1}}'
    assert push(apns_push_type=push_type, apns_topic=topic, apns_priority="5", body=body).status == 200


def test_a_voip_push_may_have_5120_bytes(push: Push) -> None:
    frame = b'{"aps":{"alert":"%s"}}'
    voip = {"apns_push_type": "voip", "apns_topic": f"{TOPIC}.voip"}
    assert push(body=frame % (b"x" * (5120 - len(frame) + 2)), **voip).status == 200
    assert push(body=frame % (b"x" * (5121 - len(frame) + 2)), **voip).status == 413


@pytest.mark.parametrize(
    ("age_s", "reason"), [(3700, "ExpiredProviderToken"), (-300, "ExpiredProviderToken"), (3500, None), (-5, None)]
)
def test_the_age_of_a_provider_token(push: Push, apns_key: ApnsKey, age_s: int, reason: str | None) -> None:
    token = apns_key.provider_token(issued_at=int(time.time()) - age_s)
    reply = push(authorization=f"bearer {token}")
    assert (reply.json["reason"] if reply.body else None) == reason


def test_a_token_that_was_accepted_expires_as_the_clock_goes_on(push: Push, apns: Sandbox) -> None:
    assert push().status == 200
    apns.control.settings(clock_offset_s=3700)
    assert push().json["reason"] == "ExpiredProviderToken"


def test_signature_key_and_team_of_a_provider_token(push: Push, apns_key: ApnsKey) -> None:
    wrong_signature = make_apns_key(team_id=apns_key.team_id, key_id=apns_key.key_id)
    wrong_key_id = ApnsKey(apns_key.team_id, "AAAAAAAAAA", apns_key.p8, apns_key.public_key, ())
    wrong_team = ApnsKey("AAAAAAAAAA", apns_key.key_id, apns_key.p8, apns_key.public_key, ())
    for key in (wrong_signature, wrong_key_id, wrong_team):
        assert push(authorization=f"bearer {key.provider_token()}").json["reason"] == "InvalidProviderToken"


def test_a_new_provider_token_within_20_minutes_is_too_many_updates(push: Push, apns_key: ApnsKey) -> None:
    now = int(time.time())
    first, soon, later = (apns_key.provider_token(issued_at=now - age_s) for age_s in (1800, 900, 0))
    assert push(authorization=f"bearer {first}").status == 200
    reply = push(authorization=f"bearer {soon}")
    assert (reply.status, reply.json["reason"]) == (429, "TooManyProviderTokenUpdates")
    assert push(authorization=f"bearer {later}").status == 200
    assert push(authorization=f"bearer {first}").status == 200  # one in flight from before


def test_a_connection_belongs_to_one_team(push: Push, apns: Sandbox) -> None:
    other = make_apns_key([TOPIC])
    apns.control.register_keys(other.registration())
    assert push().status == 200
    assert push(authorization=f"bearer {other.provider_token()}").json["reason"] == "UnrelatedKeyIdInToken"


def test_a_key_of_the_other_environment_is_refused(push: Push, apns: Sandbox) -> None:
    key = make_apns_key([TOPIC])
    apns.control.register_keys(key.registration(["development"]))
    reply = push(authorization=f"bearer {key.provider_token()}")
    assert (reply.status, reply.json["reason"]) == (403, "BadEnvironmentKeyInToken")


def test_device_tokens_of_the_other_environment_or_app_are_refused(push: Push, apns: Sandbox) -> None:
    assert push("deb0" + "00" * 30).json["reason"] == "BadDeviceToken"
    assert push("9a0d" + "00" * 30).status == 200
    apns.control.register_tokens(
        [{"token": "aa01", "topic": "com.example.other"}, {"token": "aa02", "environment": "development"}]
    )
    assert push("aa01").json["reason"] == "DeviceTokenNotForTopic"
    assert push("AA02").json["reason"] == "BadDeviceToken"


def test_one_stream_until_a_valid_provider_token_was_seen(wire: Wire, apns_key: ApnsKey) -> None:
    headers = push_headers(apns_key)
    wire.send("POST", f"/3/device/{DEVICE}", push_headers(apns_key, authorization=None), push_body())
    assert wire.stream_limits == [1]
    assert wire.send("POST", f"/3/device/{DEVICE}", headers, push_body()).status == 200
    wire.send("POST", f"/3/device/{DEVICE}", headers, push_body())
    assert wire.stream_limits == [1, 500]


def test_streams_above_the_limit_are_refused(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    headers = push_headers(apns_key)
    apns.control.settings(stream_limit=2, latency_ms=50)
    assert wire.send("POST", f"/3/device/{DEVICE}", headers, push_body()).status == 200
    replies = wire.wait(*[wire.begin("POST", f"/3/device/{DEVICE}", headers, push_body()) for _ in range(3)])
    assert [(reply.status, reply.reset_code) for reply in replies] == [(200, None), (200, None), (0, 7)]


def test_http1_is_refused(apns: Sandbox) -> None:
    """No ALPN in common: the handshake fails, or the connection ends without an answer."""
    try:
        with Wire(apns.url, apns.ca_file, alpn=("http/1.1",)) as wire:
            assert wire.wait_closed()
            assert not wire.stream_limits
    except (ssl.SSLError, ConnectionError):
        pass


@pytest.mark.parametrize("behaviour", ANSWERS, ids=lambda behaviour: behaviour.name)
def test_every_marker_of_a_device_token_gives_its_answer(push: Push, behaviour: Behaviour) -> None:
    before_ms = int(time.time() * 1000)
    reply = push(f"dead{behaviour.code}" + "00" * 28)
    assert reply.status == behaviour.status
    if behaviour.body == "json":
        assert reply.json["reason"] == behaviour.reason
        assert "apns-id" in reply.headers
    else:
        assert (b"<html>" in reply.body) is (behaviour.body == "html")
    assert reply.headers.get("retry-after") == (
        None if behaviour.retry_after_s is None else str(behaviour.retry_after_s)
    )
    if behaviour.status == 410:
        timestamp = reply.json["timestamp"]
        assert timestamp == LONG_AGO_MS if behaviour.name.endswith("-old") else timestamp >= before_ms
