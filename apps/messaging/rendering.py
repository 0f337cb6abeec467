"""Template and variables to content: title, body and nested data.

Source: specification 001, "템플릿 엔진 구현". Three sources make a template: `title_template` and
`body_template` are text; `data_template` is nested JSON in which every string (never a key) is a template.

**Values.** `{{ user.name }}` walks nested objects. A missing or null value is empty text; text is
printed as it is; numbers, booleans and nested values are printed as JSON (`1`, also for 1.0; `1.5`; `true`; `{"a":1}`).
A data leaf always renders to text, also when it is exactly one placeholder (the specification's
`render_data_value`), as APNs and FCM data want it; numbers, booleans and nulls of the data template stay what they are.
Nothing is escaped for HTML: push text is not HTML. E-mail templates say `{{ name|escape }}`.

**Two engines, one result.** A text with placeholders only (most messages) is split once and joined per
recipient. Everything else goes to minijinja: `{% if %}`, `{% for %}`, filters (`FILTERS`), tests
(`TESTS`), comments. A property-based test holds the two equal for plain text.

**A hostile template ends in an error, soon and small.** minijinja's fuel bounds instructions but not memory, its
parser overflows the stack on deep nesting, and it reaches the methods of Python's dict and list. Therefore: sources are
checked token by token first (no include, import, macro, set, calls, string repetition, deep nesting); loops run over
variables only; every filter is ours and bounded; output, loop bodies and filter work are metered; and variables enter
as plain JSON whose Python attributes cannot be reached.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import quote

import minijinja

MAX_SOURCE_CHARS: Final = 65_536
"""Per text, and for all of `data_template` written as JSON."""
MAX_DATA_DEPTH: Final = 16
MAX_OUTPUT_CHARS: Final = 262_144
"""Per text. Far above any push (4,096 bytes); a large HTML e-mail fits."""
MAX_VARIABLES_CHARS: Final = 262_144
"""Text in the variables that one template with logic uses."""
MAX_VARIABLES_NODES: Final = 20_000
MAX_VARIABLES_DEPTH: Final = 32
FUEL: Final = 50_000
"""minijinja instructions per render: a loop over 2,000 lines of an order fits."""

_MAX_WORK_CHARS = 4_194_304  # What all filters of one render may read and write.
_MAX_TAG_TOKENS = 400
_MAX_TAG_NAMES = 32
_MAX_TAG_FILTERS = 16
_MAX_BLOCK_DEPTH = 20
_MAX_BRANCHES = 100
_MAX_BRACKETS = 20
_MAX_RANGE = 10_000
_INTEGERS = range(-(2**63), 2**64)  # What JSON readers and minijinja both keep exact.


class TemplateSyntaxError(ValueError):
    """A template source that cannot be used, found when it is compiled.

    `field` is `title_template`, `body_template` or a place in the data such as
    `data_template.buttons[0].label`; `line` and `column` count from 1, in characters.
    """

    def __init__(self, field: str, message: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{field}, line {line}, column {column}: {message}")
        self.field = field
        self.message = message
        self.line = line
        self.column = column


class RenderError(ValueError):
    """These variables cannot be rendered: a value of a wrong kind, or more work or output than allowed.

    `field` as in `TemplateSyntaxError`; `line` is None where it is not known.
    """

    def __init__(self, field: str, message: str, *, line: int | None = None) -> None:
        super().__init__(f"{field}, line {line}: {message}" if line else f"{field}: {message}")
        self.field = field
        self.message = message
        self.line = line


class Rendered(NamedTuple):
    """What one recipient gets. Parts without placeholders are shared between results: do not change `data`."""

    title: str
    body: str
    data: dict[str, Any]


class CompiledTemplate:
    """A checked template. Immutable and safe to share between threads."""

    __slots__ = ("_body", "_data", "_static", "_title", "is_static", "variables")

    variables: tuple[str, ...]
    """Dotted names the template reads, sorted: for preview and help."""
    is_static: bool
    """Nothing depends on the variables: `render` gives everybody the same object."""

    def __init__(self, title: _Text, body: _Text, data: _Node) -> None:
        self._title = title
        self._body = body
        self._data = data
        nodes = (title, body, data)
        self.variables = tuple(sorted(set().union(*(node.names for node in nodes))))
        self.is_static = all(node.is_static for node in nodes)
        self._static = self._render({}) if self.is_static else None

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """The content for one recipient. `variables` is JSON: str, int, float, bool, None, dict, list.

        Raises RenderError.
        """
        return self._static if self._static is not None else self._render(variables)

    def _render(self, variables: Mapping[str, Any]) -> Rendered:
        data = self._data
        return Rendered(
            self._title.render(variables),
            self._body.render(variables),
            data.render(variables),
        )


def compile_template(*, title: str = "", body: str = "", data: Mapping[str, Any] | None = None) -> CompiledTemplate:
    """The compiled form of these sources; the last 512 different ones are kept.

    Raises TemplateSyntaxError, naming field, line and column.
    """
    for field, source in (("title_template", title), ("body_template", body)):
        if not isinstance(source, str):
            raise TemplateSyntaxError(field, f"must be text, not {_kind(source)}")
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateSyntaxError(field, f"longer than {MAX_SOURCE_CHARS} characters")
    checked = _checked_data(data if data is not None else {}, "data_template", 0)
    if not isinstance(checked, dict):
        raise TemplateSyntaxError("data_template", f"must be a JSON object, not {_kind(data)}")
    encoded = json.dumps(checked, ensure_ascii=False, separators=(",", ":"))
    if len(encoded) > MAX_SOURCE_CHARS:
        raise TemplateSyntaxError("data_template", f"longer than {MAX_SOURCE_CHARS} characters")
    return _compile(title, body, encoded)


@lru_cache(maxsize=512)
def _compile(title: str, body: str, data: str) -> CompiledTemplate:
    return CompiledTemplate(
        _compile_text(title, "title_template"),
        _compile_text(body, "body_template"),
        _compile_node(json.loads(data), "data_template"),
    )


# Data templates: a tree that renders only where a placeholder is.


class _Node:
    """A JSON value of the data template; a static one has its `constant`."""

    __slots__ = ("constant", "is_static", "names")

    constant: Any
    is_static: bool
    names: frozenset[str]

    def __init__(self, constant: Any, children: tuple[_Node, ...] = ()) -> None:
        self.constant = constant
        self.is_static = all(child.is_static for child in children)
        self.names = frozenset[str]().union(*(child.names for child in children))

    def render(self, variables: Mapping[str, Any]) -> Any:
        return self.constant


class _Object(_Node):
    __slots__ = ("_items",)

    def __init__(self, constant: dict[str, Any], items: dict[str, _Node]) -> None:
        super().__init__(constant, tuple(items.values()))
        self._items = tuple((key, node) for key, node in items.items() if not node.is_static)

    def render(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self.constant.copy()
        for key, node in self._items:
            result[key] = node.render(variables)
        return result


class _Array(_Node):
    __slots__ = ("_items",)

    def __init__(self, constant: list[Any], items: list[_Node]) -> None:
        super().__init__(constant, tuple(items))
        self._items = tuple((index, node) for index, node in enumerate(items) if not node.is_static)

    def render(self, variables: Mapping[str, Any]) -> list[Any]:
        result: list[Any] = self.constant.copy()
        for index, node in self._items:
            result[index] = node.render(variables)
        return result


class _Text(_Node):
    """A text; this class is the one without anything to fill in."""

    __slots__ = ()

    constant: str

    def render(self, variables: Mapping[str, Any]) -> str:
        return self.constant


class _Segments(_Text):
    """The fast path: text split at its placeholders, joined per recipient."""

    __slots__ = ("_field", "_is_long", "_parts", "_slots")

    def __init__(self, source: str, field: str, parts: list[str], slots: list[tuple[int, list[str]]]) -> None:
        super().__init__(source)
        self.is_static = False
        self.names = frozenset(".".join(path) for _, path in slots)
        self._field = field
        self._parts = parts
        self._is_long = len(slots) > _FEW_SLOTS
        self._slots = tuple((index, path[0], tuple(path[1:])) for index, path in slots)

    def render(self, variables: Mapping[str, Any]) -> str:
        parts = self._parts.copy()
        for index, name, rest in self._slots:
            value = variables.get(name)
            if rest:
                for step in rest:
                    value = value.get(step) if isinstance(value, dict) else None
            if type(value) is str:
                parts[index] = value
            elif value is not None:
                try:
                    parts[index] = _printed(value)
                except _Refused as error:
                    raise RenderError(self._field, f"variable {'.'.join((name, *rest))}: {error}") from None
        if self._is_long and sum(map(len, parts)) > MAX_OUTPUT_CHARS:  # Before many large parts are copied.
            raise RenderError(self._field, f"output over {MAX_OUTPUT_CHARS} characters")
        text = "".join(parts)
        if len(text) > _QUICK_CHARS or not text.isprintable():  # A printable text holds neither NUL nor surrogates.
            return _checked_output(text, self._field)
        return text


class _Logic(_Text):
    """The full language, by minijinja."""

    __slots__ = ("_environment", "_field", "_roots", "_shadowed")

    def __init__(self, source: str, field: str) -> None:
        super().__init__(source)
        scan = _Scan(source, field)  # First: minijinja's parser ends the process on a source nested deep enough.
        environment = _new_environment()
        try:
            environment.add_template("t", source)
        except minijinja.TemplateError as error:
            offset = _offset(source, error)
            raise _syntax_error(field, source, offset, error.detail or error.message, line=error.line) from None
        # What runs has a meter in each loop; lines stay what they were.
        environment.add_template("t", scan.metered())
        self.is_static = False
        self.names = frozenset(environment.undeclared_variables_in_template("t", nested=True) - {"range"})
        self._field = field
        self._roots = tuple({name.partition(".")[0] for name in self.names})
        # The context is a dict too: `{{ keys }}` would find its method when there is no such variable.
        self._shadowed = tuple(root for root in self._roots if hasattr(dict, root))
        self._environment = environment

    def render(self, variables: Mapping[str, Any]) -> str:
        try:
            plain = _Plain()
            context = {root: plain.copy(variables[root]) for root in self._roots if root in variables}
            for root in self._shadowed:
                context.setdefault(root, None)
            _meter.output = _meter.work = 0
            text = self._environment.render_template("t", **context)
        except _Refused as error:
            raise RenderError(self._field, str(error)) from None
        except minijinja.TemplateError as error:
            message = "the template runs too long" if error.kind == "OutOfFuel" else error.detail or error.message
            raise RenderError(self._field, message, line=error.line) from None
        except UnicodeError:
            raise RenderError(self._field, _BAD_TEXT) from None
        except Exception as error:  # A filter met values it cannot work on: whatever a template does, it is no crash.
            raise RenderError(self._field, str(error) or type(error).__name__) from None
        return _checked_output(text, self._field)


_FEW_SLOTS = 16
_QUICK_CHARS = 2_000
_IDENTIFIER = r"[^\W\d]\w*"
_PLACEHOLDER = re.compile(rf"\{{\{{[ \t\r\n]*({_IDENTIFIER}(?:\.{_IDENTIFIER})*)[ \t\r\n]*\}}\}}")
_RESERVED = {"true", "false", "none", "True", "False", "None", "not", "range", "self", "loop"}
_BAD_TEXT = "text may not hold NUL or lone surrogates"


def _compile_text(source: str, field: str) -> _Text:
    if (position := _bad_character(source)) is not None:
        raise _syntax_error(field, source, position, _BAD_TEXT)
    if "{{" not in source and "{%" not in source and "{#" not in source:
        return _Text(source)
    return _split(source, field) or _Logic(source, field)


def _split(source: str, field: str) -> _Segments | None:
    """`source` for the fast path, or None if it holds anything but plain placeholders."""
    if "{%" in source or "{#" in source:
        return None
    pieces = _PLACEHOLDER.split(source)  # text, path, text, path, …, text
    paths = [path.split(".") for path in pieces[1::2]]
    if any("{{" in text for text in pieces[::2]) or any(text.endswith("{") for text in pieces[:-1:2]):
        return None
    if any(path[0] in _RESERVED or not all(map(str.isidentifier, path)) for path in paths):
        return None
    pieces[1::2] = [""] * len(paths)
    return _Segments(source, field, pieces, [(2 * number + 1, path) for number, path in enumerate(paths)])


def _compile_node(value: Any, field: str) -> _Node:
    if isinstance(value, str):
        return _compile_text(value, field)
    if isinstance(value, dict):
        return _Object(value, {key: _compile_node(item, f"{field}.{key}") for key, item in value.items()})
    if isinstance(value, list):
        return _Array(value, [_compile_node(item, f"{field}[{index}]") for index, item in enumerate(value)])
    return _Node(value)


def _checked_data(value: Any, field: str, depth: int) -> Any:
    """`value` as plain JSON, or TemplateSyntaxError: keys are text, nothing too deep or foreign to JSON."""
    if isinstance(value, str):
        if (position := _bad_character(value)) is not None:
            raise _syntax_error(field, value, position, _BAD_TEXT)
        return value
    if isinstance(value, (Mapping, list)):
        if depth >= MAX_DATA_DEPTH:
            raise TemplateSyntaxError(field, f"nested deeper than {MAX_DATA_DEPTH} levels")
        if isinstance(value, list):
            return [_checked_data(item, f"{field}[{index}]", depth + 1) for index, item in enumerate(value)]
        for key in value:
            if not isinstance(key, str) or _bad_character(key) is not None:
                raise TemplateSyntaxError(field, f"key {key!r} is not clean text")
        return {key: _checked_data(item, f"{field}.{key}", depth + 1) for key, item in value.items()}
    try:
        _printed(value)
    except _Refused as error:
        raise TemplateSyntaxError(field, str(error)) from None
    return value


# Values


class _Refused(Exception):
    """Raised below a field; the caller adds which one."""


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value)) or f"a value of type {type(value).__name__}"


def _printed(value: Any) -> str:
    """`value` as message text (module docstring). Raises _Refused for what JSON does not know."""
    if isinstance(value, str):
        return str.__str__(value)
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise _Refused("an integer of more than 64 bits")
        return int.__repr__(value)
    if isinstance(value, float):
        if value - value != 0:
            raise _Refused("NaN and infinity are not JSON")
        return str(int(value)) if _is_whole(value) else float.__repr__(value)
    if isinstance(value, (dict, list)):
        return json.dumps(_Plain(wrap=False).copy(value), ensure_ascii=False, separators=(",", ":"))
    raise _Refused(f"{_kind(value)} is not JSON")


def _is_whole(value: float) -> bool:
    """Whether `value` prints as an integer. JSON knows one kind of number, and minijinja hands 1.0 back as 1."""
    return value.is_integer() and -(2.0**63) <= value <= 2.0**63


def _clean(text: str) -> str:
    if _bad_character(text) is not None:
        raise _Refused(_BAD_TEXT)
    return text


class _BlindObject(dict[str, Any]):
    """A dict of which minijinja sees the items and nothing else: it would offer `keys`, `pop` and the like."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # isinstance() asks for it; templates cannot.
            return dict
        raise AttributeError(name)


