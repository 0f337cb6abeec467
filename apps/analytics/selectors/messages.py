"""Questions about messages: how many, by what, and how long they took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.utils.translation import gettext as _

from apps.analytics.metrics import WAIT_BOUNDS_S
from apps.analytics.models.rollups import DEVICE_DIMENSIONS, NOBODY, Wait
from apps.analytics.names import campaign_names, template_names
from apps.analytics.selectors.distributions import Distribution, distribution_of
from apps.analytics.selectors.periods import Period, Step, Which, point_of, points_of, rollup_rows
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

MESSAGES = "analytics_messagehour"
_PROGRESS = ("sent", "failed", "received", "converted")
_TIMED_OUT = f"CASE WHEN reason = '{TIMED_OUT}' THEN failed ELSE 0 END"
_ALL = (*_PROGRESS, "errored", "retried", _TIMED_OUT)
ALL = Which()


@dataclass(frozen=True, slots=True)
class Figures:
    """Transitions that occurred in the period. A message that was opened is also among the received and the sent.

    Rates are shares, 0 to 1, of what occurred in the same period, so one with late receipts can have more than was
    sent in it; None where nothing could be divided by.
    """

    sent: int = 0
    """Taken by a provider."""
    failed: int = 0
    received: int = 0
    converted: int = 0
    errored: int = 0
    """Refused for now: put off to a later attempt."""
    retried: int = 0
    timed_out: int = 0
    """Of the failed: sent, but without a receipt in time. (In the breakdowns by device these three are not told.)"""

    @property
    def settled(self) -> int:
        """Messages that were decided about by a provider, or by us before."""
        return self.sent + self.failed - self.timed_out

    @property
    def success_rate(self) -> float | None:
        return rate(self.sent, self.settled)

    @property
    def failure_rate(self) -> float | None:
        return rate(self.failed - self.timed_out, self.settled)

    @property
    def receipt_rate(self) -> float | None:
        return rate(self.received, self.sent)

    @property
    def open_rate(self) -> float | None:
        return rate(self.converted, self.received)

    @property
    def conversion_rate(self) -> float | None:
        return rate(self.converted, self.sent)

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


class ReasonCount(NamedTuple):
    reason: str
    messages: int
    share: float
    """Of all that is counted here, also beyond the limit."""


class Point(NamedTuple):
    begins: datetime
    """In the period's time zone."""
    figures: Figures


class Group(NamedTuple):
    key: str
    figures: Figures


class Comparison(NamedTuple):
    id: UUID | None
    """None: messages without a campaign, or template."""
    name: str
    figures: Figures


def message_totals(*, application: Application, period: Period, which: Which = ALL, using: str = "default") -> Figures:
    ((*sums,),) = _rows(application, period, [], which, using)
    return Figures(*sums)


def failures_by_reason(
    *, application: Application, period: Period, which: Which = ALL, limit: int = 50, using: str = "default"
) -> list[ReasonCount]:
    """Failed messages by `error_reason`, the most frequent first."""
    return _by_reason("failed", application, period, which, limit, using)


def put_off_by_reason(
    *, application: Application, period: Period, which: Which = ALL, limit: int = 50, using: str = "default"
) -> list[ReasonCount]:
    """Temporary refusals by the provider's word, the most frequent first."""
    return _by_reason("errored", application, period, which, limit, using)


def _by_reason(
    measure: str, application: Application, period: Period, which: Which, limit: int, using: str
) -> list[ReasonCount]:
    rows = rollup_rows(
        using=using,
        table=MESSAGES,
        application=application,
        period=period,
        select=["reason"],
        measures=[measure],
        equal=which.conditions(),
        condition=f"{measure} > 0",
        order="2 DESC, 1",
    )
    whole = sum(count for _, count in rows)
    return [ReasonCount(reason, count, round(count / whole, 4)) for reason, count in rows[:limit]]


def message_series(
    *, application: Application, period: Period, step: Step, which: Which = ALL, using: str = "default"
) -> list[Point]:
    """A point for each hour or day; where nothing happened, zeros."""
    found = {point: Figures() for point in points_of(period, step)}
    for hour, *sums in _rows(application, period, ["hour"], which, using):
        point = point_of(hour, period, step)
        found[point] = found.get(point, Figures()) + Figures(*sums)
    return [Point(point.astimezone(period.zone), figures) for point, figures in found.items()]


class ChannelHour(NamedTuple):
    hour: datetime
    channel_type: str
    figures: Figures


def message_hours(*, application: Application, period: Period, using: str = "default") -> list[ChannelHour]:
    """The hours in which something happened, by channel: what a page makes several sums of."""
    rows = _rows(application, period, ["hour", "channel_type"], ALL, using)
    return [ChannelHour(hour, channel, Figures(*sums)) for hour, channel, *sums in rows]


# Every application by the head of the table's key, each a range of its hours.
_OF_APPLICATIONS = f"""
    SELECT application_id, {", ".join(f"coalesce(sum({measure}), 0)::bigint" for measure in _ALL)}
    FROM {MESSAGES} WHERE application_id = ANY(%s) AND hour >= %s AND hour < %s GROUP BY 1
"""


def totals_of_applications(
    *, application_ids: Sequence[UUID], since: datetime, until: datetime, using: str = "default"
) -> dict[UUID, Figures]:
    """For who runs the platform: the figures of each of these applications in which something happened."""
    with connections[using].cursor() as cursor:
        cursor.execute(_OF_APPLICATIONS, [list(application_ids), since, until])
        return {key: Figures(*sums) for key, *sums in cursor.fetchall()}


