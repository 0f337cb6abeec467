"""From the cells of a file to rows, under the rules that the API has for the same values.

A column is called as its field is, or the import's mapping says which field it is. `properties.<name>` and
`tags.<name>` may end with a type: `properties.age:number`, `tags.vip:boolean`. Without one they are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from apps.subscriptions.imports.models import ImportKind
from apps.subscriptions.imports.reading import UnreadableFile, undecoded
from apps.subscriptions.imports.rejects import REJECT_COLUMNS
from apps.subscriptions.models import Subscription, SubscriptionType
from apps.subscriptions.services.changes import wanted_status
from apps.subscriptions.services.subscriptions import token_digest
from apps.subscriptions.status import Setter
from apps.subscriptions.validation import (
    TOKEN_MAX,
    check_external_id,
    check_tags,
    merged_properties,
    merged_tags,
    normal_device,
    normal_token,
)
from automata_signal.csv_safety import neutralised
from automata_signal.errors import FieldProblem, SignalError, ValidationFailed

DEVICE_FIELDS = (
    *("device_model", "device_os", "device_language", "app_version", "sdk_version", "country_code"),
    "test_type",
)
FIELDS = {
    ImportKind.USERS: ("external_id", "created_at"),
    ImportKind.SUBSCRIPTIONS: ("type", "token", "external_id", "enabled", "subscription_status", *DEVICE_FIELDS),
}
PREFIXES = {ImportKind.USERS: "properties", ImportKind.SUBSCRIPTIONS: "tags"}
ALIASES = {
    "address": "token",
    "country": "country_code",
    "language": "device_language",
    "os": "device_os",
    "status": "subscription_status",
}
TYPES = {"properties": ("text", "number", "boolean", "json"), "tags": ("text", "number", "boolean")}
IGNORED = ""
_DEVICE_MAX = {name: getattr(Subscription._meta.get_field(name), "max_length", None) for name in DEVICE_FIELDS}
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_TRUE, _FALSE = frozenset({"true", "1", "yes", "y", "t"}), frozenset({"false", "0", "no", "n", "f"})


class Column(NamedTuple):
    title: str
    """In the file."""
    field: str
    """`external_id`, …, or `properties` or `tags`; empty: ignored."""
    name: str = ""
    """Of the property or tag."""
    kind: str = "text"


class UserRow(NamedTuple):
    line: int
    external_id: str
    properties: dict[str, Any]
    """None removes one."""
    created_at: datetime | None


class SubscriptionRow(NamedTuple):
    line: int
    type: str
    token: str
    digest: bytes
    external_id: str | None
    status: int | None
    tags: dict[str, Any]
    """None removes one."""
    device: dict[str, Any]


class Reject(NamedTuple):
    """A line that is not imported, and why."""

    line: int
    problems: Sequence[FieldProblem]

    @classmethod
    def of(cls, line: int, field: str, message: str) -> Reject:
        return cls(line, [FieldProblem(field, message)])


# --- The header --------------------------------------------------------------------------------------------------


def bound_columns(kind: str, header: Sequence[str], mapping: Mapping[str, str], *, default_type: str) -> list[Column]:
    """What each column of the file is. Raises `ValidationFailed`, which names the columns."""
    problems = [
        FieldProblem(f"mapping.{title}", "the file has no such column") for title in mapping if title not in header
    ]
    columns: list[Column] = []
    for number, title in enumerate(header, 1):
        try:
            columns.append(_column(kind, title, mapping.get(title, title)))
        except ValueError as error:
            problems.append(FieldProblem(f"columns.{title}", f"column {number}: {error}"))
    problems += _missing(kind, columns, default_type) or _doubled(columns)
    if problems:
        raise ValidationFailed("The columns of the file do not fit.", details=problems, code="COLUMNS_DO_NOT_FIT")
    return columns


def _column(kind: str, title: str, target: str) -> Column:
    target = target.strip()
    if target == IGNORED or (title in REJECT_COLUMNS and target == title):
        return Column(title, IGNORED)
    prefix, _, rest = target.partition(".")
    if prefix.lower() == PREFIXES[ImportKind(kind)] and rest:
        name, _, ending = rest.rpartition(":")
        if name and ending in TYPES[prefix.lower()]:
            return Column(title, prefix.lower(), name, ending)
        return Column(title, prefix.lower(), rest)
    field = ALIASES.get(target.lower(), target.lower())
    if field not in FIELDS[ImportKind(kind)]:
        known = ", ".join((*FIELDS[ImportKind(kind)], f"{PREFIXES[ImportKind(kind)]}.<name>"))
        raise ValueError(f"{target[:100]} is no field; known are {known}. Map the column to nothing to leave it out.")
    return Column(title, field)


def _missing(kind: str, columns: Sequence[Column], default_type: str) -> list[FieldProblem]:
    needed = ["external_id"] if kind == ImportKind.USERS else ["token"] if default_type else ["type", "token"]
    present = {column.field for column in columns}
    return [FieldProblem(f"columns.{field}", "there is no such column") for field in needed if field not in present]


def _doubled(columns: Sequence[Column]) -> list[FieldProblem]:
    seen: set[tuple[str, str]] = set()
    problems = []
    for column in columns:
        key = (column.field, column.name)
        if column.field != IGNORED and key in seen:
            problems.append(FieldProblem(f"columns.{column.title}", "another column is the same field"))
        seen.add(key)
    return problems


# --- Cells -------------------------------------------------------------------------------------------------------


class RowParser:
    """Makes rows of one import. `is_corrected`: the file is a rejects file, whose apostrophes are taken off again."""

    def __init__(self, kind: str, columns: Sequence[Column], *, default_type: str, clear_empty: bool) -> None:
        self._make: Callable[[int, dict[str, Any], dict[str, Any]], UserRow | SubscriptionRow]
        self._make = self._user if kind == ImportKind.USERS else self._subscription
        self._columns = columns
        self._default_type = default_type
        self._clear_empty = clear_empty
        self._is_corrected = any(column.title in REJECT_COLUMNS for column in columns)

    def row(self, line: int, cells: Sequence[str]) -> UserRow | SubscriptionRow | Reject:
        """The row of a record, or why there is none."""
        if len(cells) != len(self._columns):
            return Reject.of(line, "line", f"has {len(cells)} cells where the header has {len(self._columns)}")
        values: dict[str, Any] = {}
        named: dict[str, Any] = {}
        problems: list[FieldProblem] = []
        for column, cell in zip(self._columns, cells, strict=True):
            if column.field == IGNORED:
                continue
            text = cell.strip()
            if self._is_corrected and text.startswith("'") and neutralised(text[1:]) == text:
                text = text[1:]
            if not text and not self._clear_empty:
                continue
            target, name = (named, column.name) if column.name else (values, column.field)
            try:
                target[name] = _value(column, text)
            except ValueError as error:
                problems.append(FieldProblem(column.title, str(error)))
        if problems:
            return Reject(line, problems)
        try:
            return self._make(line, values, named)
        except SignalError as error:
            return Reject(line, [self._titled(problem) for problem in error.details] or [FieldProblem("", str(error))])

    def _titled(self, problem: FieldProblem) -> FieldProblem:
        """The problem under the name that the column has in the file."""
        for column in self._columns:
            if problem.field == (f"{column.field}.{column.name}" if column.name else column.field):
                return problem._replace(field=column.title)
        return problem

    def _user(self, line: int, values: dict[str, Any], properties: dict[str, Any]) -> UserRow:
        external_id = check_external_id(values.get("external_id") or "")
        merged_properties({}, properties)
        return UserRow(line, external_id, properties, values.get("created_at"))

    def _subscription(self, line: int, values: dict[str, Any], tags: dict[str, Any]) -> SubscriptionRow:
        type_ = _type(values.get("type") or self._default_type)
        given = values.get("token") or ""
        if len(given) > TOKEN_MAX:
            raise ValidationFailed.of("token", f"is longer than {TOKEN_MAX} characters")
        device: dict[str, Any] = {}
        for name in DEVICE_FIELDS:
            if name in values:
                device |= _device(name, values[name])
        token = normal_token(type_, given, device.get("country_code") or "")
        external_id = values.get("external_id")
        if external_id is not None:
            check_external_id(external_id)
        status = wanted_status(
            enabled=values.get("enabled"),
            subscription_status=values.get("subscription_status"),
            setter=Setter.PERSON,
        )
        check_tags(tags)
        merged_tags({}, tags)
        return SubscriptionRow(line, type_, token, token_digest(type_, token), external_id, status, tags, device)


def _value(column: Column, text: str) -> Any:
    """The cell's value; None for an empty one that clears. Raises ValueError."""
    if "\0" in text:
        raise ValueError("holds a NUL character")
    if undecoded(text):
        raise ValueError("holds bytes that are not in the encoding of the file")
    if not text:
        return None
    match column.kind if column.name else column.field:
        case "number":
            return _number(text)
        case "boolean" | "enabled":
            return _boolean(text)
        case "json":
            return _json(text)
        case "created_at":
            return _moment(text)
        case "test_type" | "subscription_status":
            if not _WHOLE.fullmatch(text):
                raise ValueError("must be a whole number")
            return int(text)
        case _:
            return text


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a number such as 12 or -0.5")
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("must be true or false (or 1 or 0, yes or no)")


