"""The audience compiler: targeting criteria (JSON) to a parametrised SQL predicate.

Source: specification 001, section 3.3 (`targeting_criteria`); shape and limits are ours.

**Grammar.** A node is `{"all": [node, …]}`, `{"any": [node, …]}`, `{"not": node}`, `{"segment": "<uuid>"}` or a
condition `{"field": …, "op": …, "value": …}`. `{}` at the top is everybody reachable; it means nothing deeper down, and
lists are never empty, so that nobody reaches everybody by an oversight.

Fields and their operators (every one also has `ne`, `not_in`, `not_exists` where it has `eq`, `in`, `exists`):

- `type`, `test_type`: eq, in.
- `country`: eq, in, exists; two letters, in any case.
- `language`, `device_model`: eq, in, prefix, contains, exists; case counts.
- `app_version`, `sdk_version`: eq, in, lt, lte, gt, gte, between, exists; as versions, 2.9 < 2.10 = 2.10.0.
- `os` (its version): lt, lte, gt, gte, between as a version; eq, in, prefix, contains, exists as text.
- `subscribed_at`, `unsubscribed_at`, `created_at`, `last_active_at`, `user.created_at`, `user.last_active_at`:
  older_than, within (`15m`, `12h`, `30d`, `2w`); before, after, between (ISO 8601 with zone); exists.
- `external_id`: eq, in, exists.
- `test_group`: eq, ne with true or false: whether the user is in the application's test group.
- `consent.<channel>` (push, email, sms, kakao_talk, in_app): eq, ne with true or false: consent to advertising there.
- `tags.<name>` (all that follows is one name, dots too) and `user.<property>` (dots go deeper): eq, in (text, numbers,
  booleans); lt, lte, gt, gte, between (numbers); contains (part of a text, or an element of a list); prefix; exists.

**What is missing.** An empty column, a JSON null and an absent or archived user count as missing. A missing value
satisfies no condition but `ne`, `not_in`, `not_exists` and whatever stands under `not`. Values of another kind than
asked for (text where a number is compared) do the same; no stored value can make the SQL fail. `between` includes both
ends.

**Safety.** Every value and name is a bound parameter; SQL text comes from this module only.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, ClassVar, Final, TypeAlias
from uuid import UUID

import orjson

MAX_DEPTH: Final = 8
MAX_CONDITIONS: Final = 200
"""Conditions in all, those of referenced segments included."""
MAX_LIST: Final = 1_000
MAX_EXTERNAL_IDS: Final = 2_000
MAX_VALUES: Final = 10_000
"""Values in all lists together."""
MAX_TEXT_CHARS: Final = 500
MAX_PATH_STEPS: Final = 8

REACHABLE: Final = "s.subscription_status > 0 AND NOT s.is_archived"
"""Stands before every audience predicate; the partial indexes of the table carry the same condition."""
JOIN_USER: Final = (
    "LEFT JOIN subscriptions_appuser u"
    " ON u.id = s.user_id AND u.application_id = s.application_id AND NOT u.is_archived"
)
"""Added when `Predicate.needs_user`. The application lets PostgreSQL find external ids by
`one_user_per_external_id`; an archived user is no user."""

Criteria: TypeAlias = dict[str, Any]
SegmentResolver: TypeAlias = Callable[[UUID], Criteria | None]


class TargetingError(ValueError):
    """Criteria that cannot be used. `path` says where, such as `all[1].value`; empty for the whole."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Predicate:
    """A boolean SQL expression over `s` (subscription) and, if `needs_user`, `u` (app user, by `JOIN_USER`).

    May be NULL for a row; NULL is no match, as in WHERE. The application's scope and `REACHABLE` are the caller's.
    """

    sql: str
    params: list[Any]
    needs_user: bool

    @property
    def from_clause(self) -> str:
        """The tables to read, under their aliases."""
        return "subscriptions_subscription s" + (f" {JOIN_USER}" if self.needs_user else "")