_FAILED = f"""
    SELECT application_id, reason, sum(failed)::bigint FROM {MESSAGES}
    WHERE application_id = ANY(%s) AND hour >= %s AND failed > 0 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT %s
"""


def failures_of_applications(
    application_ids: Sequence[UUID], since: datetime, limit: int, *, using: str = "default"
) -> list[tuple[UUID, str, int]]:
    """Failed messages by application and reason, the most frequent first."""
    with connections[using].cursor() as cursor:
        cursor.execute(_FAILED, [list(application_ids), since, limit])
        return [(key, reason, int(count)) for key, reason, count in cursor.fetchall()]


def by_hour_of_day(
    *, application: Application, period: Period, which: Which = ALL, using: str = "default"
) -> list[Group]:
    """24 groups, `0` to `23`, by the clocks of the period's zone."""
    found = [Figures()] * 24
    for hour, *sums in _rows(application, period, ["hour"], which, using):
        at = hour.astimezone(period.zone).hour
        found[at] += Figures(*sums)
    return [Group(str(at), figures) for at, figures in enumerate(found)]


def by_channel(*, application: Application, period: Period, which: Which = ALL, using: str = "default") -> list[Group]:
    rows = _rows(application, period, ["channel_type"], which, using)
    return [Group(channel, Figures(*sums)) for channel, *sums in sorted(rows)]


def by_dimension(
    *,
    application: Application,
    period: Period,
    dimension: str,
    channel_type: str = "",
    limit: int = 100,
    using: str = "default",
) -> list[Group]:
    """By one attribute of the devices, the most sent first: `""` is not known, `other` what was too many to tell apart.

    Raises `ValidationFailed` of `dimension`.
    """
    if dimension not in DEVICE_DIMENSIONS:
        raise ValidationFailed.of("dimension", _("is none of: %(all)s") % {"all": ", ".join(DEVICE_DIMENSIONS)})
    rows = rollup_rows(
        using=using,
        table="analytics_devicehour",
        application=application,
        period=period,
        select=["value"],
        measures=_PROGRESS,
        equal={"dimension": str(dimension), **Which(channel_type).conditions()},
        order="2 DESC, 1",
        limit=limit,
    )
    return [Group(value, Figures(*sums)) for value, *sums in rows]


def by_campaign(
    *,
    application: Application,
    period: Period,
    campaign_ids: Sequence[UUID] | None = None,
    channel_type: str = "",
    limit: int = 50,
    using: str = "default",
) -> list[Comparison]:
    """Campaigns beside each other, the most sent first; all that had messages in the period unless named."""
    found = _compared("campaign_id", application, period, campaign_ids, channel_type, limit, using)
    names = campaign_names(application, [key for key, _ in found if key])
    return [Comparison(key, names.get(key, "") if key else "", figures) for key, figures in found]


def by_template(
    *,
    application: Application,
    period: Period,
    template_ids: Sequence[UUID] | None = None,
    channel_type: str = "",
    limit: int = 50,
    using: str = "default",
) -> list[Comparison]:
    """Templates beside each other, the most sent first; all that had messages in the period unless named."""
    found = _compared("template_id", application, period, template_ids, channel_type, limit, using)
    names = template_names(application, [key for key, _ in found if key])
    return [Comparison(key, names.get(key, "") if key else "", figures) for key, figures in found]


def _compared(
    column: str,
    application: Application,
    period: Period,
    ids: Sequence[UUID] | None,
    channel_type: str,
    limit: int,
    using: str,
) -> list[tuple[UUID | None, Figures]]:
    condition = "" if ids is None else f"{column} IN ({_uuids(ids)})"
    rows = _rows(application, period, [column], Which(channel_type), using, condition=condition)
    rows = sorted(rows, key=lambda row: (-row[1], -row[2], str(row[0])))[:limit]
    return [(None if key == NOBODY else key, Figures(*sums)) for key, *sums in rows]


def _uuids(ids: Iterable[UUID]) -> str:
    """Literals: they are UUIDs, which hold nothing but hexadecimal digits. None at all is one that nobody has."""
    return ", ".join(f"'{UUID(str(key))}'::uuid" for key in ids) or "NULL::uuid"


def _rows(
    application: Application, period: Period, select: list[str], which: Which, using: str, *, condition: str = ""
) -> list[tuple[Any, ...]]:
    return rollup_rows(
        using=using,
        table=MESSAGES,
        application=application,
        period=period,
        select=select,
        measures=_ALL,
        equal=which.conditions(),
        condition=condition,
    )


def waiting_times(
    *, application: Application, period: Period, wait: str, which: Which = ALL, using: str = "default"
) -> Distribution:
    """How long after sending messages were received (`receipt`) or opened (`open`), in seconds.

    By the hour of the receipt. A template is not told here. Raises `ValidationFailed` of `wait`.
    """
    if wait not in Wait.values:
        raise ValidationFailed.of("wait", _("is none of: %(all)s") % {"all": ", ".join(Wait.values)})
    rows = rollup_rows(
        using=using,
        table="analytics_waithour",
        application=application,
        period=period,
        select=["bucket"],
        measures=["messages"],
        equal={"wait": str(wait), **Which(which.channel_type, which.campaign_id).conditions()},
    )
    return distribution_of(dict(rows), WAIT_BOUNDS_S)
