"""The APNs adapter: the bytes sent, the provider token, environments, and what goes wrong."""

from __future__ import annotations

import time

import jwt
import orjson
import pytest

from apps.messaging.adapters.apns import ApnsAdapter, ApnsCredential, ProviderToken
from apps.messaging.adapters.base import Content, ContentError, CredentialError, Outcome, Result
from tests.messaging.adapters.deliveries import (
    APNS_KEY,
    BUNDLE_ID,
    HELLO,
    apns_secret,
    captured,
    deliveries,
    delivery,
)
from tests.messaging.adapters.peer import Hang, Reply, Seen

MINUTE = 60


def sent_payload(seen: Seen) -> dict:
    return orjson.loads(seen.body)


# --- Request -----------------------------------------------------------------------------------------------------


def test_a_message_as_apns_receives_it(peer, apns):
    content = Content(
        title="제목",
        body="본문",
        data={"order": 7, "nested": {"a": [1, None]}},
        options={
            "subtitle": "부제",
            "badge": 3,
            "sound": "default",
            "category": "ORDER",
            "thread_id": "orders",
            "image": "https://cdn.example.com/a.png",
        },
    )
    one = delivery("ab" * 32, content)
    (result,) = apns().send([one._replace(expires_at=1_800_000_000.9)])
    assert result == Result(one.message_id, Outcome.ACCEPTED, http_status=200)
    (seen,) = peer.requests
    message_id = str(one.message_id)
    assert (seen.method, seen.path) == ("POST", "/3/device/" + "ab" * 32)
    assert {name: value for name, value in seen.headers.items() if name.startswith("apns")} == {
        "apns-id": message_id,
        "apns-collapse-id": message_id,
        "apns-topic": BUNDLE_ID,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1800000000",
    }
    assert sent_payload(seen) == {
        "aps": {
            "alert": {"title": "제목", "subtitle": "부제", "body": "본문"},
            "badge": 3,
            "sound": "default",
            "category": "ORDER",
            "thread-id": "orders",
            "mutable-content": 1,
        },
        "automata": {"message_id": message_id, "image": "https://cdn.example.com/a.png"},
        "order": 7,
        "nested": {"a": [1, None]},
    }


def test_a_silent_message_shows_nothing_and_has_priority_5(peer, apns):
    content = Content(title="unseen", data={"sync": True}, options={"silent": True, "badge": 1, "priority": "high"})
    list(apns().send([delivery(content=content)]))
    (seen,) = peer.requests
    assert sent_payload(seen)["aps"] == {"content-available": 1}
    assert (seen.headers["apns-push-type"], seen.headers["apns-priority"]) == ("background", "5")


def test_normal_priority_is_5_and_a_collapse_key_replaces_the_message_id(peer, apns):
    content = Content(title="t", options={"priority": "normal", "collapse_key": "score"})
    one = delivery(content=content)
    list(apns().send([one]))
    (seen,) = peer.requests
    assert seen.headers["apns-priority"] == "5"
    assert seen.headers["apns-collapse-id"] == "score"
    assert seen.headers["apns-id"] == str(one.message_id)
    assert "apns-expiration" not in seen.headers


def test_a_badge_of_0_is_sent_since_it_clears(peer, apns):
    list(apns().send([delivery(content=Content(title="t", options={"badge": 0}))]))
    assert sent_payload(peer.requests[0])["aps"]["badge"] == 0


def test_now_or_never_is_an_expiration_of_0(peer, apns):
    list(apns().send([delivery()._replace(expires_at=0.0)]))
    assert peer.requests[0].headers["apns-expiration"] == "0"


def test_a_shared_content_and_personal_ones_can_be_mixed(peer, apns):
    personal = [delivery(f"{n:064x}", Content(title=f"Dear {n}")) for n in range(100)]
    shared = list(deliveries(100))
    mixed = [d for pair in zip(personal, shared, strict=True) for d in pair]
    results = list(apns().send(mixed))
    assert {r.outcome for r in results} == {Outcome.ACCEPTED}
    by_id = {sent_payload(seen)["automata"]["message_id"]: seen for seen in peer.requests}
    for d in mixed:
        seen = by_id[d.message_id]
        assert seen.path == f"/3/device/{d.address}"
        assert sent_payload(seen)["aps"]["alert"]["title"] == d.content.title


# --- Environments ------------------------------------------------------------------------------------------------


