"""What variables may hold, how a value is printed, and how much of both one render may have.

Variables are JSON: text, numbers of at most 64 bits, booleans, null, objects and lists. A missing or null value prints
as empty text; text prints as it is; everything else as JSON (`1`, also for 1.0; `1.5`; `true`; `{"a":1}`). Nothing is
escaped for HTML, for push text is not HTML; the body of an e-mail is, and `html_context` escapes there.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Final, SupportsIndex

from apps.messaging.rendering.errors import Refused

MAX_OUTPUT_CHARS: Final = 262_144
"""Stops `{{ v }}` repeated in a source: gigabytes. Far above any push (4,096 bytes); a large HTML e-mail fits."""
MAX_WORK: Final = 524_288
"""Stops `{% for a in range(9999) %}{{ big|escape }}{% endfor %}`, where few instructions read or print much. Counted
are the characters that filters, loops and output handle, and each value as `VALUE_COST` of them; so is each character
of the variables of a text with logic, for `big ~ big` in a loop copies them without being seen."""
VALUE_COST: Final = 8
MAX_DEPTH: Final = 16
"""Stops values nested so deep that walking them overflows the stack."""
INTEGERS: Final = range(-(2**63), 2**64)
"""What JSON readers and minijinja both keep exact."""
BAD_TEXT: Final = "text may not hold NUL or lone surrogates"


class Budget(threading.local):
    """What the render that runs in this thread may still do."""

    left = MAX_WORK


budget = Budget()


def spend(work: int) -> None:
    """Raises Refused when the render has done too much."""
    budget.left -= work
    if budget.left < 0:
        raise Refused("the template does too much work")


class BlindObject(dict[str, Any]):
    """A dict of which minijinja sees the items and nothing else: it would offer `keys`, `pop` and the like."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # isinstance() asks for it; templates cannot.
            return dict
        raise AttributeError(name)


class BlindArray(list[Any]):
    """A list of which minijinja sees the elements, one at a time at a price, and nothing else."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return list
        raise AttributeError(name)

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        spend(VALUE_COST)
        return list.__getitem__(self, index)


def plain(value: Any, path: str = "", depth: int = 0, *, blind: bool = False) -> Any:
    """A copy of this JSON value; in blind containers for minijinja. Raises Refused for anything else."""
    spend(VALUE_COST)
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        spend(len(value) * (VALUE_COST if blind else 1))
        if bad_character(value) is not None:
            raise Refused(BAD_TEXT, path)
        return str.__str__(value)
    if isinstance(value, (int, float)):
        return _number(value, path)
    if depth >= MAX_DEPTH:
        raise Refused(f"nested deeper than {MAX_DEPTH} levels", path)
    if isinstance(value, list):
        items = [plain(item, f"{path}[{index}]", depth + 1, blind=blind) for index, item in enumerate(value)]
        return BlindArray(items) if blind else items
    if not isinstance(value, dict):
        raise Refused(f"{type(value).__name__} is not JSON", path)
    for key in dict.keys(value):
        if not isinstance(key, str) or bad_character(key) is not None:
            raise Refused(f"key {key!r} is not clean text", path)
    pairs = {key: plain(item, f"{path}.{key}", depth + 1, blind=blind) for key, item in dict.items(value)}
    return BlindObject(pairs) if blind else pairs


def printed(value: Any, path: str = "") -> str:
    """`value` as message text. Raises Refused for what JSON does not know."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is int and value in INTEGERS:  # Quickly: the most frequent value after text.
        return str(value)
    return "" if value is None else as_json(value, path)


def as_json(value: Any, path: str = "") -> str:
    """`value` as compact JSON. Raises Refused."""
    return json.dumps(plain(value, path), ensure_ascii=False, separators=(",", ":"))


def _number(value: float, path: str) -> int | float:
    """`value` as JSON has it, which knows one kind of number: 1.0 is 1, as minijinja hands it back too."""
    if isinstance(value, int):
        if value not in INTEGERS:
            raise Refused("an integer of more than 64 bits", path)
        return int(value)
    if value - value != 0:
        raise Refused("NaN and infinity are not JSON", path)
    return int(value) if value.is_integer() and abs(value) <= 2.0**63 else float(value)


def bad_character(text: str) -> int | None:
    """Where NUL or a lone surrogate stands in `text`; PostgreSQL and JSON writers take neither."""
    position = text.find("\x00")
    if position >= 0:
        return position
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def checked_output(text: str) -> str:
    """`text`. Raises Refused if no message may hold it."""
    if len(text) > MAX_OUTPUT_CHARS:
        raise Refused(f"output over {MAX_OUTPUT_CHARS} characters")
    if bad_character(text) is not None:
        raise Refused(BAD_TEXT)
    return text
