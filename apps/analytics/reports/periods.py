"""Which days a report is about and when it is due, in the application's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from apps.analytics.models.reports import ReportKind, ReportSchedule

DAYS = {ReportKind.DAILY.value: 1, ReportKind.WEEKLY.value: 7}


@dataclass(frozen=True, slots=True)
class Period:
    """Whole local days from `first` up to `end`, which is not of it."""

    first: date
    end: date
    zone: ZoneInfo

    @property
    def days(self) -> int:
        return (self.end - self.first).days

    @property
    def start_at(self) -> datetime:
        return midnight(self.first, self.zone)

    @property
    def end_at(self) -> datetime:
        return midnight(self.end, self.zone)

    @property
    def before(self) -> Period:
        """As many days, just before."""
        return Period(self.first - timedelta(days=self.days), self.first, self.zone)

    @property
    def last(self) -> date:
        return self.end - timedelta(days=1)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a local day begins, in UTC; the first of two, where clocks are put back over it."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def zone_of(schedule: ReportSchedule) -> ZoneInfo:
    return ZoneInfo(schedule.application.time_zone)


def latest(schedule: ReportSchedule, now: datetime) -> Period:
    """The period of the last report that should be there by `now`: those that were missed before it are not made up."""
    zone = zone_of(schedule)
    day = _last_day(schedule, now, zone)
    return Period(day - timedelta(days=DAYS[schedule.kind]), day, zone)


def next_at(schedule: ReportSchedule, now: datetime) -> datetime:
    """The first moment after `now` at which a report of the schedule is due."""
    zone = zone_of(schedule)
    return _moment(_last_day(schedule, now, zone) + timedelta(days=DAYS[schedule.kind]), schedule.hour, zone)


def _last_day(schedule: ReportSchedule, now: datetime, zone: ZoneInfo) -> date:
    """The last local day on which a report was due by `now`."""
    day = now.astimezone(zone).date()
    if schedule.kind == ReportKind.WEEKLY:
        day -= timedelta(days=(day.weekday() - schedule.weekday) % 7)
    return day if _moment(day, schedule.hour, zone) <= now else day - timedelta(days=DAYS[schedule.kind])


def _moment(day: date, hour: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
