"""Every filter (`{{ price|number }}`) and every test (`{% if x is defined %}`) a template may use.

The filters are our own: they print values as the fast path does, and pay for what they read and write.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from apps.messaging.rendering.errors import Refused
from apps.messaging.rendering.values import INTEGERS, BlindArray, as_json, printed, spend


def _text(value: Any) -> str:
    text = printed(value)
    spend(len(text))
    return text


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, (list, tuple)):
        raise Refused(f"a list is needed, not {type(value).__name__}")
    spend(len(value or ()))
    return list(value or ())


def _number(value: Any) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise Refused(f"a number is needed, not {type(value).__name__}")


def _on_text(function: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: function(_text(value))


def _default(value: Any, fallback: Any = "", falsy: bool = False) -> Any:
    return fallback if value is None or (falsy and not value) else value


def _int(value: Any, fallback: int = 0) -> int:
    try:
        return int(float(value)) if isinstance(value, str) and not value.isdecimal() else int(value)
    except (TypeError, ValueError, OverflowError):
        return fallback


def _items(value: Any) -> list[list[Any]]:
    if value is not None and not isinstance(value, dict):
        raise Refused(f"an object is needed, not {type(value).__name__}")
    spend(len(value or ()))
    return [[key, item] for key, item in dict.items(value or {})]


def _join(value: Any, separator: str = "") -> str:
    texts = [_text(item) for item in _list(value)]
    spend(len(separator) * len(texts))  # Before the text is made: both factors are the author's.
    return separator.join(texts)


def _number_text(value: Any, digits: int | None = None) -> str:
    """12345.6 → 12,345.6; with digits fixed to that many decimals."""
    return f"{_number(value):,}" if digits is None else f"{_number(value):,.{max(0, min(digits, 20))}f}"


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    spend(text.count(old) * len(new))  # Before the text is made, as in _join.
    return text.replace(old, new)


def _round(value: Any, digits: int = 0) -> int | float:
    rounded = round(_number(value), max(-20, min(digits, 20)))
    return rounded if digits > 0 else int(rounded)


def _truncate(value: Any, length: int, end: str = "…") -> str:
    text = _text(value)
    return text if len(text) <= length else text[: max(0, length - len(end))] + end


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "d": _default,
    "default": _default,
    "e": _on_text(html.escape),
    "escape": _on_text(html.escape),
    "first": lambda value: next(iter(_list(value)), None),
    "int": _int,
    "items": _items,
    "join": _join,
    "last": lambda value: next(reversed(_list(value)), None),
    "length": lambda value: len(value) if isinstance(value, (str, dict)) else len(_list(value)),
    "lower": _on_text(str.lower),
    "number": _number_text,
    "replace": _replace,
    "round": _round,
    "times": lambda value, factor: _number(value) * _number(factor),
    "title": _on_text(str.title),
    "tojson": as_json,
    "trim": _on_text(str.strip),
    "truncate": _truncate,
    "upper": _on_text(str.upper),
    "urlencode": _on_text(lambda text: quote(text, safe="")),
}
FILTERS: Final = frozenset(_FUNCTIONS)
# fmt: off
TESTS: Final = frozenset({
    "boolean", "defined", "divisibleby", "endingwith", "even", "mapping", "none", "number", "odd", "sequence",
    "startingwith", "string", "undefined",
})
# fmt: on
"""minijinja's own, which only look at a value."""


def _blind(value: Any) -> Any:
    """A filter's result as minijinja may see it: no list's methods, no number that it would hand on as an object."""
    if type(value) is list:
        return BlindArray(_blind(item) for item in value)
    if type(value) is int and value not in INTEGERS:
        raise Refused("an integer of more than 64 bits")
    spend(len(value) if isinstance(value, str) else 1)
    return value


def _paid(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda value, *arguments: _blind(function(value, *arguments))


ENGINE_FILTERS: Final = {name: _paid(function) for name, function in _FUNCTIONS.items()}
