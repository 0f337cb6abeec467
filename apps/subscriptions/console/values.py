"""Properties of a user and tags of a subscription as rows of a form: a name, a kind and a value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from automata_signal.errors import SignalError

BLANK_ROWS = 3
KINDS = (
    ("text", gettext_lazy("Text")),
    ("number", gettext_lazy("Number")),
    ("boolean", gettext_lazy("Yes or no")),
    ("json", gettext_lazy("List or object (JSON)")),
)
_TRUE, _FALSE = frozenset({"true", "yes", "1", "예"}), frozenset({"false", "no", "0", "아니요"})


@dataclass
class Row:
    name: str = ""
    kind: str = "text"
    text: str = ""
    is_new: bool = False
    is_removed: bool = False
    problem: str = ""


@dataclass
class Values:
    """The rows, and what they come to: name → value, None for one that goes."""

    rows: list[Row]
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        return not any(row.problem for row in self.rows)


def shown(values: Mapping[str, Any]) -> Values:
    """The form as it is opened."""
    rows = [Row(name, kind_of(values[name]), _text(values[name])) for name in sorted(values)]
    return Values([*rows, *(Row(is_new=True) for _number in range(BLANK_ROWS))])


def read(data: QueryDict, values: Mapping[str, Any], *, kinds: Sequence[str]) -> Values:
    """What was sent, against the values that there are; a row that cannot be read has a problem."""
    found = Values([])
    columns = [data.getlist(name) for name in ("name", "kind", "value", "was")]
    removed = set(data.getlist("remove"))
    for name, kind, text, was in zip(*columns, strict=False):
        row = Row((was or name).strip(), kind, text, not was, bool(was) and was in removed)
        found.rows.append(row)
        if row.is_new and not row.name and not row.text.strip():
            continue
        _take(found, row, values, kinds)
    return found


def _take(found: Values, row: Row, values: Mapping[str, Any], kinds: Sequence[str]) -> None:
    if row.is_removed:
        found.changes[row.name] = None
        return
    if not row.name:
        row.problem = _("has no name")
    elif row.is_new and (row.name in values or row.name in found.changes):
        row.problem = _("There is one of this name already.")
    elif row.kind not in kinds:
        row.problem = _("is not a kind of value")
    if row.problem:
        return
    try:
        value = _value(row.kind, row.text)
    except ValueError as error:
        row.problem = str(error)
        return
    if row.is_new or values.get(row.name) != value or type(values.get(row.name)) is not type(value):
        found.changes[row.name] = value


def _value(kind: str, text: str) -> Any:
    stripped = text.strip()
    if kind == "number":
        try:
            return int(stripped)
        except ValueError:
            pass
        try:
            number = float(stripped)
        except ValueError:
            number = float("nan")
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError(_("must be a number such as 12 or -0.5"))
        return number
    if kind == "boolean":
        if stripped.lower() not in _TRUE | _FALSE:
            raise ValueError(_("must be yes or no"))
        return stripped.lower() in _TRUE
    if kind == "json":
        try:
            return json.loads(stripped)
        except ValueError:
            raise ValueError(_("must be JSON, such as [1, 2]")) from None
    return text


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "json"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def add_refusal(found: Values, error: SignalError) -> str:
    """Put what a service refuses at the rows that it names; what names none is answered."""
    rest = []
    for problem in error.details:
        name = problem.field.partition(".")[2]
        at = next((row for row in found.rows if row.name and row.name == name), None)
        if at is not None:
            at.problem = problem.message
        else:
            rest.append(f"{problem.field}: {problem.message}" if problem.field else problem.message)
    return "; ".join(rest) or ("" if error.details else error.message)
