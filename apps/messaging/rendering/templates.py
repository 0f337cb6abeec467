"""The three sources of a template, compiled once and rendered per recipient.

`title_template` and `body_template` are text; `data_template` is nested JSON in which every string (never a key) is a
template. A data leaf always renders to text, also when it is exactly one placeholder (the specification's
`render_data_value`), as APNs and FCM data want it; numbers, booleans and nulls of the data stay what they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from apps.messaging.rendering import budget
from apps.messaging.rendering.errors import Refused, TemplateSyntaxError
from apps.messaging.rendering.logic import FUEL, Logic
from apps.messaging.rendering.segments import split
from apps.messaging.rendering.values import BAD_TEXT, JsonCopy, bad_character, kind

MAX_SOURCE_CHARS: Final = 65_536
"""Per text, and for all of `data_template` written as JSON. Bounds what a template costs that runs straight through."""
MAX_LOGIC_LEAVES: Final = 50
LEAF_FUEL: Final = 1_000
"""Both stop thousands of leaves with loops, each with fuel of its own."""


class Rendered(NamedTuple):
    """What one recipient gets. Parts without placeholders are shared between results: do not change `data`."""

    title: str
    body: str
    data: dict[str, Any]


class _Dynamic(Protocol):
    """A part of the sources that depends on the variables. Everything else is its own result: a constant."""

    @property
    def names(self) -> frozenset[str]: ...
    def render(self, variables: Mapping[str, Any]) -> Any: ...


_Text: TypeAlias = "str | _Dynamic"


class _Branch:
    """An object or a list of the data template with placeholders somewhere in it."""

    __slots__ = ("_constant", "_slots", "names")

    def __init__(self, constant: Any, slots: Iterable[tuple[Any, _Dynamic]]) -> None:
        """`slots` are the keys or indexes of `constant` to be filled."""
        self._constant = constant
        self._slots = tuple(slots)
        self.names = frozenset[str]().union(*(node.names for _, node in self._slots))

    def render(self, variables: Mapping[str, Any]) -> Any:
        result = self._constant.copy()
        for key, node in self._slots:
            result[key] = node.render(variables)
        return result


class CompiledTemplate:
    """A checked template. Immutable and safe to share between threads."""

    __slots__ = ("_body", "_data", "_static", "_title", "is_static", "variables")

    variables: tuple[str, ...]
    """Dotted names the template reads, sorted: for preview and help."""
    is_static: bool
    """Nothing depends on the variables: `render` gives everybody the same object."""

    def __init__(self, title: _Text, body: _Text, data: dict[str, Any] | _Dynamic) -> None:
        self._title = title
        self._body = body
        self._data = data
        dynamic = [part for part in (title, body, data) if not isinstance(part, (str, dict))]
        self.variables = tuple(sorted(frozenset[str]().union(*(part.names for part in dynamic))))
        self.is_static = not dynamic
        self._static = self._render({}) if self.is_static else None

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """The content for one recipient. `variables` is JSON: str, int, float, bool, None, dict, list.

        Raises RenderError.
        """
        return self._static if self._static is not None else self._render(variables)

    def _render(self, variables: Mapping[str, Any]) -> Rendered:
        title, body, data = self._title, self._body, self._data
        budget.start()
        return Rendered(
            title if isinstance(title, str) else title.render(variables),
            body if isinstance(body, str) else body.render(variables),
            data if isinstance(data, dict) else data.render(variables),
        )


def compile_template(*, title: str = "", body: str = "", data: Mapping[str, Any] | None = None) -> CompiledTemplate:
    """The compiled form of these sources; the last 512 different ones are kept.

    Raises TemplateSyntaxError, naming field, line and column.
    """
    for field, source in (("title_template", title), ("body_template", body)):
        if not isinstance(source, str):
            raise TemplateSyntaxError(field, f"must be text, not {kind(source)}")
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateSyntaxError(field, f"longer than {MAX_SOURCE_CHARS} characters")
    return _compile(title, body, _encoded(data) if data else "{}")


def _encoded(data: Any) -> str:
    """`data` as JSON. Raises TemplateSyntaxError if it is no JSON object."""
    if not isinstance(data, dict):
        raise TemplateSyntaxError("data_template", f"must be a JSON object, not {kind(data)}")
    try:
        JsonCopy().copy(data)
    except Refused as error:
        raise TemplateSyntaxError(f"data_template{error.path}", error.message) from None
    encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    if len(encoded) > MAX_SOURCE_CHARS:
        raise TemplateSyntaxError("data_template", f"longer than {MAX_SOURCE_CHARS} characters")
    return encoded


@lru_cache(maxsize=512)
def _compile(title: str, body: str, data: str) -> CompiledTemplate:
    return CompiledTemplate(
        _compile_text(title, "title_template", FUEL),
        _compile_text(body, "body_template", FUEL),
        _DataCompiler().node(json.loads(data), "data_template"),
    )


def _compile_text(source: str, field: str, fuel: int) -> _Text:
    if (position := bad_character(source)) is not None:
        raise TemplateSyntaxError.at(position, source, field, BAD_TEXT)
    if "{{" not in source and "{%" not in source and "{#" not in source:
        return source
    return split(source, field) or Logic(source, field, fuel)


class _DataCompiler:
    """One data template: its leaves with logic are counted."""

    def __init__(self) -> None:
        self._logic_leaves = 0

    def node(self, value: Any, field: str) -> Any:
        """`value` itself where it is constant, else a _Dynamic."""
        if isinstance(value, str):
            return self._leaf(value, field)
        if isinstance(value, dict):
            nodes = [(key, self.node(item, f"{field}.{key}")) for key, item in value.items()]
        elif isinstance(value, list):
            nodes = [(index, self.node(item, f"{field}[{index}]")) for index, item in enumerate(value)]
        else:
            return value
        slots = [(key, node) for key, node in nodes if hasattr(node, "render")]
        return _Branch(value, slots) if slots else value

    def _leaf(self, source: str, field: str) -> _Text:
        text = _compile_text(source, field, LEAF_FUEL)
        self._logic_leaves += isinstance(text, Logic)
        if self._logic_leaves > MAX_LOGIC_LEAVES:
            raise TemplateSyntaxError(field, f"more than {MAX_LOGIC_LEAVES} texts with logic in the data")
        return text
