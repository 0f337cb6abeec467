"""What an e-mail may say beyond subject and body, and the checks that every e-mail provider shares.

Options are the same for every recipient: they are not rendered. What is personal stands in the subject and the body.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

from apps.messaging.adapters.base import Content, ContentError

__all__ = [
    "PREFERENCES_MARK",
    "UNSUBSCRIBE_MARK",
    "EmailOptions",
    "ascii_domain",
    "check_content",
    "check_options",
    "is_address",
    "marked",
    "read_options",
    "sealed",
    "unsealed",
]

SUBJECT_CHARS_MAX = 500
BODY_BYTES_MAX = 512 * 1024
"""Gmail cuts a message at 102 KB; what is much larger is a mistake."""
TEXT_CHARS_MAX = 100_000
PREHEADER_CHARS_MAX = 250
NAME_CHARS_MAX = 100
HEADERS_MAX = 10
HEADER_CHARS_MAX = 500
TAGS_MAX = 10
ATTACHMENTS_MAX = 10

UNSUBSCRIBE_MARK = "https://unsubscribe.automata-signal.invalid/"
PREFERENCES_MARK = "https://preferences.automata-signal.invalid/"
"""Stand in a content for each recipient's own links; `.invalid` never resolves (RFC 2606)."""
_PLACEHOLDERS = re.compile(r"\{\{[ \t\r\n]*(unsubscribe_url|preferences_url)[ \t\r\n]*\}\}")
_MARKS = {"unsubscribe_url": UNSUBSCRIBE_MARK, "preferences_url": PREFERENCES_MARK}
_SEALED = {name: f"https://{secrets.token_hex(16)}.invalid/" for name in _MARKS}
"""In place of the marks while a template is rendered; of this process, and nobody else knows them."""

_HEADER_NAME = re.compile(r"X-[A-Za-z0-9-]{1,60}")
_HEADERS_ALLOWED = frozenset({"References", "In-Reply-To", "Importance", "Organization", "Keywords"})
_HEADERS_OURS = frozenset({"x-automata-message-id", "x-mailer", "x-csa-complaints"})
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,49}")
_MEDIA_ID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
# RFC 5321's dot-string, with RFC 6531's other letters; no quoted local part, no address literal.
_LOCAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a1-\U0010ffff-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a1-\U0010ffff-]+)*"
)
_DOMAIN = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}")


@dataclass(frozen=True, slots=True)
class EmailOptions:
    """The options of an e-mail, as `Content.options` gives them by name; what is not given has its default."""

    format: str = "html"
    """`html`, or `text`: the body is plain text and nothing else is sent."""
    from_name: str = ""
    """The sender's name instead of the credential's. The address is always the credential's: the provider knows it."""
    reply_to: str = ""
    preheader: str = ""
    """What inboxes show behind the subject; put at the top of the body, hidden."""
    text: str = ""
    """The text alternative; made of the HTML unless told."""
    track_opens: bool | None = None
    """None leaves it to the credential."""
    track_clicks: bool | None = None
    list_unsubscribe: bool = True
    """The headers by which inboxes offer to unsubscribe by one click (RFC 8058). Of a transactional e-mail the engine
    sets it to false unless told."""
    unsubscribe_category: str = ""
    """Slug of the category that the links are about; empty for everything. The engine sets it to the send's own."""
    headers: Mapping[str, str] | None = None
    """More headers: `X-…`, References, In-Reply-To, Importance, Organization, Keywords."""
    tags: tuple[str, ...] = ()
    """For the provider's own figures, and Feedback-ID."""
    attachments: tuple[str, ...] = ()
    """Ids of uploaded files, which the engine reads (`Content.attachments`)."""


