"""What a push message may say beyond title, body and data, and the checks that both push providers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import orjson

from apps.messaging.adapters.base import Content, ContentError

__all__ = ["PAYLOAD_BYTES_MAX", "PushOptions", "check_options", "check_payload_size", "check_text", "read_options"]

PAYLOAD_BYTES_MAX = 4096
"""Both providers' limit: providers.md 1.5 and 2.3."""
COLLAPSE_KEY_BYTES_MAX = 64
"""APNs' limit for apns-collapse-id: providers.md 1.3. FCM names none."""
BADGE_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PushOptions:
    """The options of a push message, as `Content.options` gives them by name; what is not given has its default."""

    image: str = ""
    """https address of a picture."""
    badge: int | None = None
    """Number on the app's icon; 0 clears it, None leaves it alone."""
    sound: str = ""
    """Name of a sound in the app, or `default`; empty for none on iOS, for the channel's on Android."""
    category: str = ""
    """iOS: which buttons the notification has."""
    thread_id: str = ""
    """iOS: notifications of one thread are shown together."""
    channel_id: str = ""
    """Android: the notification channel."""
    collapse_key: str = ""
    """A later message with the same key replaces this one; by default none does."""
    priority: str = "high"
    """`high`: at once; `normal`: when it suits the device's battery."""
    silent: bool = False
    """Wake the app and show nothing: title, body, image, badge and sound are left out."""
    subtitle: str = ""
    """iOS: a second line under the title."""
    click_action: str = ""
    """Android: the intent that a tap starts."""


def read_options(options: Mapping[str, Any]) -> PushOptions:
    """The options, checked. Raises `ContentError` with `options.<name>`."""
    if not options:
        return _DEFAULTS
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ContentError(f"options.{name}", f"is not an option of a push message; there are {', '.join(_CHECKS)}")
        check(f"options.{name}", value)
    return PushOptions(**options)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ContentError` with `options.<name>` for an unknown option or a wrong value."""
    read_options(options)


def check_text(field: str, value: object) -> None:
    """Raise `ContentError` for what is no text, and for text that JSON or a device cannot hold."""
    if not isinstance(value, str):
        raise ContentError(field, "must be a text")
    if value.isascii():
        if "\0" in value:
            raise ContentError(field, "holds a NUL character")
        return
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise ContentError(field, "holds half of a surrogate pair") from None
    if b"\0" in encoded:
        raise ContentError(field, "holds a NUL character")


def check_shared(content: Content, is_reserved: Callable[[str], bool]) -> PushOptions:
    """The checks that need no provider: text, keys of data, options. Raises `ContentError`."""
    check_text("title", content.title)
    check_text("body", content.body)
    if not isinstance(content.data, Mapping):
        raise ContentError("data", "must be an object")
    for key in content.data:
        check_text("data", key)
        if not key:
            raise ContentError("data", "has an empty key")
        if is_reserved(key):
            raise ContentError(f"data.{key}", "is a reserved key")
    return read_options(content.options)


def check_payload_size(size_bytes: int) -> None:
    """Raise `ContentError` if the provider would refuse a payload of that size."""
    if size_bytes > PAYLOAD_BYTES_MAX:
        raise ContentError("body", f"the message takes {size_bytes} bytes; a push message has {PAYLOAD_BYTES_MAX}")


def encode(field: str, value: object) -> bytes:
    """JSON. Raises `ContentError` with `field` or a path under it for what JSON or a device cannot hold."""
    try:
        encoded = orjson.dumps(value)
    except (TypeError, ValueError) as error:  # orjson's own error is a TypeError
        raise ContentError(field, f"cannot be sent as JSON: {error}") from None
    if b"\\u0000" in encoded:
        _refuse_nul(field, value)
    return encoded


def _refuse_nul(field: str, value: object) -> None:
    """Raise if a text anywhere in `value` holds NUL: the six characters of its escape may also be text."""
    if isinstance(value, str):
        if "\0" in value:
            raise ContentError(field, "holds a NUL character")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nul(f"{field}.{key}" if field else str(key), item)
            _refuse_nul(field, key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_nul(f"{field}.{index}", item)


# --- One check per option ----------------------------------------------------------------------------------------


def _is_text(length_max: int) -> Callable[[str, object], None]:
    def check(field: str, value: object) -> None:
        check_text(field, value)
        if len(str(value)) > length_max:
            raise ContentError(field, f"is longer than {length_max} characters")

    return check


def _is_image(field: str, value: object) -> None:
    check_text(field, value)
    text = str(value)
    try:
        address = urlsplit(text)
        is_address = address.scheme == "https" and bool(address.hostname)
    except ValueError:
        is_address = False
    if text and not (is_address and text.isprintable() and " " not in text):
        raise ContentError(field, "must be an https address")
    if len(text) > 2048:
        raise ContentError(field, "is longer than 2048 characters")


def _is_badge(field: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= BADGE_MAX):
        raise ContentError(field, "must be a whole number, 0 or more")


def _is_collapse_key(field: str, value: object) -> None:
    check_text(field, value)
    text = str(value)
    if not (text.isascii() and text.isprintable() and " " not in text):  # it becomes a header's value
        raise ContentError(field, "must be of visible ASCII characters")
    if len(text) > COLLAPSE_KEY_BYTES_MAX:
        raise ContentError(field, f"is longer than {COLLAPSE_KEY_BYTES_MAX} bytes")


def _is_priority(field: str, value: object) -> None:
    if value not in ("high", "normal"):
        raise ContentError(field, "must be high or normal")


def _is_bool(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ContentError(field, "must be true or false")


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "image": _is_image,
    "badge": _is_badge,
    "sound": _is_text(128),
    "category": _is_text(128),
    "thread_id": _is_text(128),
    "channel_id": _is_text(128),
    "collapse_key": _is_collapse_key,
    "priority": _is_priority,
    "silent": _is_bool,
    "subtitle": _is_text(1024),
    "click_action": _is_text(256),
}
assert set(_CHECKS) == {option.name for option in fields(PushOptions)}
_DEFAULTS = PushOptions()
