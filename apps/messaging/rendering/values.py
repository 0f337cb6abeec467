"""What variables may hold, and how a value is printed.

Variables are JSON: text, numbers of at most 64 bits, booleans, null, objects and lists. A missing or null value prints
as empty text; text prints as it is; everything else as JSON (`1`, also for 1.0; `1.5`; `true`; `{"a":1}`). Nothing is
escaped for HTML, for push text is not HTML: e-mail templates say `{{ name|escape }}`.
"""

from __future__ import annotations

import json
from typing import Any, Final, SupportsIndex

from apps.messaging.rendering.budget import spend
from apps.messaging.rendering.errors import Refused

MAX_DEPTH: Final = 16
"""Stops values nested so deep that walking them overflows the stack."""
MAX_NODES: Final = 5_000
"""Stops a loop that compares or searches one huge list at each turn, inside minijinja where no budget is asked."""
MAX_CHARS: Final = 131_072
"""Stops a loop that joins or searches one huge text at each turn, likewise."""
MAX_OUTPUT_CHARS: Final = 262_144
"""Stops `{{ v }}` repeated in a source: gigabytes. Far above any push (4,096 bytes); a large HTML e-mail fits."""
INTEGERS: Final = range(-(2**63), 2**64)
"""What JSON readers and minijinja both keep exact."""
BAD_TEXT: Final = "text may not hold NUL or lone surrogates"

_KINDS = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}


def kind(value: Any) -> str:
    """What to call `value` in an error message."""
    return _KINDS.get(type(value)) or f"a value of type {type(value).__name__}"


def bad_character(text: str) -> int | None:
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


def printed(value: Any) -> str:
    """`value` as message text. Raises Refused for what JSON does not know."""
    if isinstance(value, str):
        return str.__str__(value)
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (int, float)):
        return repr(_number(value))
    return as_json(value)


def as_json(value: Any) -> str:
    """`value` as compact JSON. Raises Refused."""
    return json.dumps(JsonCopy().copy(value), ensure_ascii=False, separators=(",", ":"))


def checked_output(text: str) -> str:
    """`text`. Raises Refused if no message may hold it."""
    if len(text) > MAX_OUTPUT_CHARS:
        raise Refused(f"output over {MAX_OUTPUT_CHARS} characters")
    if bad_character(text) is not None:
        raise Refused(BAD_TEXT)
    return text


def _number(value: float) -> int | float:
    """`value` as JSON has it, which knows one kind of number: 1.0 is 1, as minijinja hands it back too."""
    if isinstance(value, int):
        if value not in INTEGERS:
            raise Refused("an integer of more than 64 bits")
        return int(value)
    if value - value != 0:
        raise Refused("NaN and infinity are not JSON")
    return int(value) if value.is_integer() and abs(value) <= 2.0**63 else float(value)


class BlindObject(dict[str, Any]):
    """A dict of which minijinja sees the items and nothing else: it would offer `keys`, `pop` and the like."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # isinstance() asks for it; templates cannot.
            return dict
        raise AttributeError(name)


class BlindArray(list[Any]):
    """A list of which minijinja sees the elements, at a price, and nothing else."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return list
        raise AttributeError(name)

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        spend(1)
        return list.__getitem__(self, index)


class JsonCopy:
    """Copies JSON values into containers of these types, with limits on all that one JsonCopy copies."""

    __slots__ = ("_array", "_chars", "_nodes", "_object")

    def __init__(self, object_type: type[dict[str, Any]] = dict, array_type: type[list[Any]] = list) -> None:
        self._object = object_type
        self._array = array_type
        self._chars = MAX_CHARS
        self._nodes = MAX_NODES

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Raises Refused, with the path, for what is not JSON, too deep or too much."""
        self._nodes -= 1
        if self._nodes < 0:
            raise Refused(f"more than {MAX_NODES} values")
        if isinstance(value, str):
            return self._text(value)
        if value is None or value is True or value is False:
            return value
        if isinstance(value, (int, float)):
            return _number(value)
        if not isinstance(value, (dict, list)):
            raise Refused(f"{kind(value)} is not JSON")
        if depth >= MAX_DEPTH:
            raise Refused(f"nested deeper than {MAX_DEPTH} levels")
        return self._pairs(value, depth + 1) if isinstance(value, dict) else self._items(value, depth + 1)

    def _pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for key, item in dict.items(value):
            if not isinstance(key, str):
                raise Refused(f"a key that is {kind(key)}; keys are text")
            name = self._text(key)
            try:
                pairs[name] = self.copy(item, depth)
            except Refused as error:
                raise Refused(error.message, f".{name}{error.path}") from None
        return self._object(pairs)

    def _items(self, value: list[Any], depth: int) -> list[Any]:
        items: list[Any] = []
        for item in value:
            try:
                items.append(self.copy(item, depth))
            except Refused as error:
                raise Refused(error.message, f"[{len(items)}]{error.path}") from None
        return self._array(items)

    def _text(self, text: str) -> str:
        self._chars -= len(text)
        if self._chars < 0:
            raise Refused(f"more than {MAX_CHARS} characters")
        if bad_character(text) is not None:
            raise Refused(BAD_TEXT)
        return str.__str__(text)
