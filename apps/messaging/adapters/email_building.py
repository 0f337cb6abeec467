"""An e-mail as it goes over the wire: built once for each content, and completed for each recipient.

What differs between recipients (their address, ids, links and the date) are slots between bytes that stay the same, so
a plain campaign's message costs a join. Quoted-printable, since it can be cut anywhere between two characters; every
slot begins a line of its own there.
"""

from __future__ import annotations

import base64
import re
import secrets
import threading
import time
from binascii import b2a_qp
from collections.abc import Iterable
from email.header import Header
from email.utils import formataddr, formatdate
from html import escape, unescape
from typing import Final, NamedTuple

import css_inline
import inscriptis
from inscriptis.css_profiles import RELAXED_CSS_PROFILE
from inscriptis.model.config import ParserConfig

from apps.messaging.adapters.base import Attachment, Content, ContentError, Delivery
from apps.messaging.adapters.email_content import (
    PREFERENCES_MARK,
    UNSUBSCRIBE_MARK,
    EmailOptions,
    ascii_domain,
    is_address,
    marked,
    read_options,
)
from apps.messaging.adapters.email_tokens import TARGET_MAX_CHARS, LinkMaker
from automata_signal.link_tokens import link_url, make_link_token

__all__ = ["Author", "Built", "Envelope", "Letter", "PartsMaker", "envelope_address"]

ENCODED_BYTES_MAX = 30 * 1024 * 1024
_INLINE_TEXT_CHARS_MAX = 200_000
"""A longer HTML has no text alternative made of it: that takes seconds."""


class Author(NamedTuple):
    """Who sends, from the credential."""

    address: str
    name: str
    track_opens: bool
    track_clicks: bool
    public_url: str

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


class Envelope(NamedTuple):
    """An address as SMTP takes it."""

    address: str
    needs_utf8: bool
    """Whether its local part is not ASCII: only a server with SMTPUTF8 takes it (RFC 6531)."""


def envelope_address(address: str) -> Envelope | None:
    """The address with its domain in ASCII; None if it is none."""
    if not is_address(address):
        return None
    local, _, domain = address.rpartition("@")
    return Envelope(f"{local}@{ascii_domain(domain)}", not local.isascii())


# --- Slots ---------------------------------------------------------------------------------------------------------

_TO, _MESSAGE_ID, _DATE, _UNSUBSCRIBE, _UNSUBSCRIBE_QP, _PREFERENCES_QP, _PIXEL_QP = range(7)
_FIRST_CLICK: Final = 7
"""Slots from here on are click links: their number is that of the target."""
_PIXEL_MARK = "https://pixel.automata-signal.invalid/"
_CLICK_MARK = "https://click.automata-signal.invalid/"
_ANY_MARK = re.compile(
    rf"{re.escape(UNSUBSCRIBE_MARK)}|{re.escape(PREFERENCES_MARK)}|{re.escape(_PIXEL_MARK)}"
    rf"|{re.escape(_CLICK_MARK)}(\d+)/"
)
_SLOT_OF = {UNSUBSCRIBE_MARK: _UNSUBSCRIBE_QP, PREFERENCES_MARK: _PREFERENCES_QP, _PIXEL_MARK: _PIXEL_QP}
_QP_LINE = 72


def _soft_wrapped(text: str) -> bytes:
    """A link for quoted-printable: it has no `=`, and begins and ends in a line of its own."""
    lines = [text[start : start + _QP_LINE] for start in range(0, len(text), _QP_LINE)]
    return ("=\r\n" + "=\r\n".join(lines) + "=\r\n").encode("ascii").replace(b"\r\n.", b"\r\n=2E")


def _quoted_printable(text: str) -> list[bytes | int]:
    """The text in quoted-printable, with slots where it has marks."""
    parts: list[bytes | int] = []
    at = 0
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for found in _ANY_MARK.finditer(text):
        parts.append(_qp(text[at : found.start()]))
        number = found[1]
        parts.append(_SLOT_OF[found[0]] if number is None else _FIRST_CLICK + int(number))
        at = found.end()
    parts.append(_qp(text[at:]))
    return parts


