"""Where in HTML a placeholder stands, and what that makes of its value.

`{{ name }}` between tags needs another treatment than in `href="{{ url }}"` or in `href="/?q={{ word }}"`, and in a
script none is safe. So the literal text of a template is read as a browser reads it (WHATWG HTML, 13.2.5), as far as
that decides where a value may stand. What cannot be decided, or never is safe, is refused when it is compiled.

    text, or an attribute in quotes    escaped
    the beginning of an address        http, https, mailto, tel or relative, else `#`; then escaped
    later in an address                percent-encoded
    scripts, styles, event handlers, names, comments, attributes without quotes    refused

Every branch of `{% if %}` must end where the others do, and a turn of `{% for %}` where it began.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from apps.messaging.rendering.values import printed, spend

__all__ = ["HTML_FILTERS", "Context", "Misplaced", "State", "advanced", "context_of", "escaper", "joined"]


class Misplaced(Exception):
    """A value cannot stand here, or branches end in different places. The message is for the author."""


class State(NamedTuple):
    """Where the scanner is after some text."""

    kind: str = "text"
    """text, lt, tag_name, tag, attr_name, after_name, before_value, value, raw, comment or bogus."""
    tag: str = ""
    """The tag's name, as far as it was read; of `raw` the element's."""
    is_end: bool = False
    attr: str = ""
    quote: str = ""
    """Of a value: `"`, `'`, or empty where it has none."""
    url: str = ""
    """Of an address: start, prefix, after (a value stood at its start), rest, contact, or bad (a scheme that is not
    allowed); empty for what is none."""
    prefix: str = ""
    """What an address begins with, until its scheme is known."""


class Context(NamedTuple):
    """What a value stands in."""

    filter: str
    after: State


RAW: Final = frozenset(
    {"script", "style", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext", "svg", "math"}
)
"""What stands in them is no text; `svg` and `math` have rules of their own."""
RCDATA: Final = frozenset({"title", "textarea"})
"""What stands in them is text, tags too."""
URLS: Final = frozenset(
    {"action", "background", "cite", "classid", "codebase", "data", "dynsrc", "formaction", "href", "icon", "longdesc"}
    | {"lowsrc", "manifest", "ping", "poster", "profile", "src", "srcset", "usemap", "xlink:href"}
)
SCHEMES: Final = frozenset({"http", "https", "cid"})
CONTACTS: Final = frozenset({"mailto", "tel", "sms"})
_NO_VALUES = ("style", "srcdoc", "xmlns")
_SPACE = " \t\r\n\f"
_PREFIX_MAX = 40

_NAME_END = re.compile(rf"[{_SPACE}/>]")
_ATTR_START = re.compile(rf"[^{_SPACE}/]")
_ATTR_END = re.compile(rf"[{_SPACE}/>=]")
_AFTER = re.compile(rf"[^{_SPACE}]")
_UNQUOTED_END = re.compile(rf"[{_SPACE}>]")
_COMMENT_END = re.compile(r"--!?>")
_OPEN_ENTITY = re.compile(r"&(?:#[xX]?)?[0-9A-Za-z]*\Z")
"""A character reference that a value could go on with."""


def advanced(state: State, text: str) -> State:
    """Where the scanner is after `text`. Raises `Misplaced` for literal text that makes a value before it unsafe."""
    at, end = 0, len(text)
    while at < end:
        state, at = _STEPS[state.kind](state, text, at)
    return state


def _text(state: State, text: str, at: int) -> tuple[State, int]:
    found = text.find("<", at)
    return (state, len(text)) if found < 0 else (State("lt"), found + 1)


def _lt(state: State, text: str, at: int) -> tuple[State, int]:
    character = text[at]
    if character == "/" and not state.is_end:
        return state._replace(is_end=True), at + 1
    if character.isascii() and character.isalpha():
        return State("tag_name", is_end=state.is_end), at
    if state.is_end:
        return (State(), at + 1) if character == ">" else (State("bogus"), at)
    if character == "!":
        # What follows decides: `<!--` begins a comment. A value cannot stand in either.
        return State("comment" if text.startswith("--", at + 1) else "bogus"), at + 1
    return (State("bogus"), at) if character == "?" else (State(), at)


def _tag_name(state: State, text: str, at: int) -> tuple[State, int]:
    found = _NAME_END.search(text, at)
    until = found.start() if found else len(text)
    name = (state.tag + text[at:until]).lower()
    if found is None:
        return state._replace(tag=name), until
    return State("tag", name, state.is_end), until


def _tag(state: State, text: str, at: int) -> tuple[State, int]:
    found = _ATTR_START.search(text, at)
    if found is None:
        return state, len(text)
    if found.group() == ">":
        return _closed(state), found.end()
    # A name may begin with "=", which then is part of it.
    return State("attr_name", state.tag, state.is_end, attr=found.group().lower()), found.end()


def _closed(state: State) -> State:
    if not state.is_end and (state.tag in RAW or state.tag in RCDATA):
        return State("raw", state.tag)
    return State()


def _attr_name(state: State, text: str, at: int) -> tuple[State, int]:
    found = _ATTR_END.search(text, at)
    until = found.start() if found else len(text)
    state = state._replace(attr=state.attr + text[at:until].lower())
    if found is None:
        return state, until
    return state._replace(kind="after_name"), until


def _after_name(state: State, text: str, at: int) -> tuple[State, int]:
    found = _AFTER.search(text, at)
    if found is None:
        return state, len(text)
    if found.group() == "=":
        if not state.attr:
            raise Misplaced("an attribute that only some branches have cannot get its value here")
        return state._replace(kind="before_value"), found.end()
    return State("tag", state.tag, state.is_end), found.start()


def _before_value(state: State, text: str, at: int) -> tuple[State, int]:
    found = _AFTER.search(text, at)
    if found is None:
        return state, len(text)
    url = "start" if state.attr in URLS else ""
    if found.group() in "\"'":
        return state._replace(kind="value", quote=found.group(), url=url), found.end()
    if found.group() == ">":
        return _closed(state), found.end()
    return state._replace(kind="value", quote="", url=url), found.start()


def _value(state: State, text: str, at: int) -> tuple[State, int]:
    if state.quote:
        until = text.find(state.quote, at)
    else:
        found = _UNQUOTED_END.search(text, at)
        until = found.start() if found else -1
    literal = text[at:] if until < 0 else text[at:until]
    if state.url:
        state = _address(state, literal)
    if until < 0:
        return state, len(text)
    return State("tag", state.tag, state.is_end), until + len(state.quote)


def _address(state: State, literal: str) -> State:
    """The state after more of an address."""
    if state.url in ("rest", "contact", "bad"):
        return state
    if state.url == "after":
        is_open = _OPEN_ENTITY.search(literal)
        read = html.unescape(literal[: is_open.start()] if is_open else literal)  # as a browser reads it
        found = re.search(r"[:/?#]", read)
        if found and found.group() == ":":
            raise Misplaced("the value before this could become a scheme such as javascript:")
        if found:
            return state._replace(url="rest")
        return state._replace(url="bad", prefix="&") if is_open else state
    prefix = state.prefix + re.sub(r"[\x00-\x20]", "", literal)
    found = re.search(r"[:/?#]", prefix)
    if found is None:
        if len(prefix) > _PREFIX_MAX:
            return state._replace(url="bad" if "&" in prefix else "rest", prefix="")
        return state._replace(url="prefix" if prefix else "start", prefix=prefix)
    # An entity could be a colon, or a letter of a scheme.
    before = prefix[: found.start()].lower()
    if found.group() != ":":
        return state._replace(url="bad" if "&" in before else "rest", prefix="")
    url = "contact" if before in CONTACTS else "rest" if before in SCHEMES else "bad"
    return state._replace(url=url, prefix=before if url == "bad" else "")


def _raw(state: State, text: str, at: int) -> tuple[State, int]:
    if state.tag == "plaintext":
        return state, len(text)
    found = re.compile(rf"</{state.tag}(?=[{_SPACE}/>])", re.IGNORECASE).search(text, at)
    if found is None:
        return state, len(text)
    return State("tag", state.tag, is_end=True), found.end()


def _comment(state: State, text: str, at: int) -> tuple[State, int]:
    found = _COMMENT_END.search(text, at)
    return (state, len(text)) if found is None else (State(), found.end())


def _bogus(state: State, text: str, at: int) -> tuple[State, int]:
    found = text.find(">", at)
    return (state, len(text)) if found < 0 else (State(), found + 1)


_STEPS: Final[dict[str, Callable[[State, str, int], tuple[State, int]]]] = {
    "text": _text,
    "lt": _lt,
    "tag_name": _tag_name,
    "tag": _tag,
    "attr_name": _attr_name,
    "after_name": _after_name,
    "before_value": _before_value,
    "value": _value,
    "raw": _raw,
    "comment": _comment,
    "bogus": _bogus,
}


# --- Values --------------------------------------------------------------------------------------------------------


def context_of(state: State) -> Context:
    """How a value is treated that stands here, and where the scanner is after it. Raises `Misplaced`."""
    if state.kind == "text" or (state.kind == "raw" and state.tag in RCDATA):
        return Context("_html_text", state)
    if state.kind == "value" and state.quote:
        return _in_attribute(state)
    raise Misplaced(_WHY_NOT.get(state.kind, "a value cannot stand here").format(name=state.tag))


_WHY_NOT: Final = {
    "lt": "a value cannot stand in a tag's name",
    "tag_name": "a value cannot stand in a tag's name",
    "tag": "a value cannot stand in a tag, outside of an attribute's value",
    "attr_name": "a value cannot stand in an attribute's name",
    "after_name": "a value cannot stand in a tag, outside of an attribute's value",
    "before_value": "put the attribute's value in quotes",
    "value": "put the attribute's value in quotes",
    "raw": "a value cannot stand in <{name}>",
    "comment": "a value cannot stand in a comment",
    "bogus": "a value cannot stand in a declaration",
}


def _in_attribute(state: State) -> Context:
    if state.attr.startswith("on") or state.attr in _NO_VALUES or (state.tag, state.attr) == ("meta", "content"):
        raise Misplaced(f"a value cannot stand in the attribute {state.attr[:40]}")
    if not state.url:
        return Context("_html_text", state)
    if state.url == "bad":
        raise Misplaced(f"a value cannot stand in an address that begins with {state.prefix[:40]}:")
    if state.url == "start":
        return Context("_html_url", state._replace(url="after", prefix=""))
    if state.url == "prefix" and "&" in state.prefix:  # an entity could be a colon, or become one
        raise Misplaced(f"a value cannot stand in an address that begins with {state.prefix[:40]}")
    after = state._replace(url="after", prefix="") if state.url == "prefix" else state
    return Context("_html_contact" if state.url == "contact" else "_html_part", after)


def joined(states: Sequence[State]) -> State:
    """Where the scanner is after branches that end in these states. Raises `Misplaced` if they differ too much."""
    first = states[0]
    if all(state == first for state in states):
        return first
    if all(state._replace(url="", prefix="") == first._replace(url="", prefix="") for state in states):
        parts = {state.url for state in states}
        # Percent-encoding is safe wherever in an address it stands.
        for url in ("bad", "after", "prefix", "start"):
            if url in parts:
                return first._replace(url="bad" if url == "bad" else "after", prefix="")
        return first._replace(url="rest", prefix="")
    if {state.kind for state in states} <= {"tag", "after_name"} and len({s[1:3] for s in states}) == 1:
        return State("after_name", first.tag, first.is_end)
    raise Misplaced(
        "the branches of this block end at different places of the HTML: inside and outside of a tag or quotes"
    )


_SAFE_URL = re.compile(r"(?:https?|mailto|tel):|[^:/?#]*(?:[/?#]|$)", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x20\x7f]+")


def safe_url(value: str) -> str:
    """The value if it is an address that does no harm when it is followed, else `#`."""
    return value if _SAFE_URL.match(_CONTROLS.sub("", value)) else "#"


def _escaped(value: Any) -> str:
    return html.escape(printed(value))


def _escaped_url(value: Any) -> str:
    return html.escape(safe_url(printed(value)))


def _percent_encoded(value: Any) -> str:
    return quote(printed(value), safe="")


def _contact(value: Any) -> str:
    return quote(printed(value), safe="@+")


def _known_as_escaped(value: Any) -> str:
    """What the template has escaped itself."""
    return printed(value)


def _escaped_already_url(value: Any) -> str:
    text = printed(value)
    return text if safe_url(html.unescape(text)) != "#" or text == "#" else "#"


def _escaped_already_part(value: Any) -> str:
    return quote(html.unescape(printed(value)), safe="")


def _escaped_already_contact(value: Any) -> str:
    return quote(html.unescape(printed(value)), safe="@+")


_ESCAPERS: Final[dict[str, Callable[[Any], str]]] = {
    "_html_text": _escaped,
    "_html_url": _escaped_url,
    "_html_part": _percent_encoded,
    "_html_contact": _contact,
    "_html_text_e": _known_as_escaped,
    "_html_url_e": _escaped_already_url,
    "_html_part_e": _escaped_already_part,
    "_html_contact_e": _escaped_already_contact,
}


def escaper(name: str) -> Callable[[Any], str]:
    """The function behind a context's filter."""
    return _ESCAPERS[name]


def _paid(function: Callable[[Any], str]) -> Callable[[Any], str]:
    def filtered(value: Any) -> str:
        text = function(value)
        spend(len(text))
        return text

    return filtered


HTML_FILTERS: Final = {name: _paid(function) for name, function in _ESCAPERS.items()}
"""For minijinja; their names begin with an underscore, and templates cannot call them."""
