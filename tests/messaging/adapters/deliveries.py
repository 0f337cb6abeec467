"""Deliveries, credentials and captured replies for the tests of the push adapters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apps.messaging.adapters.base import Content, Delivery, Endpoint
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from automata_signal.ids import new_id
from tests.messaging.adapters.peer import Peer, Reply

PAYLOADS = Path(__file__).resolve().parents[2] / "payloads"
BUNDLE_ID = "com.example.shop"
HELLO = Content(title="Hello", body="World")

APNS_KEY = make_apns_key([BUNDLE_ID])
FCM_ACCOUNT = make_fcm_account("demo", "https://elsewhere.invalid/token")


def apns_secret(**changes: Any) -> dict[str, Any]:
    secret = {
        "team_id": APNS_KEY.team_id,
        "key_id": APNS_KEY.key_id,
        "private_key": APNS_KEY.p8,
        "bundle_id": BUNDLE_ID,
        "environment": "production",
    }
    return {**secret, **changes}


def fcm_secret(**changes: Any) -> dict[str, Any]:
    return {"service_account": {**FCM_ACCOUNT.service_account, **changes}}


def endpoint(peer: Peer, **changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "url": peer.url,
        "sandbox_url": peer.url,
        "token_url": f"{peer.url}/token",
        "ca_file": peer.ca_file,
        "connections": 1,
        "streams": 100,
        "timeout_s": 5.0,
    }
    return Endpoint(**{**fields, **changes})


def delivery(address: str = "a1" * 32, content: Content = HELLO, test_type: int = 0) -> Delivery:
    return Delivery(str(new_id()), address, content, test_type)


def deliveries(count: int, content: Content = HELLO) -> Iterator[Delivery]:
    for number in range(count):
        yield delivery(f"{number:064x}", content)


def captured(provider: str, name: str) -> Reply:
    """A reply from tests/payloads."""
    reply: Mapping[str, Any] = json.loads((PAYLOADS / provider / f"{name}.json").read_text())
    return Reply(reply["status"], reply["headers"], reply["body"].encode())


def captured_names(provider: str) -> list[str]:
    return sorted(path.stem for path in (PAYLOADS / provider).glob("*.json"))
