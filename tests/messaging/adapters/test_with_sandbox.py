"""The adapters against the stand-in providers, which check signatures, topics, headers and payloads as real ones do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.messaging.adapters.apns import ApnsAdapter
from apps.messaging.adapters.base import Content, Endpoint, Outcome
from apps.messaging.adapters.fcm import FcmAdapter
from apps.sandbox.client import Sandbox, running_sandbox
from tests.messaging.adapters.deliveries import APNS_KEY, FCM_ACCOUNT, apns_secret, deliveries, delivery, fcm_secret

ALL_OPTIONS = {
    "image": "https://cdn.example.com/a.png",
    "badge": 2,
    "sound": "default",
    "category": "ORDER",
    "thread_id": "orders",
    "channel_id": "orders",
    "collapse_key": "score",
    "priority": "normal",
    "subtitle": "부제",
    "click_action": "OPEN",
}
CONTENTS = [
    Content(title="Hello", body="World", data={"a": 1}),
    Content(title="안녕", body="세계", data={"nested": {"b": [1, None]}}, options=ALL_OPTIONS),
    Content(data={"sync": "1"}, options={"silent": True}),
]


@pytest.fixture(scope="module")
def apns_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    arguments = ("--sandbox-port", "0")
    with running_sandbox("apns", ca_dir=Path(tmp_path_factory.mktemp("apns")), arguments=arguments) as sandbox:
        sandbox.control.register_keys(APNS_KEY.registration())
        yield sandbox


@pytest.fixture(scope="module")
def fcm_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox("fcm", ca_dir=Path(tmp_path_factory.mktemp("fcm"))) as sandbox:
        sandbox.control.register_keys(FCM_ACCOUNT.registration())
        yield sandbox


def endpoint(sandbox: Sandbox) -> Endpoint:
    return Endpoint(
        sandbox.url,
        sandbox_url=sandbox.sandbox_url,
        token_url=sandbox.token_url,
        ca_file=str(sandbox.ca_file),
        connections=2,
        timeout_s=5.0,
    )


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("test_type", [0, 1])
def test_apns_takes_what_we_send(apns_sandbox, content, test_type):
    sender = ApnsAdapter().open(apns_secret(environment="both"), endpoint(apns_sandbox))
    sent = [delivery(f"{n:064x}", content, test_type) for n in range(300)]
    for expires_at in (None, 0.0, 4_000_000_000.0):
        assert Counter(r.outcome for r in sender.send(one._replace(expires_at=expires_at) for one in sent)) == {
            Outcome.ACCEPTED: 300
        }
    sender.close()


@pytest.mark.parametrize("content", CONTENTS)
def test_fcm_takes_what_we_send(fcm_sandbox, content):
    sender = FcmAdapter().open(fcm_secret(), endpoint(fcm_sandbox))
    sent = [delivery(f"token-{n}", content) for n in range(300)]
    for expires_at in (None, 0.0, 4_000_000_000.0):
        results = list(sender.send(one._replace(expires_at=expires_at) for one in sent))
        assert Counter(r.outcome for r in results) == {Outcome.ACCEPTED: 300}
        assert all(r.provider_message_id.startswith("projects/demo/messages/") for r in results)
    sender.close()


def test_a_goaway_in_mid_send_loses_nothing(apns_sandbox):
    apns_sandbox.control.settings(goaway_every=50)
    sender = ApnsAdapter().open(apns_secret(), endpoint(apns_sandbox))
    sent = list(deliveries(1000))
    results = list(sender.send(sent))
    apns_sandbox.control.reset()
    assert sorted(r.message_id for r in results) == sorted(d.message_id for d in sent)
    assert {r.outcome for r in results} <= {Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.TRANSIENT}
    assert sum(r.outcome is Outcome.ACCEPTED for r in results) > 500
    sender.close()


def test_a_dropped_connection_in_mid_send_loses_nothing_and_sends_nothing_twice(fcm_sandbox):
    fcm_sandbox.control.reset()
    fcm_sandbox.control.behave("abort-accepted", next=1)
    sender = FcmAdapter().open(fcm_secret(), endpoint(fcm_sandbox))
    sent = list(deliveries(1000))
    results = list(sender.send(sent))
    assert sorted(r.message_id for r in results) == sorted(d.message_id for d in sent)
    assert {r.outcome for r in results} == {Outcome.ACCEPTED, Outcome.UNKNOWN}
    assert fcm_sandbox.control.duplicates() == []
    sender.close()
