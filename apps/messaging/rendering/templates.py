"""The three sources of a template, compiled once and rendered per recipient.

`title_template` and `body_template` are text; `data_template` is nested JSON in which every string (never a key) is a
template. A data leaf always renders to text, also when it is exactly one placeholder (the specification's
`render_data_value`), as APNs and FCM data want it; numbers, booleans and nulls of the data stay what they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from apps.messaging.rendering.errors import Refused, TemplateSyntaxError
from apps.messaging.rendering.logic import FUEL, Logic
from apps.messaging.rendering.segments import Segments, split
from apps.messaging.rendering.values import BAD_TEXT, MAX_WORK, bad_character, budget, plain

MAX_SOURCE_CHARS: Final = 65_536
"""Per text, and for all of `data_template` written as JSON: what runs straight through is bounded by its length."""
MAX_DATA_TAGS: Final = 200
LEAF_FUEL: Final = 1_000
"""Both stop thousands of data leaves with a loop in each."""


class Rendered(NamedTuple):
    """What one recipient gets. Parts without placeholders are shared between results: do not change `data`."""

    title: str
    body: str
    data: dict[str, Any]


class _Branch:
    """An object or a list of the data template with placeholders somewhere in it."""

    __slots__ = ("_constant", "_slots", "names")

    names: frozenset[str]

    def __init__(self, constant: Any, slots: list[tuple[Any, _Dynamic]]) -> None:
        """`slots` are the keys or indexes of `constant` to be filled."""
        self._constant = constant
        self._slots = slots
        self.names = frozenset[str]().union(*(node.names for _, node in slots))

    def render(self, variables: Mapping[str, Any]) -> Any:
        result = self._constant.copy()
        for key, node in self._slots:
            result[key] = node.render(variables)
        return result


_Dynamic: TypeAlias = Segments | Logic | _Branch
"""A part of the sources with something to fill in. Every other part is its own result."""


class CompiledTemplate:
    """A checked template. Immutable and safe to share between threads."""

    __slots__ = ("_body", "_data", "_static", "_title", "is_static", "variables")

    variables: tuple[str, ...]
    """Dotted names the template reads, sorted: for preview and help."""
    is_static: bool
    """Nothing depends on the variables: `render` gives everybody the same object."""

    def __init__(self, title: str | _Dynamic, body: str | _Dynamic, data: dict[str, Any] | _Branch) -> None:
        self._title = title
        self._body = body
        self._data = data
        dynamic = [part for part in (title, body, data) if isinstance(part, _Dynamic)]
        self.variables = tuple(sorted(frozenset[str]().union(*(part.names for part in dynamic))))
        self.is_static = not dynamic
        self._static = self._render({}) if self.is_static else None

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """The content for one recipient. `variables` is JSON: str, int, float, bool, None, dict, list.

        Raises RenderError.
        """
        return self._static or self._render(variables)

    def _render(self, variables: Mapping[str, Any]) -> Rendered:
        title, body, data = self._title, self._body, self._data
        budget.left = MAX_WORK
        return Rendered(
            title if isinstance(title, str) else title.render(variables),
            body if isinstance(body, str) else body.render(variables),
            data if isinstance(data, dict) else data.render(variables),
        )


def compile_template(
    *, title: str = "", body: str = "", data: Mapping[str, Any] | None = None, html: bool = False
) -> CompiledTemplate:
    """The compiled form of these sources; the last 512 different ones are kept. With `html`, what is put into the body
    is escaped for where it stands.

    Raises TemplateSyntaxError, naming field, line and column.
    """
    encoded = "{}"
    if data is not None:
        if not isinstance(data, dict):
            raise TemplateSyntaxError("data_template", f"must be an object, not {type(data).__name__}")
        budget.left = MAX_WORK
        try:
            plain(data, "data_template")
        except Refused as error:
            raise TemplateSyntaxError(error.path or "data_template", error.message) from None
        encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for field, source in (("title_template", title), ("body_template", body), ("data_template", encoded)):
        if not isinstance(source, str):
            raise TemplateSyntaxError(field, f"must be text, not {type(source).__name__}")
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateSyntaxError(field, f"longer than {MAX_SOURCE_CHARS} characters")
    if sum(map(encoded.count, ("{{", "{%", "{#"))) > MAX_DATA_TAGS:
        raise TemplateSyntaxError("data_template", f"more than {MAX_DATA_TAGS} tags")
    return _compile(title, body, encoded, html)


@lru_cache(maxsize=512)
def _compile(title: str, body: str, data: str, html: bool) -> CompiledTemplate:
    return CompiledTemplate(
        _compile_text(title, "title_template", FUEL),
        _compile_text(body, "body_template", FUEL, is_html=html),
        _compile_node(json.loads(data), "data_template"),
    )


def _compile_text(source: str, field: str, fuel: int, *, is_html: bool = False) -> str | _Dynamic:
    if (position := bad_character(source)) is not None:
        raise TemplateSyntaxError(field, BAD_TEXT, source=source, position=position)
    if "{{" not in source and "{%" not in source and "{#" not in source:
        return source
    return split(source, field, is_html=is_html) or Logic(source, field, fuel, is_html=is_html)


def _compile_node(value: Any, field: str) -> Any:
    """A _Dynamic, or `value` itself if there is nothing to fill in."""
    if isinstance(value, str):
        return _compile_text(value, field, LEAF_FUEL)
    if isinstance(value, dict):
        nodes = [(key, _compile_node(item, f"{field}.{key}")) for key, item in value.items()]
    elif isinstance(value, list):
        nodes = [(index, _compile_node(item, f"{field}[{index}]")) for index, item in enumerate(value)]
    else:
        return value
    slots = [(key, node) for key, node in nodes if isinstance(node, _Dynamic)]
    return _Branch(value, slots) if slots else value
