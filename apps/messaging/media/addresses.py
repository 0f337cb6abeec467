"""Addresses of media files that stand in messages: `/m/<token>/<name>`.

A token is `<id>.<variant>.<expiry>.<mac>`: the id in 32 hexadecimal digits (by which content that names a file is
found), the variant and the expiry (seconds since 1970, in hexadecimal) empty where there is none, and 128 bits of
HMAC-SHA256. It is good for as long as the file is there: e-mails are opened after months. Deleting the file revokes all
its addresses.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

from django.conf import settings

from automata_signal.encryption import derived_key

PATH = "m"
TOKEN_MAX_CHARS = 120
_TOKEN = re.compile(r"([0-9a-f]{32})\.([a-z_]{0,20})\.([0-9a-f]{0,12})\.([A-Za-z0-9_-]{22})")
_IN_TEXT = re.compile(rf"/{PATH}/([0-9a-f]{{32}})\.")


class AddressRefused(ValueError):
    """We never signed this."""


class AddressExpired(AddressRefused):
    """We signed it, and its time is over."""


class MediaAddress(NamedTuple):
    """What a token says. `variant`: empty for the file itself; `expires_at`: None for an address that stays."""

    media_id: UUID
    variant: str
    expires_at: int | None


def media_url(media_id: UUID, file_name: str, *, variant: str = "", valid_s: int | None = None) -> str:
    """The address of a file, or of a variant; it stays, unless `valid_s` says for how many seconds."""
    expiry = "" if valid_s is None else f"{int(time.time()) + valid_s:x}"
    said = f"{media_id.hex}.{variant}.{expiry}"
    return f"{settings.PUBLIC_URL.rstrip('/')}/{PATH}/{said}.{_mac(said)}/{quote(file_name)}"


def read_address(token: str) -> MediaAddress:
    """What `token` says. Raises `AddressRefused`, `AddressExpired`."""
    match = _TOKEN.fullmatch(token) if len(token) <= TOKEN_MAX_CHARS else None
    if match is None or not hmac.compare_digest(_mac(token.rpartition(".")[0]), match[4]):
        raise AddressRefused("not one of our addresses")
    expires_at = int(match[3], 16) if match[3] else None
    if expires_at is not None and time.time() >= expires_at:
        raise AddressExpired("the address has expired")
    return MediaAddress(UUID(hex=match[1]), match[2], expires_at)


def media_ids_in(texts: Iterable[str]) -> set[UUID]:
    """The files whose addresses stand in these texts."""
    return {UUID(hex=found) for text in texts for found in _IN_TEXT.findall(text)}


def _mac(said: str) -> str:
    digest = hmac.digest(derived_key("media-address"), said.encode("ascii"), "sha256")[:16]
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
