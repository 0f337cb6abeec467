"""Usual requests to the stand-ins."""

from __future__ import annotations

from urllib.parse import urlencode

from apps.sandbox.credentials import ApnsKey
from apps.sandbox.oauth import GRANT_TYPE
from tests.sandbox.wire import Reply, Wire

TOPIC = "com.example.app"
PROJECT = "demo-project"
DEVICE = "ab" * 32
MESSAGE_ID = "0198c0de-0000-7000-8000-000000000001"


def push_headers(key: ApnsKey, *, token: str | None = None, **changes: str | None) -> list[tuple[str, str]]:
    """The headers of a usual push; `changes` by header name with underscores, None leaves one out."""
    headers: dict[str, str | None] = {
        "authorization": f"bearer {token or key.provider_token()}",
        "apns-topic": TOPIC,
        "apns-push-type": "alert",
        "apns-priority": "10",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name, value) for name, value in headers.items() if value is not None]


def push_body() -> bytes:
    return b'{"aps":{"alert":{"title":"Hi"}},"automata":{"message_id":"%s"}}' % MESSAGE_ID.encode()


def grant(wire: Wire, assertion: str, grant_type: str = GRANT_TYPE) -> Reply:
    """Ask the token endpoint for an access token."""
    body = urlencode({"grant_type": grant_type, "assertion": assertion}).encode()
    return wire.send("POST", "/token", [("content-type", "application/x-www-form-urlencoded")], body)