def _qp(text: str) -> bytes:
    encoded = b2a_qp(text.encode(), istext=True)
    if encoded.startswith(b"."):
        encoded = b"=2E" + encoded[1:]
    return encoded.replace(b"\r\n", b"\n").replace(b"\n.", b"\n=2E").replace(b"\n", b"\r\n")


# --- HTML ----------------------------------------------------------------------------------------------------------

_inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
_text_config = ParserConfig(css=RELAXED_CSS_PROFILE, display_links=True)
_STYLE = re.compile(r"<style[\s/>].*?(?:</style(?=[\s/>])|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[a-z]", re.IGNORECASE)
_FORMATTING = re.compile(r"<(?:a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE)
_TAGS_MAX = 20_000
_CLONES_MAX = 2_000_000
"""Elements that formatting tags without an end may be repeated as, in each paragraph that follows (WHATWG HTML,
13.2.4.3): 64 KB of HTML would else become gigabytes."""
_STYLED_CHARS_MAX = 64_000_000
"""What the style sheets become if every element takes all of them."""
_TAGS_SHALLOW, _STACK_BYTES_PER_TAG = 400, 4_096
"""The inliner recurses into each level, and overflowing the stack ends the process: what could be deeper than any
thread's stack holds is done on a larger one."""
_BODY_OPEN = re.compile(r"<body\b[^<>]*>", re.IGNORECASE)
_BODY_CLOSE = re.compile(r"</body\s*>", re.IGNORECASE)
_LINK_TAG = re.compile(r"""<a\s(?:[^<>"']|"[^"]*"|'[^']*')*>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\s([^\s=>/"']+)\s*=\s*("[^"]*"|'[^']*')""")
_PREHEADER = '<div style="display:none;max-height:0;max-width:0;overflow:hidden;opacity:0;mso-hide:all">{}{}</div>'
_PADDING = "&#8199;&#847; " * 30
"""Keeps the body's own words out of the preview."""


def inlined(html: str) -> str:
    """The HTML with its style sheets in the elements, since inboxes leave them out; rules for screens stay. HTML that
    would take more memory than any letter needs stays as it is."""
    styles = sum(len(found[0]) for found in _STYLE.finditer(html))
    if not styles:
        return html
    tags, formatting = len(_TAG.findall(html)), len(_FORMATTING.findall(html))
    if tags > _TAGS_MAX or tags * formatting > _CLONES_MAX or tags * styles > _STYLED_CHARS_MAX:
        return html
    return _inlined(html) if tags <= _TAGS_SHALLOW else _on_larger_stack(html, tags * _STACK_BYTES_PER_TAG)


def _inlined(html: str) -> str:
    try:
        return _inliner.inline(html)
    except css_inline.InlineError:
        return html


_stack_size = threading.Lock()


def _on_larger_stack(html: str, stack_bytes: int) -> str:
    made: list[str] = []
    thread = threading.Thread(target=lambda: made.append(_inlined(html)), name="inliner")
    with _stack_size:  # it is the process's, for the threads that start next
        before = threading.stack_size(stack_bytes)
        try:
            thread.start()
        except RuntimeError:  # no memory for it
            return html
        finally:
            threading.stack_size(before)
    thread.join()
    return made[0] if made else html


def text_of(html: str) -> str:
    """The HTML in plain text, with the addresses of its links."""
    if len(html) > _INLINE_TEXT_CHARS_MAX:
        return ""
    try:
        text = inscriptis.get_text(html, _text_config)
    except (ValueError, AssertionError):  # lxml: nothing in it, or nothing that can be read
        return ""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.splitlines())).strip() + "\n"


def _with_clicks(html: str) -> tuple[str, list[bytes]]:
    """The HTML with marks for the links whose clicks are counted, and where these lead."""
    targets: dict[bytes, int] = {}

    def replaced(found: re.Match[str]) -> str:
        tag = found[0]
        if "data-no-track" in tag:
            return tag
        for attribute in _ATTRIBUTE.finditer(tag):
            if attribute[1].lower() == "href":
                target = unescape(attribute[2][1:-1]).strip()
                if not _is_counted(target):
                    return tag
                number = targets.setdefault(target.encode(), len(targets))
                return f'{tag[: attribute.start(2)]}"{_CLICK_MARK}{number}/"{tag[attribute.end(2) :]}'
        return tag

    return _LINK_TAG.sub(replaced, html), list(targets)


