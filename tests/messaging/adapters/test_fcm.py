"""The FCM adapter: the bytes sent (against Google's own client), the access token, and what goes wrong."""

from __future__ import annotations

import datetime
import time

import jwt
import orjson
import pytest
from firebase_admin import messaging
from firebase_admin._messaging_encoder import MessageEncoder

from apps.messaging.adapters.base import Content, ContentError, CredentialError, Outcome
from apps.messaging.adapters.fcm import FcmAdapter
from automata_signal.ids import new_id
from tests.messaging.adapters.deliveries import FCM_ACCOUNT, captured, deliveries, delivery, fcm_secret
from tests.messaging.adapters.peer import Hang, Reply, Seen

TOKEN = "fGk_1:APA91b-x"


def sent_message(seen: Seen) -> dict:
    return orjson.loads(seen.body)["message"]


def by_google(message: messaging.Message) -> dict:
    """The message as Google's client encodes it."""
    return orjson.loads(orjson.dumps(MessageEncoder().default(message)))


# --- Request -----------------------------------------------------------------------------------------------------


def test_a_message_equals_what_google_s_client_builds(peer, fcm):
    content = Content(
        title="제목",
        body="본문",
        data={"order": "7", "count": 3, "flag": True, "none": None, "list": [1, "둘"]},
        options={
            "image": "https://cdn.example.com/a.png",
            "sound": "default",
            "channel_id": "orders",
            "click_action": "OPEN_ORDER",
            "badge": 4,
            "priority": "normal",
        },
    )
    one = delivery(TOKEN, content)
    list(fcm().send([one._replace(expires_at=time.time() + 3600.5)]))
    message_id = str(one.message_id)
    expected = messaging.Message(
        token=TOKEN,
        notification=messaging.Notification(title="제목", body="본문", image="https://cdn.example.com/a.png"),
        data={
            "order": "7",
            "count": "3",
            "flag": "true",
            "none": "null",
            "list": '[1,"둘"]',
            "automata_message_id": message_id,
        },
        android=messaging.AndroidConfig(
            priority="normal",
            ttl=datetime.timedelta(seconds=3600),
            notification=messaging.AndroidNotification(
                sound="default", channel_id="orders", click_action="OPEN_ORDER", tag=message_id, notification_count=4
            ),
        ),
    )
    (seen,) = peer.requests
    assert (seen.method, seen.path) == ("POST", "/v1/projects/demo/messages:send")
    assert seen.headers["content-type"] == "application/json"
    assert sent_message(seen) == by_google(expected)


def test_a_silent_message_has_no_notification(peer, fcm):
    one = delivery(TOKEN, Content(title="unseen", data={"sync": "1"}, options={"silent": True, "badge": 2}))
    list(fcm().send([one]))
    message_id = str(one.message_id)
    expected = messaging.Message(
        token=TOKEN,
        data={"sync": "1", "automata_message_id": message_id},
        android=messaging.AndroidConfig(priority="high"),
    )
    assert sent_message(peer.requests[0]) == by_google(expected)


def test_a_collapse_key_is_also_the_tag(peer, fcm):
    list(fcm().send([delivery(TOKEN, Content(title="t", options={"collapse_key": "score"}))]))
    android = sent_message(peer.requests[0])["android"]
    assert (android["collapse_key"], android["notification"]["tag"]) == ("score", "score")


def test_the_address_can_be_a_fid(peer, fcm):
    list(fcm(FcmAdapter(target="fid")).send([delivery(TOKEN)]))
    message = sent_message(peer.requests[0])
    assert message["fid"] == TOKEN
    assert "token" not in message


@pytest.mark.parametrize("address", ['"},"x":{"', "\\", "\0", "토큰"])
def test_an_address_cannot_break_out_of_its_field(peer, fcm, address):
    list(fcm().send([delivery(address)]))
    assert sent_message(peer.requests[0])["token"] == address


def test_an_address_that_is_no_text_never_leaves(peer, fcm):
    (result,) = fcm().send([delivery("\ud800")])
    assert (result.outcome, result.subscription_status, result.http_status) == (Outcome.RECIPIENT_MISMATCH, -10, 0)
    assert peer.requests == []


@pytest.mark.parametrize(("seconds", "ttl"), [(0.0, "0s"), (-100.0, "0s"), (60.5, "60s"), (10**8, "2419200s")])
def test_the_lifetime_is_what_is_left(peer, fcm, seconds, ttl):
    list(fcm().send([delivery(TOKEN)._replace(expires_at=time.time() + seconds)]))
    assert sent_message(peer.requests[0])["android"]["ttl"] == ttl


def test_now_or_never_is_a_lifetime_of_0(peer, fcm):
    list(fcm().send([delivery(TOKEN)._replace(expires_at=0.0)]))
    assert sent_message(peer.requests[0])["android"]["ttl"] == "0s"


def test_the_lifetime_shrinks_while_a_long_send_goes_on(peer, fcm):
    def slowly():
        yield one
        time.sleep(1.3)
        yield one._replace(message_id=str(new_id()))

    one = delivery(TOKEN)._replace(expires_at=time.time() + 100)
    list(fcm().send(slowly()))
    first, second = (int(sent_message(seen)["android"]["ttl"][:-1]) for seen in peer.requests)
    assert first - second in (1, 2)


@pytest.mark.parametrize("key", ["from", "message_type", "google.x", "gcm.notification.y", "automata_message_id"])
def test_reserved_keys_of_data_are_refused(key):
    with pytest.raises(ContentError) as error:
        FcmAdapter().check_content(Content(title="t", data={key: "1"}))
    assert error.value.field == f"data.{key}"


