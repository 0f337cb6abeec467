"""What a text message may hold, how long it is, and of how many parts: providers.md 4.1 and 4.4.

Korean gateways count bytes in EUC-KR and send what is longer than an SMS as LMS, one message at a price of its own. The
others count characters: 160 of GSM-7, or 70 of UCS-2 when one of them is in no GSM alphabet; longer texts are cut into
parts, each paid for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from apps.messaging.adapters.base import Content, ContentError

__all__ = [
    "LMS_BYTES",
    "SMS_BYTES",
    "TITLE_BYTES",
    "TWILIO_CHARACTERS",
    "SmsParts",
    "SmsText",
    "advertises",
    "check_options",
    "is_korean_gateway",
    "read_text",
    "sms_parts",
]

SMS_BYTES, LMS_BYTES, TITLE_BYTES = 90, 2_000, 40
"""In EUC-KR."""
TWILIO_CHARACTERS = 1_600
GSM_ONE, GSM_EACH = 160, 153
UCS_ONE, UCS_EACH = 70, 67
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("^{}\\[~]|€\f")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KOREAN_NUMBER = re.compile(r"[0-9]{8,13}")
_TWILIO_SENDER = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{3,6}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}|MG[0-9a-f]{32}")
ADVERTISING_MARK = "(광고)"


class SmsParts(NamedTuple):
    """How long a text is, and what becomes of it."""

    encoding: str
    """`euc_kr`, `gsm7` or `ucs2`."""
    units: int
    """Bytes, septets or 16-bit units."""
    segments: int
    """What the gateway sends and charges for: parts of a long SMS; one LMS."""
    kind: str
    """`sms` or `lms`."""


class SmsText(NamedTuple):
    """A text message that a provider takes."""

    kind: str
    text: str
    title: str
    """Of an LMS; empty without one."""
    sender: str
    """Who it comes from, as the provider knows it; empty for the credential's own."""