def _is_counted(target: str) -> bool:
    if not target.lower().startswith(("http://", "https://")) or len(target) > TARGET_MAX_CHARS:
        return False
    is_clean = not any(character <= " " or character == "\x7f" or character == "\\" for character in target)
    return is_clean and not target.startswith((UNSUBSCRIBE_MARK, PREFERENCES_MARK))


def _put_into_body(html: str, *, first: str, last: str) -> str:
    opened = _BODY_OPEN.search(html)
    at = opened.end() if opened else 0
    html = f"{html[:at]}{first}{html[at:]}"
    closed = list(_BODY_CLOSE.finditer(html))
    end = closed[-1].start() if closed else len(html)
    return f"{html[:end]}{last}{html[end:]}"


# --- The letter ----------------------------------------------------------------------------------------------------


class Letter(NamedTuple):
    """What an e-mail says, before it is encoded, for SMTP and for the providers' APIs. Marks stand for links."""

    subject: str
    html: str
    text: str
    targets: list[bytes]
    """Where the click links lead, by number."""
    options: EmailOptions
    attachments: tuple[Attachment, ...]

    @classmethod
    def of(cls, content: Content, author: Author) -> Letter:
        """Raises `ContentError`."""
        options = read_options(content.options)
        subject = " ".join(content.title.split())
        if not subject.isprintable():
            subject = "".join(character for character in subject if character.isprintable())
        body = _without_own_marks(marked(content.body))
        if options.format == "text":
            return cls(subject, "", body, [], options, content.attachments)
        # Both may have decoded entities: what was no mark may be one by now.
        text = _without_own_marks(marked(options.text) or text_of(body))
        html = _without_own_marks(inlined(body))
        targets: list[bytes] = []
        if _chosen(options.track_clicks, author.track_clicks):
            html, targets = _with_clicks(html)
        first = _PREHEADER.format(escape(options.preheader), _PADDING) if options.preheader else ""
        pixel = _chosen(options.track_opens, author.track_opens)
        last = f'<img src="{_PIXEL_MARK}" width="1" height="1" alt="" style="border:0">' if pixel else ""
        if first or last:
            html = _put_into_body(html, first=first, last=last)
        return cls(subject, html, text, targets, options, content.attachments)


def _without_own_marks(text: str) -> str:
    """`text` without the marks that only we set: those of links that are counted, and of the picture."""
    return text.replace(_CLICK_MARK, "#").replace(_PIXEL_MARK, "#") if ".automata-signal.invalid/" in text else text


def _chosen(option: bool | None, default: bool) -> bool:
    return default if option is None else option


class Links:
    """The links of one recipient, made when they are asked for."""

    __slots__ = ("_category", "_delivery", "_id", "_maker", "_targets")

    def __init__(self, delivery: Delivery, letter: Letter, maker: LinkMaker) -> None:
        self._delivery = delivery
        self._maker = maker
        self._targets = letter.targets
        self._category = letter.options.unsubscribe_category
        self._id = bytes.fromhex(delivery.message_id.replace("-", ""))

    def unsubscribe(self) -> str:
        return self._page("unsubscribe")

    def preferences(self) -> str:
        return self._page("preferences")

    def pixel(self) -> str:
        return self._maker.open(self._id)

    def click(self, number: int) -> str:
        return self._maker.click(self._id, self._targets[number])

    def _page(self, purpose: str) -> str:
        token = make_link_token(
            purpose,
            subscription_id=self._delivery.subscription_id,
            message_id=self._delivery.message_id,
            category=self._category,
        )
        return link_url(purpose, token)

    def of_mark(self, found: re.Match[str]) -> str:
        """The link that a mark stands for."""
        number = found[1]
        if number is not None:
            return self.click(int(number))
        makers = {UNSUBSCRIBE_MARK: self.unsubscribe, PREFERENCES_MARK: self.preferences, _PIXEL_MARK: self.pixel}
        return makers[found[0]]()

    def filled(self, text: str) -> str:
        """`text` with this recipient's links."""
        return _ANY_MARK.sub(self.of_mark, text)