def served(peer, apns, environment: str) -> dict[int, str]:
    hosts = {f"https://127.0.0.1:{peer.url.rsplit(':', 1)[1]}": "sandbox"}
    sender = apns(apns_secret(environment=environment), sandbox_url=next(iter(hosts)))
    outcomes = {}
    for test_type in (0, 1, 2):
        peer.requests.clear()
        (result,) = sender.send([delivery(test_type=test_type)])
        if result.outcome is Outcome.ACCEPTED:
            outcomes[test_type] = "sandbox" if "127.0.0.1" in peer.requests[0].headers[":authority"] else "production"
        else:
            assert (result.outcome, result.reason) == (Outcome.UNSUPPORTED, "EnvironmentNotServed")
            assert (result.http_status, result.subscription_status, peer.requests) == (0, None, [])
    return outcomes


def test_test_types_choose_the_environment(peer, apns):
    """Specification 3.3: 0 production, 1 development, 2 ad hoc."""
    assert served(peer, apns, "production") == {0: "production"}
    assert served(peer, apns, "sandbox") == {1: "sandbox", 2: "sandbox"}
    assert served(peer, apns, "both") == {0: "production", 1: "sandbox", 2: "sandbox"}


# --- Addresses and content that cannot be sent -------------------------------------------------------------------


@pytest.mark.parametrize("address", ["", "../../x", "ab cd", "ab\r\nx: y", "토큰", "\ud800", "a" * 10 + "\0"])
def test_what_cannot_be_a_device_token_never_leaves(peer, apns, address):
    results = list(apns().send([delivery(address), delivery()]))
    assert [(r.outcome, r.subscription_status) for r in results if r.http_status == 0] == [
        (Outcome.RECIPIENT_MISMATCH, -14)
    ]
    assert len(peer.requests) == 1


def test_content_that_cannot_be_sent_fails_its_own_delivery_only(peer, apns):
    bad = [Content(title="\ud800"), Content(body="x" * 5000), Content(data={"aps": 1}), Content(options={"badge": -1})]
    results = list(apns().send([delivery(content=content) for content in [*bad, HELLO]]))
    assert [(r.outcome, r.reason) for r in results] == [
        (Outcome.PAYLOAD_REJECTED, "invalid title"),
        (Outcome.PAYLOAD_REJECTED, "invalid body"),
        (Outcome.PAYLOAD_REJECTED, "invalid data.aps"),
        (Outcome.PAYLOAD_REJECTED, "invalid options.badge"),
        (Outcome.ACCEPTED, ""),
    ]


def test_the_largest_payload_is_4096_bytes_as_sent(peer, apns):
    adapter = ApnsAdapter()
    frame = len(orjson.dumps({"aps": {"alert": {"body": ""}}, "automata": {"message_id": "0" * 36}}))
    largest = Content(body="x" * (4096 - frame))
    adapter.check_content(largest)
    list(apns().send([delivery(content=largest)]))
    assert len(peer.requests[0].body) == 4096
    with pytest.raises(ContentError) as error:
        adapter.check_content(Content(body="x" * (4096 - frame + 1)))
    assert error.value.field == "body"


@pytest.mark.parametrize("key", ["aps", "automata"])
def test_data_cannot_override_our_keys(key):
    with pytest.raises(ContentError) as error:
        ApnsAdapter().check_content(Content(title="t", data={key: {}}))
    assert error.value.field == f"data.{key}"


# --- Provider token ----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def token_with_clock() -> tuple[ProviderToken, Clock]:
    clock = Clock()
    return ProviderToken(ApnsCredential.read(apns_secret()), clock=clock), clock


def test_the_provider_token_is_what_apple_asks_for(peer, apns):
    list(apns().send([delivery()]))
    scheme, token = peer.requests[0].headers["authorization"].split(" ")
    assert scheme == "bearer"
    assert jwt.get_unverified_header(token)["kid"] == APNS_KEY.key_id
    claims = jwt.decode(token, APNS_KEY.public_key, algorithms=["ES256"])
    assert set(claims) == {"iss", "iat"}
    assert claims["iss"] == APNS_KEY.team_id
    assert abs(claims["iat"] - time.time()) < 5


def test_one_token_serves_many_messages(peer, apns):
    sender = apns()
    for _ in range(3):
        list(sender.send(deliveries(20)))
    assert len({seen.headers["authorization"] for seen in peer.requests}) == 1


def test_the_token_is_renewed_between_20_and_60_minutes():
    token, clock = token_with_clock()
    first = token.authorization()
    clock.now += 49 * MINUTE
    assert token.authorization() == first
    clock.now += 2 * MINUTE
    assert token.authorization() != first
    for minutes in (0, 19, 61):
        with pytest.raises(ValueError):
            ProviderToken(ApnsCredential.read(apns_secret()), renew_age_s=minutes * MINUTE)