class _BlindArray(list[Any]):
    """A list of which minijinja sees the elements and nothing else."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return list
        raise AttributeError(name)


class _Plain:
    """Copies of JSON values, with limits on all copied together. `wrap` gives minijinja's blind containers."""

    __slots__ = ("_chars", "_nodes", "_wrap")

    def __init__(self, *, wrap: bool = True) -> None:
        self._wrap = wrap
        self._chars = MAX_VARIABLES_CHARS
        self._nodes = MAX_VARIABLES_NODES

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Raises _Refused for what is not JSON, too deep or too much."""
        self._nodes -= 1
        if isinstance(value, str):
            self._chars -= len(value)
            if self._chars < 0:
                raise _Refused(f"more than {MAX_VARIABLES_CHARS} characters in the variables")
            return _clean(str.__str__(value))
        if self._nodes < 0:
            raise _Refused(f"more than {MAX_VARIABLES_NODES} values in the variables")
        if isinstance(value, dict):
            if depth >= MAX_VARIABLES_DEPTH:
                raise _Refused(f"variables nested deeper than {MAX_VARIABLES_DEPTH} levels")
            pairs = {self._key(key): self.copy(item, depth + 1) for key, item in dict.items(value)}
            return _BlindObject(pairs) if self._wrap else pairs
        if isinstance(value, list):
            if depth >= MAX_VARIABLES_DEPTH:
                raise _Refused(f"variables nested deeper than {MAX_VARIABLES_DEPTH} levels")
            items = [self.copy(item, depth + 1) for item in value]
            return _BlindArray(items) if self._wrap else items
        if value is None or value is True or value is False:
            return value
        _printed(value)
        return int(value) if isinstance(value, float) and _is_whole(value) else value

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise _Refused(f"a key that is {_kind(key)}; keys are text")
        self._chars -= len(key)
        return _clean(str.__str__(key))


def _bad_character(text: str) -> int | None:
    """Where NUL or a lone surrogate stands in `text`; PostgreSQL and JSON writers take neither."""
    position = text.find("\x00")
    if position >= 0:
        return position
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return error.start
    return None


def _checked_output(text: str, field: str) -> str:
    if len(text) > MAX_OUTPUT_CHARS:
        raise RenderError(field, f"output over {MAX_OUTPUT_CHARS} characters")
    if "\x00" in text or (not text.isascii() and _bad_character(text) is not None):
        raise RenderError(field, _BAD_TEXT)
    return text


# The engine: minijinja with nothing in it but what stands here.


class _Meter(threading.local):
    """Characters printed and read or written by filters, of the render that runs in this thread."""

    output = 0
    work = 0


_meter = _Meter()


def _emit(count: int) -> None:
    _meter.output += count
    if _meter.output > MAX_OUTPUT_CHARS:
        raise _Refused(f"output over {MAX_OUTPUT_CHARS} characters")


def _work(count: int) -> None:
    _meter.work += count
    if _meter.work > _MAX_WORK_CHARS:
        raise _Refused("the template does too much work")


def _finalize(value: Any) -> str:
    text = _printed(value)
    _emit(len(text))
    return text


def _loop(value: Any, body_chars: int) -> Any:
    """Put around what a loop runs over: pays for the text of its body before it runs."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple, dict)):
        raise _Refused(f"a loop needs a list or an object, not {_kind(value)}")
    _work(len(value))
    _emit(len(value) * body_chars)
    return value


