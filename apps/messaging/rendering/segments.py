"""The fast path: a text with plain placeholders only is split once and joined per recipient.

It gives what `logic` would give for the same text; a property-based test holds the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apps.messaging.rendering.errors import Refused, RenderError
from apps.messaging.rendering.html_templates import html_escapers
from apps.messaging.rendering.values import MAX_OUTPUT_CHARS, checked_output, printed

_NAME = r"[^\W\d]\w*"
_PLACEHOLDER = re.compile(rf"\{{\{{[ \t\r\n]*({_NAME}(?:\.{_NAME})*)[ \t\r\n]*\}}\}}")
_LOGIC_NAMES = {"true", "false", "none", "True", "False", "None", "not", "range", "self", "loop"}


class Segments:
    """Text, value, text, value, …, text."""

    __slots__ = ("_field", "_parts", "_slots", "names")

    names: frozenset[str]

    def __init__(self, pieces: list[str], field: str) -> None:
        """`pieces` alternate between text and the dotted name of a variable."""
        self.names = frozenset(pieces[1::2])
        self._field = field
        self._parts = ["" if index % 2 else piece for index, piece in enumerate(pieces)]
        names = [(path, *path.split(".")) for path in pieces[1::2]]
        self._slots = tuple((2 * number + 1, path, root, steps) for number, (path, root, *steps) in enumerate(names))

    def render(self, variables: Mapping[str, Any]) -> str:
        """Raises RenderError."""
        parts = self._parts.copy()
        try:
            for index, path, root, steps in self._slots:
                value = variables.get(root)
                if steps:
                    for step in steps:
                        value = value.get(step) if isinstance(value, dict) else None
                if type(value) is str:
                    parts[index] = value
                elif value is not None:
                    parts[index] = printed(value, path)
            if len(parts) > 32 and sum(map(len, parts)) > MAX_OUTPUT_CHARS:  # Before many large parts are copied.
                raise Refused(f"output over {MAX_OUTPUT_CHARS} characters")
            text = "".join(parts)
            if len(text) < 2_000 and text.isprintable():  # The common case, quickly: no NUL, no surrogates.
                return text
            return checked_output(text)
        except Refused as error:
            raise RenderError(self._field, str(error)) from None


class HtmlSegments(Segments):
    """The same, each value escaped for where it stands."""

    __slots__ = ("_escapers",)

    def __init__(self, pieces: list[str], field: str, escapers: Sequence[Callable[[Any], str]]) -> None:
        """`escapers` has a function for each placeholder."""
        super().__init__(pieces, field)
        self._escapers = tuple(escapers)

    def render(self, variables: Mapping[str, Any]) -> str:
        """Raises RenderError."""
        parts = self._parts.copy()
        try:
            for (index, path, root, steps), escape in zip(self._slots, self._escapers, strict=True):
                value = variables.get(root)
                for step in steps:
                    value = value.get(step) if isinstance(value, dict) else None
                parts[index] = escape(value if type(value) is str else printed(value, path))
            if len(parts) > 32 and sum(map(len, parts)) > MAX_OUTPUT_CHARS:
                raise Refused(f"output over {MAX_OUTPUT_CHARS} characters")
            return checked_output("".join(parts))
        except Refused as error:
            raise RenderError(self._field, str(error)) from None


def split(source: str, field: str, *, is_html: bool = False) -> Segments | None:
    """`source` for the fast path, or None if it holds anything but plain placeholders. Of HTML, raises
    TemplateSyntaxError for one in a place where no value may stand."""
    pieces = _PLACEHOLDER.split(source)
    texts, paths = pieces[::2], [path.split(".") for path in pieces[1::2]]
    if any("{{" in text or "{%" in text or "{#" in text for text in texts):
        return None
    if any(text.endswith("{") for text in texts[:-1]):
        return None
    if any(path[0] in _LOGIC_NAMES or not all(map(str.isidentifier, path)) for path in paths):
        return None
    if is_html:
        starts = [found.start() for found in _PLACEHOLDER.finditer(source)]
        return HtmlSegments(pieces, field, html_escapers(source, field, texts, starts))
    return Segments(pieces, field)