def _json(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("must be JSON") from None
    if "\\u0000" in text:
        raise ValueError("holds a NUL character")
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year <= 2200:
        raise ValueError("must be an ISO 8601 time with zone, such as 2026-01-31T09:00:00+09:00")
    return moment


def _type(text: str) -> str:
    found = _TYPES_BY_NAME.get(text.lower())
    if found is None:
        raise ValidationFailed.of("type", f"must be one of {', '.join(SubscriptionType.values)}")
    return found


_TYPES_BY_NAME = {name.lower(): name for name in SubscriptionType.values}


@lru_cache(maxsize=10_000)
def _device(name: str, value: Any) -> Mapping[str, Any]:
    """One device column in its normal form. Versions, models and countries repeat: they are checked once."""
    limit = _DEVICE_MAX[name]
    if limit is not None and isinstance(value, str) and len(value) > limit:
        raise ValidationFailed.of(name, f"is longer than {limit} characters")
    return normal_device({name: value})


def parser_for(
    kind: str, header: Sequence[str], mapping: Mapping[str, str], *, default_type: str, clear_empty: bool
) -> RowParser:
    """The parser of an import whose columns fit. Raises `UnreadableFile` or `ValidationFailed`."""
    if default_type and default_type not in SubscriptionType.values:
        raise ValidationFailed.of("type", f"must be one of {', '.join(SubscriptionType.values)}")
    if default_type and kind == ImportKind.USERS:
        raise ValidationFailed.of("type", "is for imports of subscriptions")
    if not header:
        raise UnreadableFile("has no columns")
    columns = bound_columns(kind, header, mapping, default_type=default_type)
    return RowParser(kind, columns, default_type=default_type, clear_empty=clear_empty)