def test_more_than_4096_bytes_are_refused(peer, fcm):
    adapter = FcmAdapter()
    adapter.check_content(Content(body="x" * 3700))
    with pytest.raises(ContentError) as error:
        adapter.check_content(Content(body="가" * 1366))
    assert error.value.field == "body"
    (result,) = fcm().send([delivery(TOKEN, Content(body="x" * 4096))])
    assert result.outcome is Outcome.PAYLOAD_REJECTED
    assert peer.requests == []


# --- Access token ------------------------------------------------------------------------------------------------


def test_the_access_token_comes_from_our_endpoint_whatever_the_service_account_says(peer, fcm, token_endpoint):
    """The account's own token_uri, `elsewhere.invalid` here, is an operator's text: it is never called."""
    assert FCM_ACCOUNT.service_account["token_uri"] == "https://elsewhere.invalid/token"
    sender = fcm()
    for _ in range(3):
        assert {r.outcome for r in sender.send(deliveries(10))} == {Outcome.ACCEPTED}
    (asked,) = token_endpoint.requests
    claims = jwt.decode(
        asked["assertion"],
        FCM_ACCOUNT.public_key,
        algorithms=["RS256"],
        audience="https://oauth2.googleapis.com/token",
    )
    assert claims["iss"] == FCM_ACCOUNT.service_account["client_email"]
    assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
    assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert {seen.headers["authorization"] for seen in peer.requests} == {"Bearer token-1"}


def test_a_redirect_of_the_token_endpoint_is_not_followed(peer, fcm, token_endpoint):
    token_endpoint.answer = lambda _: (307, {})
    (result,) = fcm().send([delivery(TOKEN)])
    assert result.outcome is Outcome.TRANSIENT
    assert len(token_endpoint.requests) == 1


def test_an_unauthenticated_token_is_replaced_and_the_message_sent_again(peer, fcm, token_endpoint):
    unauthenticated = captured("fcm", "401_UNAUTHENTICATED")
    peer.answer = lambda seen: unauthenticated if seen.headers["authorization"] == "Bearer token-1" else Reply()
    results = list(fcm().send(deliveries(150)))
    assert [r.outcome for r in results] == [Outcome.ACCEPTED] * 150
    assert len({r.message_id for r in results}) == 150
    assert len(token_endpoint.requests) == 2


def test_a_token_is_renewed_ahead_of_its_end_while_sending_goes_on(peer, fcm, token_endpoint):
    token_endpoint.answer = lambda n: (200, {"access_token": f"token-{n}", "expires_in": 2, "token_type": "Bearer"})
    sender = fcm()
    list(sender.send([delivery(TOKEN)]))
    time.sleep(1.2)
    list(sender.send([delivery(TOKEN)]))  # still good; the next one is fetched meanwhile
    time.sleep(0.5)
    list(sender.send([delivery(TOKEN)]))
    used = [seen.headers["authorization"] for seen in peer.requests]
    assert used == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_a_renewal_that_fails_leaves_a_good_token_in_use(peer, fcm, token_endpoint):
    def answer(n):
        if n > 1:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "token-1", "expires_in": 3, "token_type": "Bearer"}

    token_endpoint.answer = answer
    sender = fcm()
    list(sender.send([delivery(TOKEN)]))
    time.sleep(1.7)
    assert [r.outcome for r in sender.send([delivery(TOKEN)])] == [Outcome.ACCEPTED]


def test_a_token_endpoint_that_is_down_is_transient_for_all(peer, fcm):
    results = list(fcm(token_url="https://localhost:1/token").send(deliveries(200)))
    assert [(r.outcome, r.reason) for r in results] == [(Outcome.TRANSIENT, "no_access_token")] * 200
    assert peer.requests == []


def test_a_refused_service_account_is_the_credential_s_fault(peer, fcm, token_endpoint):
    token_endpoint.answer = lambda _: (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    results = list(fcm().send(deliveries(50)))
    assert [(r.outcome, r.reason) for r in results] == [(Outcome.CREDENTIAL, "invalid_grant")] * 50
    assert len(token_endpoint.requests) == 1
    assert peer.requests == []


# --- Transport ---------------------------------------------------------------------------------------------------


def test_no_answer_after_the_request_was_written_is_unknown(peer, fcm):
    peer.answer = lambda _: Hang()
    (result,) = fcm(timeout_s=0.3).send([delivery(TOKEN)])
    assert (result.outcome, result.reason, result.http_status) == (Outcome.UNKNOWN, "operation_timedout", 0)


def test_no_connection_is_transient(fcm):
    (result,) = fcm(url="https://localhost:1").send([delivery(TOKEN)])
    assert (result.outcome, result.reason) == (Outcome.TRANSIENT, "couldnt_connect")


# --- Secret ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "authorized_user"}, "service_account.type"),
        ({"project_id": "a/../b"}, "service_account.project_id"),
        ({"project_id": None}, "service_account.project_id"),
        ({"client_email": "nobody"}, "service_account.client_email"),
        ({"private_key": "x"}, "service_account.private_key"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "service_account.token_uri"),
    ],
)
def test_a_service_account_that_cannot_work_is_refused_with_its_field(changes, field):
    with pytest.raises(CredentialError) as error:
        FcmAdapter().check_secret(fcm_secret(**changes))
    assert error.value.field == field


@pytest.mark.parametrize("secret", [{}, {"service_account": "{}"}, {"service_account": []}])
def test_a_secret_without_a_service_account_is_refused(secret):
    with pytest.raises(CredentialError) as error:
        FcmAdapter().check_secret(secret)
    assert error.value.field == "service_account"


def test_a_secret_s_summary_holds_no_key():
    summary = FcmAdapter().summarise_secret(fcm_secret())
    assert summary == {
        "project_id": "demo",
        "client_email": FCM_ACCOUNT.service_account["client_email"],
    }