def read_options(options: Mapping[str, Any]) -> EmailOptions:
    """The options, checked. Raises `ContentError` with `options.<name>`."""
    if not options:
        return _DEFAULTS
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ContentError(f"options.{name}", f"is not an option of an e-mail; there are {', '.join(_CHECKS)}")
        check(f"options.{name}", value)
    given = [(name, tuple(value) if isinstance(value, list) else value) for name, value in options.items()]
    return EmailOptions(**dict[str, Any](given))


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ContentError` with `options.<name>` for an unknown option or a wrong value."""
    read_options(options)


def check_content(content: Content) -> EmailOptions:
    """Everything that can be said before anybody's name is in it. Raises `ContentError`."""
    options = read_options(content.options)
    _text("title", content.title, SUBJECT_CHARS_MAX)
    _one_line("title", content.title)
    if not content.title.strip():
        raise ContentError("title", "an e-mail needs a subject")
    _text("body", content.body, BODY_BYTES_MAX)
    if len(content.body.encode()) > BODY_BYTES_MAX:
        raise ContentError("body", f"is larger than {BODY_BYTES_MAX} bytes")
    if not content.body.strip():
        raise ContentError("body", "is empty")
    if content.data:
        raise ContentError("data", "an e-mail has no data")
    if options.format == "html":
        check_html(content.body)
    return options


def marked(text: str) -> str:
    """`text` with marks where it says `{{ unsubscribe_url }}` or `{{ preferences_url }}`."""
    return _PLACEHOLDERS.sub(lambda found: _MARKS[found[1]], text) if "{{" in text else text


def sealed(text: str) -> str:
    """A template with marks that no value can hold where it says `{{ unsubscribe_url }}` or `{{ preferences_url }}`."""
    return _PLACEHOLDERS.sub(lambda found: _SEALED[found[1]], text) if "{{" in text else text


def unsealed(text: str) -> str:
    """What was rendered of a `sealed` template, as `marked` would have it. What a value says of its own is no
    placeholder: who writes a name or a comment would else be sent the link of whoever reads it."""
    if "{{" in text:
        text = _PLACEHOLDERS.sub(lambda found: f"{{ {found[1]} }}", text)
    if ".invalid/" in text:
        for name, mark in _MARKS.items():
            text = text.replace(mark, "#").replace(_SEALED[name], mark)
    return text


# --- Addresses -----------------------------------------------------------------------------------------------------


def ascii_domain(domain: str) -> str:
    """The domain as it stands in DNS (IDNA). Raises UnicodeError for what is none."""
    name = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    if not _DOMAIN.fullmatch(name):
        raise UnicodeError("not a domain")
    return name.lower()


def is_address(address: str) -> bool:
    """Whether it is one plain address: `local@domain`, nothing around it."""
    local, at, domain = address.rpartition("@")
    if not at or len(local.encode("utf-8", "replace")) > 64 or not _LOCAL.fullmatch(local):
        return False
    try:
        ascii_domain(domain)
    except UnicodeError:
        return False
    return True


# --- HTML ----------------------------------------------------------------------------------------------------------

# fmt: off
_TAGS_REFUSED = frozenset({
    "applet", "base", "button", "embed", "form", "frame", "frameset", "iframe", "input", "link", "math", "noscript",
    "object", "portal", "script", "select", "svg", "template", "textarea",
})
# fmt: on
"""What inboxes take out or refuse a message for, and what would run or ask in those that do not."""
_URLS = frozenset({"href", "src", "action", "background", "poster", "formaction", "cite", "longdesc", "srcset", "data"})
_SCHEMES = frozenset({"http", "https", "mailto", "tel", "cid", "sms"})


# Strict rather than exact, and linear in what is given: also what stands in comments or values is looked at, since some
# inboxes read there.
_TAG_OPEN = re.compile(r"<([A-Za-z][^\s/>]*)")
_ATTRIBUTE = re.compile(r"""[\s/=]*([^\s/>=<]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s<>]*))?""")


def check_html(html: str) -> None:
    """Raise `ContentError`, naming the line, for HTML that has no place in an e-mail."""
    for found in _TAG_OPEN.finditer(html):
        tag = found[1].lower()
        if tag in _TAGS_REFUSED:
            raise _out_of_place(html, found.start(), f"<{tag}> has no place in an e-mail")
        at = found.end()
        while attribute := _ATTRIBUTE.match(html, at):
            at = attribute.end()
            problem = _problem(tag, attribute[1].lower(), unescape((attribute[2] or "").strip("\"'")))
            if problem:
                raise _out_of_place(html, attribute.start(1), problem)


def _out_of_place(html: str, position: int, message: str) -> ContentError:
    return ContentError("body", f"line {html.count(chr(10), 0, position) + 1}: {message}")


def _problem(tag: str, name: str, value: str) -> str:
    """What is wrong with an attribute; empty if nothing."""
    if name.startswith("on"):
        return f"{name[:40]} has no place in an e-mail"
    if tag == "meta" and name == "http-equiv" and value.strip().lower() == "refresh":
        return "<meta http-equiv=refresh> has no place in an e-mail"
    if name not in _URLS:
        return ""
    bare = re.sub(r"[\x00-\x20]", "", value)
    if bare.startswith("{{"):  # a template: what stands there is checked when it is known
        return ""
    scheme, colon, _ = bare.partition(":")
    if not colon or re.search(r"[/?#]", scheme) or scheme.lower() in _SCHEMES:
        return ""
    return f"{name} begins with {scheme[:20].lower()}:"


# --- Checks --------------------------------------------------------------------------------------------------------


def _text(field: str, value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise ContentError(field, "must be a text")
    if len(value) > longest:
        raise ContentError(field, f"is longer than {longest} characters")
    if "\0" in value:
        raise ContentError(field, "holds a NUL character")
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise ContentError(field, "holds half of a surrogate pair") from None
    return value


def _one_line(field: str, value: str) -> None:
    """A header must not begin another one."""
    if any(character < " " or character in "\x7f\x85\u2028\u2029" for character in value):
        raise ContentError(field, "must be one line without control characters")


def _line(longest: int) -> Callable[[str, object], None]:
    def check(field: str, value: object) -> None:
        _one_line(field, _text(field, value, longest))

    return check


def _of(*values: str) -> Callable[[str, object], None]:
    def check(field: str, value: object) -> None:
        if value not in values:
            raise ContentError(field, f"must be one of {', '.join(values)}")

    return check


def _yes_no(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ContentError(field, "must be true or false")


def _yes_no_or_nothing(field: str, value: object) -> None:
    if value is not None:
        _yes_no(field, value)


def _reply_to(field: str, value: object) -> None:
    if value and not is_address(_text(field, value, 320)):
        raise ContentError(field, "is not an e-mail address")


def _longer_text(field: str, value: object) -> None:
    _text(field, value, TEXT_CHARS_MAX)


def _category(field: str, value: object) -> None:
    if value and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,49}", _text(field, value, 50)):
        raise ContentError(field, "is not the slug of a category")


def _headers(field: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or len(value) > HEADERS_MAX:
        raise ContentError(field, f"must be an object of at most {HEADERS_MAX} headers")
    for name, line in value.items():
        allowed = isinstance(name, str) and (
            name in _HEADERS_ALLOWED or (_HEADER_NAME.fullmatch(name) and name.lower() not in _HEADERS_OURS)
        )
        if not allowed:
            given = name if isinstance(name, str) and name.isprintable() else "?"
            raise ContentError(f"{field}.{given[:70]}", f"is none of X-…, {', '.join(sorted(_HEADERS_ALLOWED))}")
        _line(HEADER_CHARS_MAX)(f"{field}.{name}", line)


def _tags(field: str, value: object) -> None:
    if not isinstance(value, list | tuple) or len(value) > TAGS_MAX:
        raise ContentError(field, f"must be a list of at most {TAGS_MAX}")
    for index, tag in enumerate(value):
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise ContentError(f"{field}.{index}", "must be at most 50 letters, digits, dots, hyphens and underscores")


def _attachments(field: str, value: object) -> None:
    if not isinstance(value, list | tuple) or len(value) > ATTACHMENTS_MAX:
        raise ContentError(field, f"must be a list of at most {ATTACHMENTS_MAX} ids of uploaded files")
    for index, media_id in enumerate(value):
        if not isinstance(media_id, str) or not _MEDIA_ID.fullmatch(media_id):
            raise ContentError(f"{field}.{index}", "is not the id of an uploaded file")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "format": _of("html", "text"),
    "from_name": _line(NAME_CHARS_MAX),
    "reply_to": _reply_to,
    "preheader": _line(PREHEADER_CHARS_MAX),
    "text": _longer_text,
    "track_opens": _yes_no_or_nothing,
    "track_clicks": _yes_no_or_nothing,
    "list_unsubscribe": _yes_no,
    "unsubscribe_category": _category,
    "headers": _headers,
    "tags": _tags,
    "attachments": _attachments,
}
_DEFAULTS = EmailOptions()
