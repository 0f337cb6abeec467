"""Why a strict relay refuses a message: RFC 5321, 5322, 6531, 8058, and what Gmail, Exchange and Postfix ask beyond."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from email import errors, message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime

MAX_LINE_BYTES = 998
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_FIELD_NAME = re.compile(rb"[!-9;-~]+")
_MESSAGE_ID = re.compile(r"<[^<>@\s]+@[^<>@\s]+>")
_URI = re.compile(r"<([^<>\s]+)>")
_ONCE = (
    "date", "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject",
    "mime-version", "content-type", "content-transfer-encoding", "list-unsubscribe", "list-unsubscribe-post",
)  # fmt: skip
ONE_CLICK = "List-Unsubscribe=One-Click"


@dataclass(frozen=True, slots=True)
class Mail:
    """A message as it was read: raw headers by lower-case name, in order; the addresses of From."""

    headers: dict[str, list[str]]
    authors: tuple[str, ...]

    def header(self, name: str) -> str:
        """The first header of the name; "" when there is none."""
        return self.headers.get(name, [""])[0]


def read_mail(content: bytes) -> Mail | str:
    """The message's headers; or the line of SMTP that refuses it for its form."""
    if b"\0" in content:
        return "550 5.6.0 Message contains NUL characters"
    if _BARE.search(content):
        return "550 5.6.11 Bare line feeds or carriage returns are illegal"
    if any(len(line) > MAX_LINE_BYTES for line in content.split(b"\r\n")):
        return "550 5.6.0 Line too long (998 octets, RFC 5322 section 2.1.1)"
    head, separator, _ = content.partition(b"\r\n\r\n")
    if not separator:
        return "550 5.6.0 Message has no end of its headers"
    headers: dict[str, list[str]] = {}
    for line in re.split(rb"\r\n(?![ \t])", head):
        name, colon, value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name):
            return f"550 5.6.0 Malformed header line: {line[:40].decode('ascii', 'replace')}"
        if any(not part.strip() for part in value.split(b"\r\n")[1:]):
            return "550 5.6.0 A folded header has an empty line"
        text = value.replace(b"\r\n", b"").strip().decode("utf-8", "surrogateescape")
        headers.setdefault(name.decode("ascii").lower(), []).append(text)
    authors = tuple(address for _, address in getaddresses(headers.get("from", [])))
    return Mail(headers, authors)


def why_refused(mail: Mail, content: bytes, *, domains: Collection[str], eight_bit: bool, utf8: bool) -> str:
    """The line of SMTP that refuses the message; "" when nothing is wrong with it.

    `eight_bit`, `utf8`: MAIL FROM had BODY=8BITMIME, SMTPUTF8. `domains`: which the account may write from.
    """
    head, _, body = content.partition(b"\r\n\r\n")
    if not head.isascii() and not utf8:
        return "550 5.6.7 Header has non-ASCII characters that are not encoded (RFC 2047), and no SMTPUTF8"
    if not body.isascii() and not eight_bit:
        return "554 5.6.3 Body has 8-bit data, and no BODY=8BITMIME"
    for name in _ONCE:
        if len(mail.headers.get(name, ())) > 1:
            return f"550 5.7.1 Message has more than one {name.title()} header (RFC 5322 section 3.6)"
    for name in ("date", "from", "message-id"):
        if not mail.header(name):
            return f"550 5.7.1 Message has no {name.title()} header (RFC 5322 section 3.6)"
    return _wrong_header(mail, domains) or _wrong_unsubscribe(mail) or _wrong_mime(content)


def _wrong_header(mail: Mail, domains: Collection[str]) -> str:
    try:
        parsedate_to_datetime(mail.header("date"))
    except (TypeError, ValueError):
        return "550 5.7.1 Date header is not valid"
    if not _MESSAGE_ID.fullmatch(mail.header("message-id")):
        return "550 5.7.1 Message-ID header is not valid"
    if len(mail.authors) != 1 or mail.authors[0].count("@") != 1:
        return "550 5.7.1 From header is not one valid address"
    if mail.authors[0].rpartition("@")[2].lower() not in domains:
        return f"550 5.7.1 Sender domain of {mail.authors[0]} is not verified for this account"
    return ""


def _wrong_unsubscribe(mail: Mail) -> str:
    """RFC 8058 section 3.1; to this very machine TLS is not needed: the demo has none."""
    if "list-unsubscribe-post" not in mail.headers:
        return ""
    if mail.header("list-unsubscribe-post") != ONE_CLICK:
        return f"550 5.7.1 List-Unsubscribe-Post is not {ONE_CLICK}"
    uris = _URI.findall(mail.header("list-unsubscribe"))
    if sum(uri.lower().startswith(("https://", "http://127.0.0.1:")) for uri in uris) != 1:
        return "550 5.7.1 List-Unsubscribe has not exactly one HTTPS URI (RFC 8058 section 3.1)"
    return ""


def _wrong_mime(content: bytes) -> str:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        if not part.is_multipart():
            part.get_payload(decode=True)  # finds what is wrong with its encoding
        defects = [defect for defect in part.defects if not isinstance(defect, errors.HeaderDefect)]
        if defects:
            return f"550 5.6.0 Malformed MIME: {type(defects[0]).__name__}"
    return ""
