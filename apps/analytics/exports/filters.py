"""What an order for a file may say: filters of its kind, a period, columns; each problem is told by its field."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework import serializers

from apps.analytics.exports.columns import Resource, Sealed
from apps.analytics.exports.registry import resource_of
from apps.tenants.models import Application
from automata_signal.api import StrictSerializer, validated
from automata_signal.errors import ValidationFailed

PERIOD_MAX_DAYS = 400
PERIOD = ("since", "until")


@cache
def filters_of(kind: str) -> type[StrictSerializer]:
    """The serializer of a kind's filters."""
    resource = resource_of(kind)
    fields: dict[str, Any] = {
        "since": serializers.DateTimeField(required=resource.needs_period),
        "until": serializers.DateTimeField(required=False),
    }
    for item in resource.filters:
        fields[item.name] = copy.deepcopy(item.field)  # a serializer takes its fields for its own
    return type(f"{resource.__name__}Filters", (StrictSerializer,), fields)


def checked_filters(resource: Resource, given: Mapping[str, Any]) -> dict[str, Any]:
    """The filters as they are stored, JSON types only. `until` is at most now: a file has an end.

    Raises DRF's `ValidationError` under `filters`.
    """
    try:
        filters = validated(filters_of(resource.kind), given)
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"filters": error.detail}) from None
    now = timezone.now()
    until = min(filters.get("until", now), now)
    since = filters.get("since")
    if since is not None and since >= until:
        raise ValidationFailed.of("filters.since", "must be before until, and in the past")
    if resource.needs_period and until - since > timedelta(days=PERIOD_MAX_DAYS):
        raise ValidationFailed.of("filters.since", f"at most {PERIOD_MAX_DAYS} days before until")
    return {name: _as_json(value) for name, value in {**filters, "until": until}.items()}


def stored_filters(resource: Resource, stored: Mapping[str, Any]) -> dict[str, Any]:
    """As `checked_filters` stored them, with their own types."""
    moments = {*PERIOD, *(item.name for item in resource.filters if isinstance(item.field, serializers.DateTimeField))}
    return {name: parse_datetime(value) if name in moments else value for name, value in stored.items()}


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, bool | int) else str(value)


def checked_columns(resource: Resource, wanted: Sequence[str] | None) -> list[str]:
    """The columns in the order of the file: as asked for, but what PostgreSQL cannot read comes last. Raises
    `ValidationFailed` of `columns`."""
    names = list(wanted) if wanted else resource.default_columns()
    columns = resource.columns()
    for position, name in enumerate(names):
        if name not in columns:
            raise ValidationFailed.of(
                f"columns[{position}]", f"there is no such column; there are {', '.join(columns)}"
            )
    if len(set(names)) < len(names):
        raise ValidationFailed.of("columns", "names a column twice")
    return sorted(names, key=lambda name: isinstance(columns[name], Sealed))


def checked_time_zone(application: Application, wanted: str) -> str:
    """`UTC`, a name such as `Asia/Seoul`, or the application's own if none is wanted."""
    name = wanted or application.time_zone
    if name not in available_timezones():
        raise ValidationFailed.of("time_zone", "is not a time zone such as Asia/Seoul")
    return name