def compile_criteria(
    criteria: object, *, resolve_segment: SegmentResolver | None = None, now: datetime | None = None
) -> Predicate:
    """The predicate for these criteria, ages counted back from `now` (with zone; default the present).

    `resolve_segment` gives the criteria of a segment of the same application, or None if there is none.
    Raises TargetingError, also for a segment that is unknown, contains itself, or is broken itself.
    """
    node = _Parser(cache(resolve_segment or (lambda segment: None))).parse(criteria)
    builder = _Builder(now or datetime.now(UTC))
    sql = node.sql(builder)
    return Predicate(sql, builder.params, builder.needs_user)


def validate_criteria(criteria: object) -> None:
    """Checks the shape alone: a segment needs a well-formed id, not to exist. Raises TargetingError."""
    _Parser(None).parse(criteria)


def describe(criteria: object, *, segment_name: Callable[[UUID], str] | None = None) -> str:
    """The criteria in English, for the console: `country is KR and app version >= 2.10`. Raises TargetingError."""
    return _Parser(None).parse(criteria).text(segment_name or str, top=True)


# What criteria become


@dataclass(slots=True)
class _Builder:
    """Collects parameters in the order of their placeholders."""

    now: datetime
    params: list[Any]
    needs_user: bool

    def __init__(self, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError("now needs a time zone")
        self.now = now
        self.params = []
        self.needs_user = False


_SegmentName: TypeAlias = Callable[[UUID], str]


class _Node(ABC):
    @abstractmethod
    def sql(self, builder: _Builder) -> str: ...

    @abstractmethod
    def text(self, segment_name: _SegmentName, *, top: bool = False) -> str: ...


@dataclass(frozen=True, slots=True)
class _Everybody(_Node):
    def sql(self, builder: _Builder) -> str:
        return "TRUE"

    def text(self, segment_name: _SegmentName, *, top: bool = False) -> str:
        return "everybody reachable"


@dataclass(frozen=True, slots=True)
class _Group(_Node):
    word: str
    children: tuple[_Node, ...]

    def sql(self, builder: _Builder) -> str:
        return "(" + f" {self.word} ".join(child.sql(builder) for child in self.children) + ")"

    def text(self, segment_name: _SegmentName, *, top: bool = False) -> str:
        if len(self.children) == 1:
            return self.children[0].text(segment_name, top=top)
        joined = f" {self.word.lower()} ".join(child.text(segment_name) for child in self.children)
        return joined if top else f"({joined})"


@dataclass(frozen=True, slots=True)
class _Not(_Node):
    child: _Node

    def sql(self, builder: _Builder) -> str:
        return f"({self.child.sql(builder)} IS NOT TRUE)"

    def text(self, segment_name: _SegmentName, *, top: bool = False) -> str:
        inner = self.child.text(segment_name, top=True)
        return f"not ({inner})"


@dataclass(frozen=True, slots=True)
class _Segment(_Node):
    id: UUID
    child: _Node

    def sql(self, builder: _Builder) -> str:
        return self.child.sql(builder)

    def text(self, segment_name: _SegmentName, *, top: bool = False) -> str:
        return f"in segment {segment_name(self.id)}"


@dataclass(frozen=True, slots=True)
class _Condition(_Node):
    field: _Field
    op: str
    value: Any

    def sql(self, builder: _Builder) -> str:
        positive = _NEGATIONS.get(self.op, self.op)
        builder.needs_user = builder.needs_user or self.field.needs_user
        sql = self.field.sql(positive, self.value, builder)
        return f"(({sql}) IS NOT TRUE)" if positive != self.op else f"({sql})"

    def text(self, segment_name: _SegmentName, *, top: bool = False) -> str:
        return f"{self.field.label} {_phrase(self.field, self.op, self.value)}"


_NEGATIONS = {"ne": "eq", "not_in": "in", "not_exists": "exists"}
_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_LISTS = {"in", "not_in"}
_BARE = {"exists", "not_exists"}
_AGES = {"older_than", "within"}
_EQUAL = frozenset({"eq", "ne", "in", "not_in"})
_PRESENT = frozenset({"exists", "not_exists"})
_ORDER = frozenset({"lt", "lte", "gt", "gte", "between"})
_PARTS = frozenset({"prefix", "contains"})


class _Wrong(Exception):
    """A value that does not fit; the parser adds the path."""


# Fields: which operators, which values, which SQL


class _Field(ABC):
    """One targetable field. `ops` it knows; `item` checks one value; `sql` writes a positive condition."""

    __slots__ = ("label",)

    ops: ClassVar[frozenset[str]]
    needs_user: bool = False
    max_list: ClassVar[int] = MAX_LIST

    def __init__(self, label: str) -> None:
        self.label = label

    @abstractmethod
    def item(self, op: str, raw: object) -> Any:
        """`raw` as what `sql` takes. Raises _Wrong."""

    @abstractmethod
    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        """SQL for a positive `op`; appends its parameters in order."""

    def show(self, value: Any) -> str:
        return str(value)


class _Text(_Field):
    """A text column, empty when unknown."""

    __slots__ = ("_column",)

    ops = _EQUAL | _PRESENT | _PARTS

    def __init__(self, label: str, column: str) -> None:
        super().__init__(label)
        self._column = column

    def item(self, op: str, raw: object) -> str:
        return _checked_text(raw)

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        if op == "exists":
            return f"{self._column} <> ''"
        if op == "in":
            builder.params.append(value)
            return f"{self._column} = ANY(%s::text[])"
        if op in _PARTS:
            builder.params.append(_like(op, value))
            return f"{self._column} LIKE %s::text"
        builder.params.append(value)
        return f"{self._column} = %s::text"


class _Country(_Text):
    __slots__ = ()

    ops = _EQUAL | _PRESENT

    def item(self, op: str, raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch("[A-Za-z]{2}", raw):
            raise _Wrong("must be a country code of two letters, such as KR")
        return raw.upper()


class _Type(_Text):
    __slots__ = ()

    ops = _EQUAL
    choices = ("iOSPush", "AndroidPush", "Email", "SMS", "KakaoTalk", "InAppMessage")

    def item(self, op: str, raw: object) -> str:
        if not isinstance(raw, str) or raw not in self.choices:
            raise _Wrong(f"must be one of {', '.join(self.choices)}")
        return raw


class _ExternalId(_Text):
    __slots__ = ()

    ops = _EQUAL | _PRESENT
    max_list = MAX_EXTERNAL_IDS
    needs_user = True


class _TestType(_Field):
    __slots__ = ()

    ops = _EQUAL

    def item(self, op: str, raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or raw not in (0, 1, 2):
            raise _Wrong("must be 0 (production), 1 (development) or 2 (ad hoc)")
        return raw

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        builder.params.append(value)
        return "s.test_type = ANY(%s::int[])" if op == "in" else "s.test_type = %s::int"


_VERSION = re.compile(r"\s*[vV]?([0-9]{1,18}(?:\.[0-9]{1,18}){0,9})(?:[-+ ].*)?", re.DOTALL)


class _Version(_Field):
    """A version column with its generated key (`version_key()` in the database): numbers, trailing zeros dropped."""

    __slots__ = ("_column",)

    ops = _EQUAL | _ORDER | _PRESENT

    def __init__(self, label: str, column: str) -> None:
        super().__init__(label)
        self._column = column

    def item(self, op: str, raw: object) -> Any:
        match = _VERSION.fullmatch(_checked_text(raw))
        if match is None:
            raise _Wrong("must be a version such as 2.10 or 2.10.1")
        key = [int(part) for part in match[1].split(".")]
        while len(key) > 1 and key[-1] == 0:
            key.pop()
        return _VersionKey(key, match[1])

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        if op == "exists":
            return f"{self._column} <> ''"
        if op == "in":
            builder.params.append([".".join(map(str, key)) for key in value])
            return f"array_to_string({self._column}_key, '.') = ANY(%s::text[])"
        if op == "between":
            builder.params += map(list, value)
            return f"{self._column}_key BETWEEN %s::bigint[] AND %s::bigint[]"
        builder.params.append(list(value))
        return f"{self._column}_key {_COMPARISONS.get(op, '=')} %s::bigint[]"


class _VersionKey(list[int]):
    """Compares as PostgreSQL compares integer arrays; prints as it was written."""

    def __init__(self, key: list[int], written: str) -> None:
        super().__init__(key)
        self._written = written

    def __str__(self) -> str:
        return self._written


class _Os(_Text):
    """The OS version: text for what names one, a version for what compares."""

    __slots__ = ("_version",)

    ops = _EQUAL | _ORDER | _PRESENT | _PARTS

    def __init__(self, label: str, column: str) -> None:
        super().__init__(label, column)
        self._version = _Version(label, column)

    def item(self, op: str, raw: object) -> Any:
        return self._version.item(op, raw) if op in _ORDER else super().item(op, raw)

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        return self._version.sql(op, value, builder) if op in _ORDER else super().sql(op, value, builder)


_AGE = re.compile("([1-9][0-9]{0,4})([mhdw])")
_AGE_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_YEARS = range(1900, 2200)


class _Date(_Field):
    __slots__ = ("_column", "needs_user")

    ops = frozenset({"older_than", "within", "before", "after", "between"}) | _PRESENT

    def __init__(self, label: str, column: str) -> None:
        super().__init__(label)
        self._column = column
        self.needs_user = column.startswith("u.")

    def item(self, op: str, raw: object) -> Any:
        if op in _AGES:
            match = _AGE.fullmatch(raw) if isinstance(raw, str) else None
            if match is None:
                raise _Wrong('must be an age such as "15m", "12h", "30d" or "2w"')
            return _Age(**{_AGE_UNITS[match[2]]: int(match[1])})
        try:
            moment = datetime.fromisoformat(_checked_text(raw))
        except (ValueError, _Wrong):
            moment = None
        if moment is None or moment.tzinfo is None or moment.year not in _YEARS:
            raise _Wrong("must be an ISO 8601 time with zone, such as 2026-01-31T09:00:00+09:00")
        return moment

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        column = self._column
        if op == "exists":
            return f"{column} IS NOT NULL"
        if op == "between":
            builder.params += value
            return f"{column} BETWEEN %s::timestamptz AND %s::timestamptz"
        builder.params.append(builder.now - value if op in _AGES else value)
        return f"{column} {'<' if op in ('older_than', 'before') else '>=' if op == 'within' else '>'} %s::timestamptz"

    def show(self, value: Any) -> str:
        return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)


class _Age(timedelta):
    """Prints as people say it."""

    def __str__(self) -> str:
        seconds = int(self.total_seconds())
        for unit, size in (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60)):
            if seconds % size == 0:
                count = seconds // size
                return f"{count} {unit}" + ("s" if count > 1 else "")
        return f"{seconds} seconds"


_FEW_VALUES = 20
_STEP_LIKE_INDEX = re.compile(r"\s*[-+]?[0-9]+")


class _Json(_Field):
    """A place in a JSON column: `tags` with one name, or user properties with a path."""

    __slots__ = ("_at", "_column", "_path", "_place", "_text_at", "needs_user")

    ops = _EQUAL | _ORDER | _PRESENT | _PARTS

    def __init__(self, label: str, column: str, path: Sequence[str]) -> None:
        super().__init__(label)
        self._column = column
        self._path = list(path)
        # One step by name is faster than a path.
        self._place: str | list[str] = self._path if len(path) > 1 else path[0]
        self._at = f"({column} #> %s::text[])" if len(path) > 1 else f"({column} -> %s::text)"
        self._text_at = self._at.replace(">", ">>", 1)
        self.needs_user = column.startswith("u.")

    def item(self, op: str, raw: object) -> Any:
        if op in _ORDER:
            if isinstance(raw, bool) or not isinstance(raw, (int, float)):
                raise _Wrong("must be a number")
            return _checked_number(raw)
        if op == "prefix":
            return _checked_text(raw)
        if isinstance(raw, str):
            return _checked_text(raw, may_be_empty=op != "contains")
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, (int, float)):
            return _checked_number(raw)
        raise _Wrong("must be text, a number or a boolean")

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        params = builder.params
        if op == "exists":
            params.append(self._place)
            return f"{self._text_at} IS NOT NULL"
        if op == "eq":
            return self._holds(value, builder)
        if op == "in":
            if len(value) <= _FEW_VALUES:  # Each alternative can use the GIN index.
                return " OR ".join(self._holds(item, builder) for item in value)
            params += [self._place, [_json(item) for item in value]]
            return f"{self._at} = ANY(%s::text[]::jsonb[])"
        if op in _PARTS:
            element = f"{self._holds([value], builder)} OR " if op == "contains" else ""
            if not isinstance(value, str):
                return element.removesuffix(" OR ")
            params += [self._place, self._place, _like(op, value)]
            return f"{element}jsonb_typeof{self._at} = 'string' AND {self._text_at} LIKE %s::text"
        # jsonb compares numbers as numbers and never fails, where a cast to numeric would.
        params += [self._place, self._place]
        if op == "between":
            params += map(_json, value)
            return f"jsonb_typeof{self._at} = 'number' AND {self._at} BETWEEN %s::jsonb AND %s::jsonb"
        params.append(_json(value))
        return f"jsonb_typeof{self._at} = 'number' AND {self._at} {_COMPARISONS[op]} %s::jsonb"

    def _holds(self, value: Any, builder: _Builder) -> str:
        """Containment of the one value: what a `jsonb_path_ops` GIN index answers."""
        document = value
        for step in reversed(self._path):
            document = {step: document}
        builder.params.append(_json(document))
        return f"{self._column} @> %s::jsonb"

    def show(self, value: Any) -> str:
        return value if isinstance(value, str) and value else _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _like(op: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%" if op == "prefix" else f"%{escaped}%"


def _checked_text(raw: object, *, may_be_empty: bool = False) -> str:
    if not isinstance(raw, str):
        raise _Wrong("must be text")
    if not raw and not may_be_empty:
        raise _Wrong("must not be empty")
    if len(raw) > MAX_TEXT_CHARS:
        raise _Wrong(f"longer than {MAX_TEXT_CHARS} characters")
    if "\x00" in raw or any("\ud800" <= char <= "\udfff" for char in raw):
        raise _Wrong("may not hold NUL or lone surrogates")
    return raw


def _checked_number(raw: int | float) -> int | float:
    if not math.isfinite(raw) if isinstance(raw, float) else not -(2**63) <= raw < 2**63:
        raise _Wrong("must be a finite number of at most 64 bits")
    return raw


_CHANNELS = ("push", "email", "sms", "kakao_talk", "in_app")


class _TestGroup(_Field):
    """Whether the user is in the application's test group; who is nobody's is not."""

    __slots__ = ()

    ops = frozenset({"eq", "ne"})
    needs_user = True

    def item(self, op: str, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise _Wrong("must be true or false")
        return raw

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        return f"(u.is_test IS {'' if value else 'NOT '}TRUE)"

    def show(self, value: Any) -> str:
        return "yes" if value else "no"


class _Consent(_Field):
    """Consent to advertising on a channel, by the unique key of consents; nobody is without an answer."""

    __slots__ = ("_channel",)

    ops = frozenset({"eq", "ne"})

    def __init__(self, channel: str) -> None:
        super().__init__(f"consent to advertising by {channel}")
        self._channel = channel

    def item(self, op: str, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise _Wrong("must be true or false")
        return raw

    def sql(self, op: str, value: Any, builder: _Builder) -> str:
        builder.params.append(self._channel)
        return (
            f"{'' if value else 'NOT '}EXISTS (SELECT 1 FROM subscriptions_marketingconsent mc"
            " WHERE mc.application_id = s.application_id AND mc.subject_id = coalesce(s.user_id, s.id)"
            " AND mc.channel = %s::text AND mc.is_given)"
        )

    def show(self, value: Any) -> str:
        return "given" if value else "not given"


_COLUMNS: Final[dict[str, _Field]] = {
    "type": _Type("type", "s.type"),
    "country": _Country("country", "s.country_code"),
    "language": _Text("language", "s.device_language"),
    "device_model": _Text("device model", "s.device_model"),
    "os": _Os("OS", "s.device_os"),
    "app_version": _Version("app version", "s.app_version"),
    "sdk_version": _Version("SDK version", "s.sdk_version"),
    "test_type": _TestType("test type"),
    "subscribed_at": _Date("subscribed", "s.subscribed_at"),
    "unsubscribed_at": _Date("unsubscribed", "s.unsubscribed_at"),
    "created_at": _Date("created", "s.created_at"),
    "last_active_at": _Date("last active", "s.last_active_at"),
    "external_id": _ExternalId("external id", "u.external_id"),
    "test_group": _TestGroup("test group"),
    "user.created_at": _Date("user created", "u.created_at"),
    "user.last_active_at": _Date("user last active", "u.last_active_at"),
}
FIELDS: Final = (*_COLUMNS, "tags.<name>", "user.<property>", *(f"consent.{channel}" for channel in _CHANNELS))
"""Every targetable field, for help and documentation."""


def _field(name: str) -> _Field:
    """The field of this name. Raises _Wrong."""
    if (column := _COLUMNS.get(name)) is not None:
        return column
    source, _, rest = name.partition(".")
    if source == "tags" and rest:
        return _Json(f"tag {rest}", "s.tags", [rest])
    if source == "user" and rest:
        path = rest.split(".")
        if not all(path) or len(path) > MAX_PATH_STEPS:
            raise _Wrong(f"a user property has 1 to {MAX_PATH_STEPS} names with dots between them")
        if any(_STEP_LIKE_INDEX.fullmatch(step) for step in path[1:]):
            raise _Wrong("a path does not go into lists; use contains")
        return _Json(f"user {rest}", "u.properties", path)
    if source == "consent" and rest in _CHANNELS:
        return _Consent(rest)
    raise _Wrong(f"unknown field {name!r}; known are {', '.join(FIELDS)}")


def _phrase(field: _Field, op: str, value: Any) -> str:
    if op in _BARE:
        return "is set" if op == "exists" else "is not set"
    if op in _LISTS:
        shown = ", ".join(map(field.show, value[:5])) + (f" and {len(value) - 5} more" if len(value) > 5 else "")
        return f"is {'one' if op == 'in' else 'none'} of {shown}"
    if op == "between":
        return f"is between {field.show(value[0])} and {field.show(value[1])}"
    if op in _COMPARISONS:
        return f"{_COMPARISONS[op]} {field.show(value)}"
    if op in _AGES:
        return f"more than {value} ago" if op == "older_than" else f"within the last {value}"
    words = {"eq": "is", "ne": "is not", "prefix": "starts with", "contains": "contains"}
    return f"{words.get(op, op)} {field.show(value)}"


# From JSON


class _Parser:
    """Checks criteria and makes nodes of them. Without `resolve`, segments are left unresolved."""

    def __init__(self, resolve: SegmentResolver | None) -> None:
        self._resolve = resolve
        self._conditions = 0
        self._values = 0
        self._segments: list[UUID] = []

    def parse(self, criteria: object) -> _Node:
        return _Everybody() if criteria == {} and isinstance(criteria, dict) else self._node(criteria, "", 1)

    def _node(self, raw: object, path: str, depth: int) -> _Node:
        if not isinstance(raw, dict):
            raise TargetingError(path, "must be an object")
        if depth > MAX_DEPTH:
            raise TargetingError(path, f"nested deeper than {MAX_DEPTH} levels")
        kinds = [key for key in ("all", "any", "not", "segment", "field") if key in raw]
        if len(kinds) != 1:
            raise TargetingError(path, "must hold exactly one of all, any, not, segment and field")
        kind = kinds[0]
        allowed = ("field", "op", "value") if kind == "field" else (kind,)
        for key in raw:
            if key not in allowed:
                raise TargetingError(
                    _join(path, _shown_key(key)), f"unknown key; {kind} goes with {', '.join(allowed)}"
                )
        if kind == "field":
            return self._condition(raw, path)
        if kind == "segment":
            return self._segment(raw["segment"], _join(path, "segment"), depth)
        if kind == "not":
            return _Not(self._node(raw["not"], _join(path, "not"), depth + 1))
        items, path = raw[kind], _join(path, kind)
        if not isinstance(items, list) or not items:
            raise TargetingError(path, "must be a list of at least one condition")
        if len(items) > MAX_CONDITIONS:
            raise TargetingError(path, f"more than {MAX_CONDITIONS} conditions")
        children = tuple(self._node(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(items))
        return _Group("AND" if kind == "all" else "OR", children)

    def _segment(self, raw: object, path: str, depth: int) -> _Node:
        self._count(path)
        try:
            segment = UUID(raw) if isinstance(raw, str) else None
        except ValueError:
            segment = None
        if segment is None:
            raise TargetingError(path, "must be the id of a segment")
        if self._resolve is None:
            return _Segment(segment, _Everybody())
        if segment in self._segments:
            raise TargetingError(path, "the segment contains itself")
        criteria = self._resolve(segment)
        if criteria is None:
            raise TargetingError(path, "there is no such segment")
        self._segments.append(segment)
        inner = _Everybody() if criteria == {} else self._node(criteria, f"{path}({segment})", depth + 1)
        self._segments.pop()
        return _Segment(segment, inner)

    def _count(self, path: str) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise TargetingError(path, f"more than {MAX_CONDITIONS} conditions in all")

    def _condition(self, raw: dict[str, Any], path: str) -> _Node:
        self._count(path)
        try:
            field = _field(_checked_text(raw["field"]))
        except _Wrong as error:
            raise TargetingError(_join(path, "field"), str(error)) from None
        op = raw.get("op")
        if not isinstance(op, str) or op not in field.ops:
            known = ", ".join(sorted(field.ops))
            raise TargetingError(_join(path, "op"), f"must be one of {known} for {raw['field']}")
        where = _join(path, "value")
        if op in _BARE:
            if "value" in raw:
                raise TargetingError(where, f"{op} takes no value")
            return _Condition(field, op, None)
        if "value" not in raw:
            raise TargetingError(where, "is missing")
        return _Condition(field, op, self._value(field, op, raw["value"], where))

    def _value(self, field: _Field, op: str, raw: object, path: str) -> Any:
        if op in _LISTS:
            if not isinstance(raw, list) or not 1 <= len(raw) <= field.max_list:
                raise TargetingError(path, f"must be a list of 1 to {field.max_list} values")
            self._values += len(raw)
            if self._values > MAX_VALUES:
                raise TargetingError(path, f"more than {MAX_VALUES} values in all lists together")
            return [self._item(field, op, item, f"{path}[{index}]") for index, item in enumerate(raw)]
        if op == "between":
            if not isinstance(raw, list) or len(raw) != 2:
                raise TargetingError(path, "must be a list of two values, the lower first")
            lower, upper = (self._item(field, op, item, f"{path}[{index}]") for index, item in enumerate(raw))
            if lower > upper:
                raise TargetingError(path, "the first value lies above the second")
            return [lower, upper]
        return self._item(field, op, raw, path)

    def _item(self, field: _Field, op: str, raw: object, path: str) -> Any:
        try:
            return field.item(op, raw)
        except _Wrong as error:
            raise TargetingError(path, str(error)) from None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown_key(key: object) -> str:
    text = str(key)[:50]
    return text if text.isprintable() else repr(text)
