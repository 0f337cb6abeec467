"""What SDKs say of themselves: initialisations and how long they took, registrations, identifications, client errors.

A publishable key is no secret, so anybody may say anything. What is said is bounded, only counted, and can spoil
nothing but these figures: hours must be plausible, and of versions and error codes only so many are told apart
(`metrics.VALUES_MAX`); all others count as `other`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.analytics.clocks import hour_of
from apps.analytics.metrics import INITIALISATION_BOUNDS_MS, OTHER, VALUES_MAX
from apps.analytics.models.rollups import Dimension, SdkFigure
from apps.tenants.models import Application

AGE_MAX = timedelta(hours=72)
"""A phone may have been without a network for so long. What is older is refused."""
REPORTS_MAX = 72
"""Hours in one request."""
INITIALISATIONS_MAX = 100
CODES_MAX = 20
COUNT_MAX = 1_000
"""Of each number."""
PLATFORMS = ("ios", "android", "web", "other")
TOO_OLD = "too_old"


@dataclass(frozen=True, slots=True)
class SdkReport:
    """What happened on one device in one hour."""

    hour: datetime
    platform: str
    sdk_version: str
    initialisation_ms: Sequence[int] = ()
    """How long each took."""
    counts: dict[str, int] = field(default_factory=dict)
    """By `SdkFigure`, of those without a label."""
    client_errors: dict[str, int] = field(default_factory=dict)
    """By code."""


class _Key(NamedTuple):
    hour: datetime
    platform: str
    sdk_version: str
    figure: str
    label: str


def sdk_figures_record(
    *, application: Application, reports: Sequence[SdkReport], now: datetime | None = None
) -> dict[int, str]:
    """Add the reports to the figures of their hours, in one statement; those that were refused, by place, with why.

    A clock that is ahead of ours is taken as now.
    """
    now = now or timezone.now()
    refused = {place: TOO_OLD for place, report in enumerate(reports) if report.hour < now - AGE_MAX}
    counts: Counter[_Key] = Counter()
    for place, report in enumerate(reports):
        if place not in refused:
            hour = hour_of(application, min(report.hour, now))
            for figure, label, count in _figures(report):
                counts[_Key(hour, report.platform, report.sdk_version, figure, label)] += count
    if counts:
        with transaction.atomic():
            _add(application.pk, _told_apart(application.pk, counts))
    return refused


def _figures(report: SdkReport) -> Iterator[tuple[str, str, int]]:
    for duration in report.initialisation_ms:
        yield SdkFigure.INITIALISED, str(bisect_right(INITIALISATION_BOUNDS_MS, duration)), 1
    for figure, count in report.counts.items():
        if count:
            yield figure, "", count
    for code, count in report.client_errors.items():
        if count:
            yield SdkFigure.CLIENT_ERROR, code, count


# --- Values that are told apart ------------------------------------------------------------------------------------


def _told_apart(application_id: UUID, counts: Counter[_Key]) -> Counter[_Key]:
    """The same counts, where versions and codes beyond the bound are `other`."""
    values: dict[tuple[date, str], set[str]] = defaultdict(set)
    for key in counts:
        month = _month(key)
        values[month, Dimension.SDK_VERSION].add(key.sdk_version)
        if key.figure == SdkFigure.CLIENT_ERROR:
            values[month, Dimension.SDK_ERROR].add(key.label)
    known = {where: _admitted(application_id, *where, found) for where, found in sorted(values.items())}
    told: Counter[_Key] = Counter()
    for key, count in counts.items():
        month = _month(key)
        if key.sdk_version not in known[month, Dimension.SDK_VERSION]:
            key = key._replace(sdk_version=OTHER)
        if key.figure == SdkFigure.CLIENT_ERROR and key.label not in known[month, Dimension.SDK_ERROR]:
            key = key._replace(label=OTHER)
        told[key] += count
    return told


def _month(key: _Key) -> date:
    return key.hour.astimezone(UTC).date().replace(day=1)


def _admitted(application_id: UUID, month: date, dimension: str, values: set[str]) -> set[str]:
    """Which of the values are told apart in this month; new ones are admitted while there is room."""
    scope: list[Any] = [application_id, month, dimension]
    with connection.cursor() as cursor:
        known = _known(cursor, scope, values)
        missing = sorted(values - known)
        if not missing or _room(cursor, scope) <= 0:
            return known
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"values:{application_id}:{dimension}"]
        )
        admitted = missing[: max(0, _room(cursor, scope))]
        cursor.execute(
            "INSERT INTO analytics_dimensionvalue (application_id, month, dimension, value)"
            " SELECT %s, %s, %s, unnest(%s::text[]) ON CONFLICT DO NOTHING",
            [*scope, admitted],
        )
        return _known(cursor, scope, values)


_SCOPE = "application_id = %s AND month = %s AND dimension = %s"


def _known(cursor: Any, scope: list[Any], values: set[str]) -> set[str]:
    cursor.execute(
        f"SELECT value FROM analytics_dimensionvalue WHERE {_SCOPE} AND value = ANY(%s)", [*scope, list(values)]
    )
    return {value for (value,) in cursor.fetchall()}


def _room(cursor: Any, scope: list[Any]) -> int:
    cursor.execute(f"SELECT count(*) FROM analytics_dimensionvalue WHERE {_SCOPE}", scope)
    (there,) = cursor.fetchone()
    return VALUES_MAX[scope[2]] - int(there)


def _add(application_id: UUID, counts: Counter[_Key]) -> None:
    """Rows of an hour are shared by all devices: they are locked in the order of their keys."""
    rows = sorted(counts.items())
    columns: list[Any] = [list(column) for column in zip(*(key for key, _ in rows), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO analytics_sdkhour AS t
                (application_id, hour, platform, sdk_version, figure, label, count)
            SELECT %s, g.*
            FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[]) g
            ON CONFLICT (application_id, hour, platform, sdk_version, figure, label)
            DO UPDATE SET count = t.count + excluded.count
            """,
            [application_id, *columns, [count for _, count in rows]],
        )
