"""Criteria in a sentence of the operator's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.utils import formats, timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from apps.campaigns.console.builder import OPERATORS, UNITS, Group, Row, rows_of
from apps.campaigns.models import Segment
from apps.tenants.models import Application

LISTED = 5
"""Values that are named; of more, how many there are."""


def sentence(application: Application, criteria: object) -> str:
    """Whom the criteria mean. What no row can show is said as JSON."""
    root = rows_of(criteria)
    if not root.children:
        return _("Everybody who can be reached")
    names = Segment.objects.for_application(application).values_list("pk", "name")[:1_000]
    return _of_group(root, {str(key): name for key, name in names}, top=True)


def _of_group(group: Group, segments: Mapping[str, str], *, top: bool = False) -> str:
    parts = [
        _of_group(child, segments) if isinstance(child, Group) else _of_row(child, segments) for child in group.children
    ]
    if len(parts) == 1 and group.mode in ("all", "any"):
        return parts[0]
    if group.mode in ("any", "none"):
        joined = _join(parts, _("%(one)s or %(other)s"))
    else:
        joined = _join(parts, _("%(one)s and %(other)s"))
    if group.mode in ("none", "notall"):
        return _("not (%(conditions)s)") % {"conditions": joined}
    return joined if top else f"({joined})"


def _join(parts: list[str], form: str) -> str:
    joined = parts[0]
    for part in parts[1:]:
        joined = form % {"one": joined, "other": part}
    return joined


def _of_row(row: Row, segments: Mapping[str, str]) -> str:
    item = row.field
    if item is None:
        return row.original
    if item.kind == "segment":
        name = segments.get(_usual(row.values[0]), row.values[0])
        form = _("in the segment “%(name)s”") if row.operator == "eq" else _("not in the segment “%(name)s”")
        return form % {"name": name}
    label = f"{item.label} “{row.key}”" if row.key else str(item.label)
    return _phrase(row) % {"field": label, "value": _values(row), "operator": OPERATORS[row.operator]}


def _phrase(row: Row) -> str:
    """With the place of the field and of the value: not every language has the verb between them."""
    forms = {
        "eq": _("%(field)s is %(value)s"),
        "ne": _("%(field)s is not %(value)s"),
        "in": _("%(field)s is one of %(value)s"),
        "not_in": _("%(field)s is none of %(value)s"),
        "prefix": _("%(field)s starts with %(value)s"),
        "contains": _("%(field)s contains %(value)s"),
        "gt": _("%(field)s is greater than %(value)s"),
        "gte": _("%(field)s is at least %(value)s"),
        "lt": _("%(field)s is less than %(value)s"),
        "lte": _("%(field)s is at most %(value)s"),
        "between": _("%(field)s is between %(value)s"),
        "within": _("%(field)s within the last %(value)s"),
        "older_than": _("%(field)s more than %(value)s ago"),
        "after": _("%(field)s is after %(value)s"),
        "before": _("%(field)s is before %(value)s"),
        "exists": _("%(field)s is known"),
        "not_exists": _("%(field)s is not known"),
    }
    return forms[row.operator]


def _values(row: Row) -> str:
    if row.operator == "between":
        first, second = (_value(row, value) for value in row.values)
        return _("%(one)s and %(other)s") % {"one": first, "other": second}
    shown = ", ".join(_value(row, value) for value in row.values[:LISTED])
    if len(row.values) <= LISTED:
        return shown
    return _("%(values)s and %(count)d more") % {"values": shown, "count": len(row.values) - LISTED}


def _value(row: Row, value: Any) -> str:
    if row.input == "age":
        return f"{value[:-1]} {UNITS[value[-1]]}"
    if row.input.endswith("moment"):
        moment = parse_datetime(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return formats.date_format(timezone.localtime(moment), "DATETIME_FORMAT")
    if isinstance(value, bool) and row.field is not None and row.field.kind == "json":
        return _("yes") if value else _("no")
    labels = dict(row.choices)
    text = Row("", values=[value]).as_json[0]
    return str(labels.get(text, value if isinstance(value, str) and value else text))


def _usual(key: str) -> str:
    try:
        return str(UUID(key))
    except ValueError:
        return key
