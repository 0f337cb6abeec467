"""What an Alimtalk may hold: an approved text, and something in place of each of its variables (providers.md 5.2).

`Content.options["resolved"]` is the template as `kakao.preparing` found it, by provider; a caller cannot give it. What
is sent is the approved text by construction: the provider is told the template and the variables, and `body` is what it
makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from apps.messaging.adapters.base import Content, ContentError

__all__ = [
    "RESOLVED",
    "TEXT_MAX",
    "Resolved",
    "check_content",
    "check_options",
    "fill",
    "read_variables",
    "resolved_of",
    "variables_of",
]

RESOLVED = "resolved"
TEXT_MAX = 1_000
"""Characters of the whole text, variables filled in."""
TITLE_MAX = 50
LINK_MAX = 1_000
_VARIABLE = re.compile(r"#\{([^{}]*)\}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNRESERVED = re.compile(r"(?:[A-Za-z0-9._~\-]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"[A-Za-z0-9.\-]*")


class Resolved(NamedTuple):
    """An approved template of one provider."""

    sender_key: str
    code: str
    content: str
    title: str
    links: tuple[str, ...]
    """Of its buttons."""
    names: tuple[str, ...]
    """Of its variables, wherever they stand."""


@lru_cache(2048)
def variables_of(text: str) -> tuple[str, ...]:
    """The names in `#{…}`, each once, in their order."""
    return tuple(dict.fromkeys(_VARIABLE.findall(text)))


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables; one without a value stays as it is."""
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text) if "#{" in text else text


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ContentError` with `options.<name>` for an unknown option or a wrong value."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ContentError(f"options.{name}", f"is not an option of an Alimtalk; there are {', '.join(_CHECKS)}")
        check(f"options.{name}", value)


def resolved_of(content: Content, provider: str) -> Resolved:
    """The template as this provider has it. Raises `ContentError`."""
    found = content.options.get(RESOLVED)
    own = found.get(provider) if isinstance(found, Mapping) else None
    if not isinstance(own, Mapping):
        raise ContentError("options.template_code", "names no approved template of this provider")
    return Resolved(
        sender_key=own["sender_key"],
        code=own["code"],
        content=own["content"],
        title=own.get("title", ""),
        links=tuple(own.get("links", ())),
        names=tuple(own["names"]),
    )


def check_content(content: Content, provider: str) -> None:
    """Raise `ContentError` for what is fixed of a content that cannot be sent; a template of another provider is that
    one's to check."""
    found = content.options.get(RESOLVED)
    if isinstance(found, Mapping) and found and provider not in found:
        return
    read_variables(content, resolved_of(content, provider), is_final=False)


def read_variables(content: Content, template: Resolved, *, is_final: bool) -> dict[str, str]:
    """What stands in place of each variable. Raises `ContentError` with `data.<name>`.

    `is_final`: it is what one recipient gets, so that nothing may be empty; else it is what is fixed of it.
    """
    values: dict[str, str] = {}
    for name in template.names:
        if name not in content.data:
            raise ContentError(f"data.{name}", f"is missing: the template says #{{{name}}}")
        value = content.data[name]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ContentError(f"data.{name}", "must be a text or a number")
        text = str(value)
        if is_final and not text.strip():
            raise ContentError(f"data.{name}", "is empty")
        if "#{" in text or _CONTROL.search(text):
            raise ContentError(f"data.{name}", "holds #{ or a control character")
        values[name] = text
    filled = fill(template.content, values)
    if len(filled) > TEXT_MAX:
        raise ContentError("body", f"has {len(filled)} characters with its variables; an Alimtalk has {TEXT_MAX}")
    if is_final and content.body != filled:
        raise ContentError("body", "is not the approved text")
    if len(fill(template.title, values)) > TITLE_MAX:
        raise ContentError("title", f"has more than {TITLE_MAX} characters with its variables")
    for link in template.links:
        _check_link(link, values, is_final=is_final)
    return values


def _check_link(link: str, values: Mapping[str, str], *, is_final: bool) -> None:
    """A variable must not break out of its place in a button's address."""
    names = _VARIABLE.findall(link)
    if not names:
        return
    if link == f"#{{{names[0]}}}":
        address = values[names[0]]
        if (address or is_final) and not _is_address(address):
            raise ContentError(f"data.{names[0]}", "is the address of a button: http(s), without spaces")
        return
    before = link
    for name in names:
        before = link.partition(f"#{{{name}}}")[0]
        is_host = "://" in before and "/" not in before.partition("://")[2] and "?" not in before
        form = _HOST if is_host else _UNRESERVED
        if not form.fullmatch(values[name]):
            raise ContentError(
                f"data.{name}", "is part of a button's address: letters, digits and . _ ~ -; the rest percent-encoded"
            )
    if is_final and len(fill(link, values)) > LINK_MAX:
        raise ContentError(f"data.{names[0]}", f"makes a button's address longer than {LINK_MAX} characters")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
    return is_web and text.isascii() and text.isprintable() and " " not in text and len(text) <= LINK_MAX


# --- Options -------------------------------------------------------------------------------------------------------


def _is_code(field: str, value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,64}", value):
        raise ContentError(field, "must be a text of up to 64 visible ASCII characters")


def _is_fallback(field: str, value: object) -> None:
    """What is sent instead when it is sure that the Alimtalk does not arrive (`messaging.chains`)."""
    if not isinstance(value, Mapping) or set(value) - {"channel", "text", "title"}:
        raise ContentError(field, "must be an object of channel, text and title")
    if value.get("channel", "sms") != "sms":
        raise ContentError(f"{field}.channel", "must be sms")
    for name in ("text", "title"):
        if not isinstance(value.get(name, ""), str):
            raise ContentError(f"{field}.{name}", "must be a text")


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "template_code": _is_code,
    "sender_key": _is_code,
    "fallback": _is_fallback,
}
