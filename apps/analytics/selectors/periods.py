"""Which hours a question is about, and the queries that all questions share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from django.db import connections
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.analytics.clocks import zone_of
from apps.analytics.models.rollups import FillState
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

RANGE_MAX_DAYS = 400
"""Of one question: a year, and the month before it."""
HOUR = timedelta(hours=1)


class Period(NamedTuple):
    """The hours that begin in [since, until), told by the clocks of `zone`."""

    since: datetime
    until: datetime
    zone: ZoneInfo


class Step(StrEnum):
    """How long a point of a series is."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Which:
    """Of which messages; all of an application unless told."""

    channel_type: str = ""
    campaign_id: UUID | None = None
    template_id: UUID | None = None

    def conditions(self) -> dict[str, Any]:
        """Column and value of what was told."""
        named = {"channel_type": self.channel_type, "campaign_id": self.campaign_id, "template_id": self.template_id}
        return {column: value for column, value in named.items() if value}


def period_of(*, since: datetime, until: datetime, time_zone: str) -> Period:
    """Raises `ValidationFailed` of `from`, `to` or `time_zone`: `since` before `until`, `RANGE_MAX_DAYS` apart at most.

    Moments without a time zone are those of `time_zone`.
    """
    if time_zone not in available_timezones():
        raise ValidationFailed.of("time_zone", _("is not a time zone such as Asia/Seoul"))
    zone = ZoneInfo(time_zone)
    since, until = _aware(since, zone, "from"), _aware(until, zone, "to")
    if since >= until:
        raise ValidationFailed.of("to", _("must be after `from`"))
    if until - since > timedelta(days=RANGE_MAX_DAYS):
        raise ValidationFailed.of("from", _("must be at most %(days)d days before `to`") % {"days": RANGE_MAX_DAYS})
    return Period(since, until, zone)


def _aware(moment: datetime, zone: ZoneInfo, field: str) -> datetime:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValidationFailed.of(field, _("is out of range")) from None


def days_of(*, application: Application, days: int, now: datetime | None = None) -> Period:
    """The last `days` days of the application's calendar, today included."""
    zone = zone_of(application.time_zone)
    today = (now or timezone.now()).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return Period((today - timedelta(days=days - 1)).astimezone(UTC), (today + timedelta(days=1)).astimezone(UTC), zone)


# --- Points of a series --------------------------------------------------------------------------------------------


def point_of(hour: datetime, period: Period, step: Step) -> datetime:
    """When the step began that an hour belongs to, by the clocks of the period's zone; the instant, in UTC: the two
    hours that a clock shows alike when it is put back are two instants, but equal as times of the zone.

    An hour belongs to where it begins: where another zone's clocks are half an hour off, half of it is beyond.
    """
    local = hour.astimezone(period.zone)
    if step is Step.DAY:
        local = local.replace(hour=0, fold=0)
    return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)


def points_of(period: Period, step: Step) -> Iterator[datetime]:
    """The instants at which the steps of the period begin, in their order; a day may have 23 hours or 25."""
    last: datetime | None = None
    moment = period.since
    while moment < period.until:
        point = point_of(moment, period, step)
        if point != last:
            yield point
        last = point
        moment += HOUR


# --- Queries -------------------------------------------------------------------------------------------------------


def rollup_rows(
    *,
    using: str,
    table: str,
    application: Application,
    period: Period,
    select: Sequence[str],
    measures: Sequence[str],
    equal: dict[str, Any] | None = None,
    condition: str = "",
    order: str = "",
    limit: int | None = None,
) -> list[tuple[Any, ...]]:
    """Sums of `measures` by the expressions `select`, of an application's hours in the period.

    Every table's key begins with the application and, after what its readers always name, the hour: a range of its
    primary key. `select`, `measures`, `condition` and `order` are SQL of ours; values are in `equal`.
    """
    equal = equal or {}
    where = ["application_id = %s", "hour >= %s", "hour < %s", *(f"{column} = %s" for column in equal)]
    sums = [f"coalesce(sum({measure}), 0)::bigint" for measure in measures]
    sql = f"SELECT {', '.join([*select, *sums])} FROM {table} WHERE {' AND '.join(where)}"
    sql += f" AND {condition}" if condition else ""
    sql += f" GROUP BY {', '.join(select)}" if select else ""
    sql += f" ORDER BY {order}" if order else ""
    sql += f" LIMIT {limit:d}" if limit is not None else ""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [application.pk, period.since, period.until, *equal.values()])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


class Freshness(NamedTuple):
    """Until when events are counted: those that were written before."""

    filled_at: datetime | None
    """None: nothing was ever counted."""
    is_ahead: bool
    """Restored from a dump, and waiting for `manage.py analytics_rebuild`."""


def freshness(*, using: str = "default") -> Freshness:
    states = list(FillState.objects.using(using).all())
    return Freshness(
        min((state.caught_up_at for state in states if state.caught_up_at), default=None),
        any(state.is_ahead for state in states),
    )