def _range(*bounds: int) -> list[int]:
    numbers = range(*bounds)
    if len(numbers) > _MAX_RANGE:
        raise _Refused(f"range() over {_MAX_RANGE} numbers")
    return list(numbers)


def _number(value: Any) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise _Refused(f"a number is needed, not {_kind(value)}")


def _sequence(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple, dict, str)):
        return list(value)
    raise _Refused(f"a list is needed, not {_kind(value)}")


def _default(value: Any, fallback: Any = "", falsy: bool = False) -> Any:
    return fallback if value is None or (falsy and not value) else value


def _join(value: Any, separator: str = "") -> str:
    items = [_printed(item) for item in _sequence(value)]
    _work(sum(map(len, items)) + len(separator) * len(items))
    return separator.join(items)


def _replace(value: Any, old: str, new: str) -> str:
    text = _printed(value)
    _work(len(text) + (text.count(old) * len(new)))
    return text.replace(old, new)


def _truncate(value: Any, length: int, end: str = "…") -> str:
    text = _printed(value)
    return text if len(text) <= length else text[: max(0, length - len(end))] + end


def _round(value: Any, digits: int = 0) -> int | float:
    rounded = round(_number(value), max(-20, min(digits, 20)))
    return rounded if digits > 0 else int(rounded)


