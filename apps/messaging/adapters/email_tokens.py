"""Links of e-mails: what is counted when it is opened or followed, signed so that nobody else can make one.

`/e/o/<token>.gif` shows a picture of one pixel, `/e/c/<token>` leads to the address that the token holds. Both name the
message; the second also holds its target, so that nothing is stored and it redirects nowhere that we did not send.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from binascii import Error as NotBase64
from binascii import a2b_base64
from typing import NamedTuple
from uuid import UUID

from automata_signal.encryption import derived_key

__all__ = ["TARGET_MAX_CHARS", "ClickToken", "LinkForged", "LinkMaker", "read_click_token", "read_open_token"]

TARGET_MAX_CHARS = 2_000
"""A longer address stays as it is, and its clicks are not counted."""
_MAC_BYTES = 16
_ID_BYTES = 16
_CLICK, _OPEN = "email-click", "email-open"
_TO_STANDARD = str.maketrans("-_", "+/")


class LinkForged(ValueError):
    """We never signed this."""


class ClickToken(NamedTuple):
    message_id: UUID
    target: str


class LinkMaker:
    """Makes the links of one message after another."""

    def __init__(self, public_url: str) -> None:
        origin = public_url.rstrip("/")
        self._click_url, self._open_url = f"{origin}/e/c/", f"{origin}/e/o/"

    def click(self, message_id: bytes, target: bytes) -> str:
        """The address that leads to `target`. `message_id` is the UUID's 16 bytes."""
        body = message_id + target
        return self._click_url + _encoded(body, _keys()[0])

    def open(self, message_id: bytes) -> str:
        """The address of the picture."""
        return f"{self._open_url}{_encoded(message_id, _keys()[1])}.gif"


def read_click_token(token: str) -> ClickToken:
    """What a token of `/e/c/` says. Raises `LinkForged`."""
    body = _decoded(token, derived_key(_CLICK), longest=_ID_BYTES + 4 * TARGET_MAX_CHARS)
    try:
        return ClickToken(UUID(bytes=body[:_ID_BYTES]), body[_ID_BYTES:].decode())
    except UnicodeDecodeError:
        raise LinkForged("not one of our links") from None


def read_open_token(token: str) -> UUID:
    """The message that a token of `/e/o/` is about. Raises `LinkForged`."""
    return UUID(bytes=_decoded(token, derived_key(_OPEN), longest=_ID_BYTES))


def _keys() -> tuple[bytes, bytes]:
    return derived_key(_CLICK), derived_key(_OPEN)


def _encoded(body: bytes, key: bytes) -> str:
    mac = hmac.digest(key, body, "sha256")[:_MAC_BYTES]
    return urlsafe_b64encode(mac + body).rstrip(b"=").decode("ascii")


def _decoded(token: str, key: bytes, *, longest: int) -> bytes:
    if not token.isascii() or not 43 <= len(token) <= (_MAC_BYTES + longest) * 4 // 3 + 4:
        raise LinkForged("not one of our links")
    try:
        stored = a2b_base64(token.translate(_TO_STANDARD) + "=" * (-len(token) % 4), strict_mode=True)
    except NotBase64:
        raise LinkForged("not one of our links") from None
    if urlsafe_b64encode(stored).rstrip(b"=").decode("ascii") != token:  # a second spelling of the same bytes
        raise LinkForged("not one of our links")
    mac, body = stored[:_MAC_BYTES], stored[_MAC_BYTES:]
    if not hmac.compare_digest(mac, hmac.digest(key, body, "sha256")[:_MAC_BYTES]):
        raise LinkForged("not one of our links")
    return body