def marks_of(letter: Letter) -> list[str]:
    """The marks that a letter holds, each once: what a provider's merge fields are made for."""
    return list(dict.fromkeys(found[0] for text in (letter.html, letter.text) for found in _ANY_MARK.finditer(text)))


# --- MIME ----------------------------------------------------------------------------------------------------------


class Built:
    """One content, encoded; `message` completes it for a recipient."""

    __slots__ = ("_domain", "_letter", "_links", "_parts", "_slots", "content", "size_bytes")

    def __init__(self, content: Content, author: Author, links: LinkMaker) -> None:
        """Raises `ContentError` if it is too large or cannot be encoded."""
        self.content = content
        self._letter = letter = Letter.of(content, author)
        self._links = links
        self._domain = author.domain
        parts = _merged([*_head(letter, author), *_body(letter)])
        self._parts = [part if isinstance(part, bytes) else b"" for part in parts]
        self._slots = [(index, part) for index, part in enumerate(parts) if isinstance(part, int)]
        self.size_bytes = sum(map(len, self._parts))
        if self.size_bytes > ENCODED_BYTES_MAX:
            raise ContentError(
                "body", f"the e-mail takes {self.size_bytes} bytes; at most {ENCODED_BYTES_MAX} are sent"
            )

    def message(self, delivery: Delivery, envelope: Envelope) -> bytes:
        """The whole message, with CRLF and without the final dot; no line begins with a dot."""
        links = Links(delivery, self._letter, self._links)
        parts = self._parts.copy()
        pages: dict[int, bytes] = {}
        for index, slot in self._slots:
            made = pages.get(slot)
            if made is None:
                made = pages[slot] = self._filled(slot, delivery, envelope, links, pages)
            parts[index] = made
        return b"".join(parts)

    def _filled(self, slot: int, delivery: Delivery, envelope: Envelope, links: Links, made: dict[int, bytes]) -> bytes:
        if slot >= _FIRST_CLICK:
            return _soft_wrapped(links.click(slot - _FIRST_CLICK))
        if slot == _TO:
            return envelope.address.encode()
        if slot == _MESSAGE_ID:
            return f"<{delivery.message_id}@{self._domain}>".encode()
        if slot == _DATE:
            return _date(int(time.time()))
        if slot == _PIXEL_QP:
            return _soft_wrapped(links.pixel())
        if slot == _PREFERENCES_QP:
            return _soft_wrapped(links.preferences())
        page = made.get(_UNSUBSCRIBE)
        if page is None:
            page = made[_UNSUBSCRIBE] = links.unsubscribe().encode("ascii")
        return page if slot == _UNSUBSCRIBE else _soft_wrapped(page.decode("ascii"))