def is_korean_gateway(provider: str) -> bool:
    """Whether the provider counts bytes in EUC-KR."""
    return provider != "twilio"


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ContentError` with `options.<name>` for an unknown option or a wrong value."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ContentError(f"options.{name}", f"is not an option of an SMS; there are {', '.join(_CHECKS)}")
        check(f"options.{name}", value)


def read_text(content: Content, provider: str) -> SmsText:
    """The message as `provider` takes it. Raises `ContentError`; what is refused is named with its place.

    An empty body passes: of a template it is what is left without its variables. Senders refuse it (`is_empty`).
    """
    if content.options:
        check_options(content.options)
    _check_text("title", content.title)
    _check_text("body", content.body)
    sender = _sender(content.options.get("from", ""), provider)
    if not is_korean_gateway(provider):
        if len(content.body) > TWILIO_CHARACTERS:
            problem = f"has {len(content.body)} characters; Twilio takes {TWILIO_CHARACTERS}"
            raise ContentError("body", problem)
        return SmsText("sms", content.body, "", sender)
    wanted = content.options.get("type", "auto")
    body_bytes = _euc_kr_bytes("body", content.body)
    title_bytes = _euc_kr_bytes("title", content.title)
    if wanted == "sms":
        if content.title:
            raise ContentError("title", "an SMS has none; leave options.type to auto, or say lms")
        if body_bytes > SMS_BYTES:
            raise ContentError("body", f"takes {body_bytes} bytes in EUC-KR; an SMS has {SMS_BYTES}")
    if title_bytes > TITLE_BYTES:
        raise ContentError("title", f"takes {title_bytes} bytes in EUC-KR; the title of an LMS has {TITLE_BYTES}")
    if body_bytes > LMS_BYTES:
        raise ContentError("body", f"takes {body_bytes} bytes in EUC-KR; an LMS has {LMS_BYTES}")
    is_long = wanted == "lms" or bool(content.title) or body_bytes > SMS_BYTES
    return SmsText("lms" if is_long else "sms", content.body, content.title, sender)


def sms_parts(text: str, provider: str, *, title: str = "", type: str = "auto") -> SmsParts:
    """How long `text` is at `provider`, and of how many parts. Raises `ContentError` for what it would refuse."""
    read = read_text(Content(title, text, options={"type": type}), provider)
    if is_korean_gateway(provider):
        return SmsParts("euc_kr", len(text.encode("euc_kr")), 1, read.kind)
    if all(character in _GSM_BASIC or character in _GSM_EXTENDED for character in text):
        sizes = [2 if character in _GSM_EXTENDED else 1 for character in text]
        return SmsParts("gsm7", sum(sizes), _segments(sizes, GSM_ONE, GSM_EACH), "sms")
    sizes = [2 if ord(character) > 0xFFFF else 1 for character in text]
    return SmsParts("ucs2", sum(sizes), _segments(sizes, UCS_ONE, UCS_EACH), "sms")


def _segments(sizes: list[int], one: int, each: int) -> int:
    """Parts of a text; what takes two units is never cut in half."""
    if sum(sizes) <= one:
        return 1
    segments, left = 1, each
    for size in sizes:
        if size > left:
            segments, left = segments + 1, each
        left -= size
    return segments


def advertises(text: str) -> bool:
    """Whether the text carries the mark of Korean advertising law: such messages have routes of their own."""
    return text.startswith(ADVERTISING_MARK)


def title_for(text: str) -> str:
    """The beginning of a text, as the title of an LMS that has none, where one is needed."""
    title = text.strip().split("\n", 1)[0].strip()
    while len(title.encode("euc_kr", "replace")) > TITLE_BYTES:
        title = title[:-1]
    return title.strip()


# --- Characters ----------------------------------------------------------------------------------------------------


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise ContentError(field, "must be a text")
    if value.isprintable():
        return
    if found := _CONTROL.search(value):
        raise ContentError(field, f"holds a control character at {_place(value, found.start())}")
    for index, character in enumerate(value):
        if 0xD800 <= ord(character) <= 0xDFFF:
            raise ContentError(field, f"holds half of a surrogate pair at {_place(value, index)}")


def _euc_kr_bytes(field: str, text: str) -> int:
    """Its length; Python's codec writes Hangul beyond KS X 1001 as eight bytes, which no gateway takes."""
    if text.isascii():
        return len(text)
    try:
        length = len(text.encode("euc_kr"))
        if length == len(text.encode("cp949")):
            return length
    except UnicodeEncodeError:
        pass
    for index, character in enumerate(text):
        if not _is_in_euc_kr(character):
            name = unicodedata.name(character, f"U+{ord(character):04X}")
            raise ContentError(field, f"holds {character} ({name}) at {_place(text, index)}, which is not in EUC-KR")
    raise ContentError(field, "is not in EUC-KR")


def _is_in_euc_kr(character: str) -> bool:
    try:
        return len(character.encode("euc_kr")) <= 2
    except UnicodeEncodeError:
        return False


def _place(text: str, index: int) -> str:
    line = text.count("\n", 0, index) + 1
    column = index - (text.rfind("\n", 0, index) + 1) + 1
    return f"character {index + 1} (line {line}, column {column})"


# --- Options -------------------------------------------------------------------------------------------------------


def _sender(value: str, provider: str) -> str:
    if not value:
        return ""
    if is_korean_gateway(provider):
        digits = re.sub(r"[ \-]", "", value)
        if not _KOREAN_NUMBER.fullmatch(digits):
            raise ContentError("options.from", "must be a registered number of 8 to 13 digits")
        return digits
    if not _TWILIO_SENDER.fullmatch(value):
        problem = (
            "must be a number in E.164 form, a short code, a name of up to 11 letters, or a Messaging Service (MG…)"
        )
        raise ContentError("options.from", problem)
    return value


def _is_sender(field: str, value: object) -> None:
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()) or len(value) > 34:
        raise ContentError(field, "must be a text of up to 34 ASCII characters: a registered number or sender id")


def _is_type(field: str, value: object) -> None:
    if value not in ("auto", "sms", "lms"):
        raise ContentError(field, "must be auto, sms or lms")


_CHECKS: dict[str, Callable[[str, object], None]] = {"from": _is_sender, "type": _is_type}