def _number_format(value: Any, digits: int | None = None) -> str:
    """12345.6 → 12,345.6; with digits fixed to that many decimals."""
    number = _number(value)
    return f"{number:,}" if digits is None else f"{number:,.{max(0, min(digits, 20))}f}"


def _times(value: Any, factor: Any) -> int | float:
    return _number(value) * _number(factor)


def _to_int(value: Any, fallback: int = 0) -> int:
    try:
        return int(float(value)) if isinstance(value, str) and not value.strip().isdecimal() else int(value)
    except (TypeError, ValueError, OverflowError):
        return fallback


def _to_float(value: Any, fallback: float = 0.0) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return fallback


def _unique(value: Any) -> list[Any]:
    seen: dict[str, Any] = {}
    for item in _sequence(value):
        seen.setdefault(json.dumps(_Plain(wrap=False).copy(item), sort_keys=True), item)
    return list(seen.values())


def _items(value: Any) -> list[list[Any]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise _Refused(f"an object is needed, not {_kind(value)}")
    return [[key, item] for key, item in dict.items(value)]


def _to_json(value: Any) -> str:
    return json.dumps(_Plain(wrap=False).copy(value), ensure_ascii=False, separators=(",", ":"))


def _on_text(function: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: function(_printed(value))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(_sequence(value))


_FILTERS: dict[str, Callable[..., Any]] = {
    "abs": lambda value: abs(_number(value)),
    "capitalize": _on_text(str.capitalize),
    "count": _length,
    "d": _default,
    "default": _default,
    "e": _on_text(html.escape),
    "escape": _on_text(html.escape),
    "first": lambda value: next(iter(_sequence(value)), None),
    "float": _to_float,
    "int": _to_int,
    "items": _items,
    "join": _join,
    "last": lambda value: next(reversed(_sequence(value)), None),
    "length": _length,
    "lower": _on_text(str.lower),
    "max": lambda value: max(_sequence(value), default=None),
    "min": lambda value: min(_sequence(value), default=None),
    "number": _number_format,
    "replace": _replace,
    "reverse": lambda value: value[::-1] if isinstance(value, str) else _sequence(value)[::-1],
    "round": _round,
    "sort": lambda value, reverse=False: sorted(_sequence(value), reverse=bool(reverse)),
    "split": lambda value, separator=None: _printed(value).split(separator),
    "string": _printed,
    "sum": lambda value: sum(map(_number, _sequence(value))),
    "times": _times,
    "title": _on_text(str.title),
    "tojson": _to_json,
    "trim": _on_text(str.strip),
    "truncate": _truncate,
    "unique": _unique,
    "upper": _on_text(str.upper),
    "urlencode": _on_text(lambda text: quote(text, safe="")),
}
FILTERS: Final = frozenset(_FILTERS)
"""Every filter a template may use."""
# fmt: off
TESTS: Final = frozenset({
    "boolean", "defined", "divisibleby", "endingwith", "eq", "equalto", "even", "false", "float", "ge", "greaterthan",
    "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none", "number", "odd",
    "sequence", "startingwith", "string", "true", "undefined", "upper",
})
# fmt: on
"""Every test (`is …`) a template may use."""


def _size(value: Any) -> int:
    """Characters and values in `value`, nested ones included: what a filter may have to read."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return 1 + sum(len(key) + _size(item) for key, item in dict.items(value))
    if isinstance(value, (list, tuple)):
        return 1 + sum(map(_size, value))
    return 1


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` that pays for what it reads and writes, and gives minijinja only blind containers."""

    def filter_(value: Any, *args: Any) -> Any:
        _work(_size(value))
        result = function(value, *args)
        _work(_size(result))
        return _blind(result)

    return filter_


def _blind(value: Any) -> Any:
    if type(value) is list:
        return _BlindArray([_blind(item) for item in value])
    if type(value) is int and value not in _INTEGERS:
        raise _Refused("an integer of more than 64 bits")
    return value


_ENGINE_FILTERS = {name: _metered(function) for name, function in _FILTERS.items()} | {"_loop": _loop}
# What minijinja-py registers by itself; a test walks its own list and finds nothing left.
# fmt: off
_FOREIGN_FILTERS = (
    "attr", "batch", "bool", "chain", "dictsort", "filesizeformat", "format", "groupby", "indent", "lines", "list",
    "map", "pluralize", "pprint", "reject", "rejectattr", "safe", "select", "selectattr", "slice", "striptags",
    "wordwrap", "zip",
)
# fmt: on
_FOREIGN_GLOBALS = ("cycler", "debug", "dict", "joiner", "namespace")


def _new_environment() -> minijinja.Environment:
    environment = minijinja.Environment(
        fuel=FUEL,
        filters=_ENGINE_FILTERS,
        globals={"range": _range},
        finalizer=_finalize,
        undefined_behavior="chainable",
        auto_escape_callback=lambda name: False,
        keep_trailing_newline=True,
        pycompat=False,
    )
    for name in _FOREIGN_FILTERS:
        environment.remove_filter(name)
    for name in _FOREIGN_GLOBALS:
        environment.remove_global(name)
    return environment


def _offset(source: str, error: minijinja.TemplateError) -> int | None:
    """Where an error stands, in characters; minijinja counts bytes."""
    return len(source.encode()[: error.range[0]].decode(errors="ignore")) if error.range else None


def _syntax_error(
    field: str, source: str, offset: int | None, message: str, *, line: int | None = None
) -> TemplateSyntaxError:
    if offset is None:
        return TemplateSyntaxError(field, message, line=line or 1)
    return TemplateSyntaxError(
        field, message, line=source.count("\n", 0, offset) + 1, column=offset - source.rfind("\n", 0, offset)
    )


# The check of a source with logic, token by token.

_TAG = re.compile(r"\{[{%#]")
_TOKEN = re.compile(
    r"""\s+ | (?P<string> '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" ) | (?P<number> \d+(?:\.\d+)?(?:[eE][+-]?\d+)? )
    | (?P<name> [^\W\d]\w* ) | (?P<operator> \*\* | // | [=!<>]= | . )""",
    re.VERBOSE | re.DOTALL,
)
# fmt: off
_OPERATORS = {
    "+", "-", "*", "/", "~", ".", ",", ":", "|", "(", ")", "[", "]", "{", "}", "<", ">", "=", "%",
    "//", "**", "==", "!=", "<=", ">=",
}
# fmt: on
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"}
_STATEMENTS = {"if", "elif", "else", "endif", "for", "endfor"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _Scan:
    """Walks a source, refuses what could grow without bound or nest too deep to be parsed, and notes its loops.

    Raises TemplateSyntaxError; whether the source is well-formed otherwise is minijinja's to say.
    """

    def __init__(self, source: str, field: str) -> None:
        self._source = source
        self._field = field
        self._loops: list[list[Any]] = []  # [start of the iterable, its end, characters of its body]
        self._open: list[list[Any] | None] = []  # The loop, or None for an if.
        self._branches = 0
        self._walk()

    def metered(self) -> str:
        """The source with `_loop` and the length of the loop's own text around every iterable."""
        pieces: list[str] = []
        position = 0
        for start, end, chars in self._loops:  # In the order of the source; one iterable never holds another.
            pieces += [self._source[position:start], "(", self._source[start:end], f")|_loop({chars})"]
            position = end
        return "".join(pieces) + self._source[position:]

    def _refuse(self, position: int, message: str) -> NoReturn:
        raise _syntax_error(self._field, self._source, position, message)

    def _walk(self) -> None:
        source, position = self._source, 0
        while True:
            tag = _TAG.search(source, position)
            self._count_text((tag.start() if tag else len(source)) - position)
            if tag is None:
                return
            if tag.group() == "{#":
                position = source.find("#}", tag.end()) + 2
                if position == 1:
                    self._refuse(tag.start(), "the comment does not end")
                continue
            closing = "}}" if tag.group() == "{{" else "%}"
            tokens, position = self._tokens(tag.end(), closing)
            if closing == "%}":
                tokens = self._statement(tokens, tag.start())
            self._expression(tokens)

    def _count_text(self, chars: int) -> None:
        for loop in reversed(self._open):
            if loop is not None:
                loop[2] += chars
                return

    def _tokens(self, position: int, closing: str) -> tuple[list[_Token], int]:
        tokens: list[_Token] = []
        while not self._source.startswith(closing, position):
            match = _TOKEN.match(self._source, position)
            if match is None:
                self._refuse(position, "the tag does not end")
            position = match.end()
            if match.lastgroup == "operator" and match.group() not in _OPERATORS:
                self._refuse(match.start(), f"unexpected {match.group()}")
            if match.lastgroup:
                tokens.append(_Token(match.lastgroup, match.group(), match.start(), position))
            if len(tokens) > _MAX_TAG_TOKENS:
                self._refuse(tokens[0].start, f"a tag of more than {_MAX_TAG_TOKENS} words")
        # `{%-`, `{{-`, `-%}`: whitespace control.
        if tokens and tokens[-1].text in ("-", "+"):
            tokens.pop()
        return tokens, position + 2

    def _statement(self, tokens: list[_Token], start: int) -> list[_Token]:
        """Checks the statement's word and nesting; returns the tokens of its expression."""
        if tokens and tokens[0].text in ("-", "+"):
            tokens = tokens[1:]
        word = tokens[0].text if tokens else ""
        if word not in _STATEMENTS:
            self._refuse(tokens[0].start if tokens else start, f"{word or 'this statement'} is not available")
        if word == "if":
            self._open.append(None)
        elif word == "for":
            tokens = self._for(tokens)
        elif word in ("endif", "endfor") and self._open:
            self._open.pop()
        elif word == "elif":
            self._branches += 1
            if self._branches > _MAX_BRANCHES:
                self._refuse(start, f"more than {_MAX_BRANCHES} elif")
        if len(self._open) > _MAX_BLOCK_DEPTH:
            self._refuse(start, f"nested deeper than {_MAX_BLOCK_DEPTH} blocks")
        return tokens[1:]

    def _for(self, tokens: list[_Token]) -> list[_Token]:
        """`for target in iterable [if condition]`: the iterable may be a variable, filtered, or range(…)."""
        first = next((index for index, token in enumerate(tokens) if token.text == "in"), len(tokens)) + 1
        if first >= len(tokens):
            self._refuse(tokens[0].start, "a loop is written {% for name in variable %}")
        depth, last = 0, len(tokens)
        for index in range(first, len(tokens)):
            token, before = tokens[index], tokens[index - 1]
            if token.text in "([":
                if (before.kind not in ("name",) and before.text not in (")", "]")) or index == first:
                    self._refuse(token.start, "a loop runs over a variable or range(), with filters if need be")
                depth += 1
            elif token.text in ")]":
                depth -= 1
            elif token.text == "recursive" and depth == 0 and index > first and before.text not in ".|":
                self._refuse(token.start, "recursive loops are not available")
            elif token.text == "if" and depth == 0 and before.text != ".":
                last = index
                break
            elif token.text in ("~", "+", "else", "if", "and", "or") and before.text != ".":
                self._refuse(token.start, "a loop runs over a variable or range(), with filters if need be")
            elif token.text == "," and depth == 0:
                self._refuse(token.start, "a loop runs over one variable")
        loop: list[Any] = [tokens[first].start, tokens[last - 1].end, 0]
        self._loops.append(loop)
        self._open.append(loop)
        if any(token.text == "else" for token in tokens[last:]):
            self._refuse(tokens[last].start, "a loop's condition has no else")
        return [tokens[0], *tokens[first:]]

    def _expression(self, tokens: list[_Token]) -> None:
        names = filters = depth = 0
        for index, token in enumerate(tokens):
            before = tokens[index - 1] if index else None
            after_dot = before is not None and before.text == "."
            depth += (token.text in "([") - (token.text in ")]")
            if depth > _MAX_BRACKETS:
                self._refuse(token.start, f"brackets nested deeper than {_MAX_BRACKETS}")
            if token.text.startswith("__"):
                self._refuse(token.start, "names do not start with two underscores")
            elif token.text in ("*", "**"):
                self._refuse(token.start, "* is not available; write {{ price|times(2) }}")
            elif token.text in ("{", "}"):
                self._refuse(token.start, "object literals are not available")
            elif token.text == "(" and before is not None and not self._may_call(tokens, index):
                self._refuse(before.start, f"{before.text} cannot be called")
            elif token.kind == "name" and before is not None and before.text == "|":
                filters += 1
                if token.text not in FILTERS:
                    self._refuse(token.start, f"unknown filter {token.text}")
            elif token.kind == "name" and not after_dot and self._is_test(tokens, index):
                if token.text not in TESTS:
                    self._refuse(token.start, f"unknown test {token.text}")
            elif token.kind == "name" and not after_dot and token.text not in _WORDS:
                names += 1
                if token.text == "range" and [after.text for after in tokens[index + 1 : index + 2]] != ["("]:
                    self._refuse(token.start, "range is written range(10)")
        if names > _MAX_TAG_NAMES or filters > _MAX_TAG_FILTERS:
            self._refuse(
                tokens[0].start, f"more than {_MAX_TAG_NAMES} variables or {_MAX_TAG_FILTERS} filters in one tag"
            )

    def _may_call(self, tokens: list[_Token], index: int) -> bool:
        """Whether `(` opens a group, or the arguments of a filter, a test or range()."""
        before = tokens[index - 1]
        earlier = tokens[index - 2].text if index > 1 else ""
        if before.kind in ("string", "number") or before.text in (")", "]"):
            return False
        if before.kind != "name" or (before.text in _WORDS and earlier not in (".", "|", "is")):
            return True
        return earlier == "|" or self._is_test(tokens, index - 1) or (before.text == "range" and earlier != ".")

    @staticmethod
    def _is_test(tokens: list[_Token], index: int) -> bool:
        words = [token.text for token in tokens[max(0, index - 3) : index]]
        if words[-1:] == ["not"] and words[-2:-1] == ["is"]:
            return words[-3:-2] != ["."] or len(words) < 3
        return words[-1:] == ["is"] and words[-2:-1] != ["."] and tokens[index].text != "not"