def _merged(parts: Iterable[bytes | int]) -> list[bytes | int]:
    """Bytes that follow each other as one."""
    merged: list[bytes | int] = []
    for part in parts:
        if isinstance(part, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += part
        else:
            merged.append(part)
    return merged


_date_kept = (0, b"")


def _date(now: int) -> bytes:
    global _date_kept
    kept_at, text = _date_kept
    if kept_at != now:
        text = formatdate(now).encode("ascii")
        _date_kept = (now, text)
    return text


def encoded_header(name: str, value: str) -> bytes:
    """A header with its name, folded and encoded (RFC 2047) where it is not ASCII."""
    charset = "us-ascii" if value.isascii() else "utf-8"
    line = Header(value, charset, header_name=name, maxlinelen=76).encode(linesep="\r\n")
    return f"{name}: {line}\r\n".encode("ascii")


def feedback_id(letter: Letter, author: Author) -> str:
    """What Gmail groups complaints by: the first tag, and always the same sender last."""
    sender = re.sub(r"[^A-Za-z0-9]", "", author.domain)[:15] or "sender"
    return f"{(letter.options.tags or ('message',))[0]}:email:automata:{sender}"


def extra_headers(letter: Letter, author: Author) -> dict[str, str]:
    """The headers that are the same for every recipient, but those of the message itself."""
    options = letter.options
    headers = {"Feedback-ID": feedback_id(letter, author)}
    if options.list_unsubscribe:
        headers |= {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click", "Precedence": "bulk"}
    else:
        headers["Auto-Submitted"] = "auto-generated"
    return headers | dict(options.headers or {})


def sender_line(letter: Letter, author: Author) -> str:
    """From, with a name that is encoded where it has to be."""
    return formataddr((letter.options.from_name or author.name, author.address), "utf-8")


def _head(letter: Letter, author: Author) -> Iterable[bytes | int]:
    options = letter.options
    yield b"Date: "
    yield _DATE
    yield f"\r\nFrom: {sender_line(letter, author)}\r\nTo: ".encode("ascii")
    yield _TO
    yield b"\r\nMessage-ID: "
    yield _MESSAGE_ID
    yield b"\r\n" + encoded_header("Subject", letter.subject)
    if options.reply_to:
        reply_to = envelope_address(options.reply_to)
        yield f"Reply-To: {reply_to.address if reply_to else options.reply_to}\r\n".encode()
    if options.list_unsubscribe:
        yield b"List-Unsubscribe: <"
        yield _UNSUBSCRIBE
        yield b">\r\n"
    for name, value in extra_headers(letter, author).items():
        yield encoded_header(name, value)
    yield b"MIME-Version: 1.0\r\n"


def _body(letter: Letter) -> Iterable[bytes | int]:
    if not letter.attachments:
        yield from _words(letter)
        return
    boundary = f"=_mixed_{secrets.token_hex(12)}"
    yield f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n--{boundary}\r\n'.encode()
    yield from _words(letter)
    for attachment in letter.attachments:
        yield f"\r\n--{boundary}\r\n".encode() + _encoded_attachment(attachment)
    yield f"\r\n--{boundary}--\r\n".encode()


def _words(letter: Letter) -> Iterable[bytes | int]:
    if not letter.html:
        yield from _text_part("plain", letter.text)
        return
    if not letter.text.strip():
        yield from _text_part("html", letter.html)
        return
    boundary = f"=_words_{secrets.token_hex(12)}"
    yield f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n--{boundary}\r\n'.encode()
    yield from _text_part("plain", letter.text)
    yield f"\r\n--{boundary}\r\n".encode()
    yield from _text_part("html", letter.html)
    yield f"\r\n--{boundary}--\r\n".encode()


def _text_part(subtype: str, text: str) -> Iterable[bytes | int]:
    yield (
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    ).encode()
    yield from _quoted_printable(text)
    yield b"\r\n"


_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")


def _encoded_attachment(attachment: Attachment) -> bytes:
    content_type = attachment.content_type.lower()
    if not _TYPE.fullmatch(content_type) or content_type.startswith(("multipart/", "message/")):
        content_type = "application/octet-stream"
    name = "".join(character for character in attachment.name if character.isprintable())[:150] or "attachment"
    name = name.replace("\\", "_").replace('"', "'").replace("/", "_")
    head = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n"
    return (
        head.encode("ascii")
        + _filename(name)
        + b"\r\n\r\n"
        + base64.encodebytes(attachment.content).replace(b"\n", b"\r\n")
    )


def _filename(name: str) -> bytes:
    """RFC 2231 where the name is not ASCII, in pieces, since a line has its limit."""
    if name.isascii():
        return f' filename="{name}"'.encode("ascii")
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())
    pieces = [encoded[start : start + 60] for start in range(0, len(encoded), 60)]
    lines = [
        f" filename*{number}*={'' if number else 'utf-8' + chr(39) * 2}{piece}" for number, piece in enumerate(pieces)
    ]
    return ";\r\n".join(lines).encode("ascii")


class PartsMaker:
    """Keeps what was built of the contents that are sent now: a plain batch has one, one per language has a few."""

    KEPT_MAX = 16

    def __init__(self, author: Author) -> None:
        self._author = author
        self._links = LinkMaker(author.public_url)
        self._built: dict[int, Built] = {}

    def built(self, content: Content) -> Built:
        """Raises `ContentError`."""
        found = self._built.get(id(content))
        if found is not None and found.content is content:
            return found
        made = Built(content, self._author, self._links)
        if len(self._built) >= self.KEPT_MAX:
            self._built.clear()
        self._built[id(content)] = made
        return made
