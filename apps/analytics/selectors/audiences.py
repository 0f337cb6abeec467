"""Questions about subscriptions and users: gained and lost, and how many are active."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from apps.analytics.models.rollups import AudienceDay
from apps.analytics.selectors.periods import Period, Step, point_of, points_of, rollup_rows
from apps.subscriptions.status import SubscriptionStatus
from apps.tenants.models import Application

_TABLE = "analytics_subscriptionhour"
_MEASURES = ("registered", "gained", "lost")


class TypeChange(NamedTuple):
    subscription_type: str
    registered: int
    gained: int
    lost: int


class LostReason(NamedTuple):
    status: int
    """The `subscription_status` that says why."""
    label: str
    source: str
    """Who said so: device, provider, api, operator, system or import."""
    subscriptions: int


class SourceCount(NamedTuple):
    source: str
    subscriptions: int


class SubscriptionChanges(NamedTuple):
    registered: int
    """New addresses; most are gained at the same moment."""
    gained: int
    """Became subscribed, for the first time or again."""
    lost: int
    by_type: list[TypeChange]
    lost_by_reason: list[LostReason]
    gained_by_source: list[SourceCount]

    @property
    def net(self) -> int:
        return self.gained - self.lost


class ChangePoint(NamedTuple):
    begins: datetime
    registered: int
    gained: int
    lost: int


def subscription_changes(
    *, application: Application, period: Period, subscription_type: str = "", using: str = "default"
) -> SubscriptionChanges:
    rows = _rows(application, period, ["subscription_type", "source", "status"], subscription_type, using)
    by_type: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    lost: dict[tuple[int, str], int] = defaultdict(int)
    gained: dict[str, int] = defaultdict(int)
    for kind, source, status, *sums in rows:
        by_type[kind] = [a + b for a, b in zip(by_type[kind], sums, strict=True)]
        gained[source] += sums[1]
        lost[status, source] += sums[2]
    totals = [sum(column) for column in zip(*by_type.values(), strict=True)] or [0, 0, 0]
    return SubscriptionChanges(
        registered=totals[0],
        gained=totals[1],
        lost=totals[2],
        by_type=[TypeChange(kind, *sums) for kind, sums in sorted(by_type.items())],
        lost_by_reason=[
            LostReason(status, _label(status), source, count) for (status, source), count in _most_first(lost)
        ],
        gained_by_source=[SourceCount(source, count) for source, count in _most_first(gained)],
    )


def _most_first(counts: dict[Any, int]) -> list[tuple[Any, int]]:
    return sorted(((key, n) for key, n in counts.items() if n), key=lambda pair: (-pair[1], pair[0]))


def _label(status: int) -> str:
    return str(SubscriptionStatus(status).label) if status in SubscriptionStatus.values else str(status)


def subscription_series(
    *, application: Application, period: Period, step: Step, subscription_type: str = "", using: str = "default"
) -> list[ChangePoint]:
    """A point for each hour or day; where nothing changed, zeros."""
    found = {point: [0, 0, 0] for point in points_of(period, step)}
    for hour, *sums in _rows(application, period, ["hour"], subscription_type, using):
        point = point_of(hour, period, step)
        found[point] = [a + b for a, b in zip(found.get(point, [0, 0, 0]), sums, strict=True)]
    return [ChangePoint(point.astimezone(period.zone), *sums) for point, sums in found.items()]


def _rows(
    application: Application, period: Period, select: Sequence[str], subscription_type: str, using: str
) -> list[tuple[Any, ...]]:
    return rollup_rows(
        using=using,
        table=_TABLE,
        application=application,
        period=period,
        select=select,
        measures=_MEASURES,
        equal={"subscription_type": subscription_type} if subscription_type else {},
    )


# --- How many there are --------------------------------------------------------------------------------------------


class Audience(NamedTuple):
    total: int = 0
    reachable: int = 0
    """Subscribed; of users: who have a subscription that is."""
    active_1d: int = 0
    """On that day."""
    active_7d: int = 0
    active_30d: int = 0


class AudiencePoint(NamedTuple):
    """How it was when the day ended, by the clock of the application."""

    day: date
    users: Audience
    subscriptions: dict[str, Audience]
    """By type."""


def active_users(*, application: Application, period: Period, using: str = "default") -> list[AudiencePoint]:
    """A point for each day of the application's calendar in the period that is known."""
    first, last = (moment.astimezone(period.zone).date() for moment in (period.since, period.until))
    rows = AudienceDay.objects.using(using).filter(application_id=application.pk, day__gte=first, day__lte=last)
    days: dict[date, dict[str, Audience]] = defaultdict(dict)
    columns = ("day", "subscription_type", *Audience._fields)
    for day, kind, *counts in rows.order_by("day", "subscription_type").values_list(*columns):
        days[day][kind] = Audience(*counts)
    return [
        AudiencePoint(day, found.pop("", Audience()), found)
        for day, found in days.items()
        if period.since.astimezone(period.zone).date() <= day and _begins(day, period) < period.until
    ]


def _begins(day: date, period: Period) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=period.zone)