def test_an_expired_token_of_20_minutes_is_renewed_and_the_message_sent_again(peer, apns):
    sender = apns()
    token, clock = token_with_clock()
    sender._token = token
    old = token.authorization()
    clock.now += 30 * MINUTE
    expired = captured("apns", "403_ExpiredProviderToken")
    peer.answer = lambda seen: expired if seen.headers["authorization"].encode() in old else Reply()
    results = list(sender.send(deliveries(150)))
    assert [r.outcome for r in results] == [Outcome.ACCEPTED] * 150
    assert len({r.message_id for r in results}) == 150
    assert peer.connections == 1


def test_an_expired_token_that_is_young_means_a_wrong_clock_and_is_not_renewed(peer, apns):
    peer.answer = lambda _: captured("apns", "403_ExpiredProviderToken")
    (result,) = apns().send([delivery()])
    assert (result.outcome, result.reason) == (Outcome.CREDENTIAL, "ExpiredProviderToken")
    assert len(peer.requests) == 1


def test_a_token_called_expired_twice_is_not_tried_a_third_time(peer, apns):
    sender = apns()
    sender._token, clock = token_with_clock()
    clock.now += 30 * MINUTE
    peer.answer = lambda _: captured("apns", "403_ExpiredProviderToken")
    (result,) = sender.send([delivery()])
    assert result.outcome is Outcome.CREDENTIAL
    assert len(peer.requests) == 2


def test_too_many_token_updates_goes_back_to_the_token_before():
    token, clock = token_with_clock()
    first = token.authorization()
    clock.now += 51 * MINUTE
    second = token.authorization()
    clock.now += 1 * MINUTE
    assert token.step_back() == 19 * MINUTE
    assert token._current.authorization == first
    clock.now += 8 * MINUTE  # the first is an hour old now
    assert token.authorization() == second


def test_unrelated_key_is_tried_once_on_a_new_connection(peer, apns):
    unrelated = captured("apns", "403_UnrelatedKeyIdInToken")
    peer.answer = lambda seen: unrelated if seen.connection == 1 else Reply()
    (result,) = apns(connections=2).send([delivery()])
    assert result.outcome is Outcome.ACCEPTED
    assert peer.connections == 2


# --- Transport ---------------------------------------------------------------------------------------------------


def test_no_answer_after_the_request_was_written_is_unknown(peer, apns):
    peer.answer = lambda _: Hang()
    (result,) = apns(timeout_s=0.3).send([delivery()])
    assert (result.outcome, result.reason, result.http_status) == (Outcome.UNKNOWN, "operation_timedout", 0)


def test_no_connection_is_transient(peer, apns):
    (result,) = apns(url="https://localhost:1").send([delivery()])
    assert (result.outcome, result.reason) == (Outcome.TRANSIENT, "couldnt_connect")


def test_deliveries_are_consumed_lazily_and_a_pause_answers_what_is_in_flight(peer, apns):
    """The caller ends its iterator to pause: nothing more leaves, and each that left has its result."""
    peer.answer = lambda _: Reply(after_s=0.05)
    taken = []

    def until_paused():
        for one in deliveries(1000):
            if len(taken) == 130:
                return
            taken.append(one.message_id)
            yield one

    results = list(apns(streams=50).send(until_paused()))
    assert sorted(r.message_id for r in results) == sorted(taken)
    assert len(peer.requests) == 130


def test_deliveries_may_have_nothing_yet(peer, apns):
    results = list(apns().send([delivery(), None, None, delivery()]))
    assert [r.outcome for r in results] == [Outcome.ACCEPTED] * 2


# --- Secret ------------------------------------------------------------------------------------------------------

RSA_KEY = """-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"team_id": "SHORT"}, "team_id"),
        ({"team_id": None}, "team_id"),
        ({"key_id": "ABCDEFGH1!"}, "key_id"),
        ({"private_key": ""}, "private_key"),
        ({"private_key": "not a key"}, "private_key"),
        ({"private_key": RSA_KEY}, "private_key"),
        ({"private_key": "\ud800"}, "private_key"),
        ({"bundle_id": "com.example\r\nx: y"}, "bundle_id"),
        ({"environment": "staging"}, "environment"),
        ({"environment": ["both"]}, "environment"),
        ({"certificate": "x"}, "certificate"),
    ],
)
def test_a_secret_that_cannot_work_is_refused_with_its_field(changes, field):
    with pytest.raises(CredentialError) as error:
        ApnsAdapter().check_secret(apns_secret(**changes))
    assert error.value.field == field
    assert "PRIVATE" not in str(error.value)


def test_a_secret_s_summary_holds_no_key():
    adapter = ApnsAdapter()
    adapter.check_secret(apns_secret())
    summary = adapter.summarise_secret(apns_secret())
    assert summary["bundle_id"] == BUNDLE_ID
    assert "private_key" not in summary
