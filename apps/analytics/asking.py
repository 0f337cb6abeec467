"""What somebody asks for, checked: the days, the time zone, the messages; and whether the plan answers it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from apps.analytics import selectors
from apps.analytics.answers import Asked
from apps.analytics.selectors import Which
from apps.billing.entitlements import analytics_depth, require_depth
from apps.billing.models import AnalyticsDepth
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

DAYS_UNLESS_TOLD = 30
HOURLY_DAYS_MAX = 31
"""Of a series by hour: 744 points."""
INTERVALS = ("hour", "day", "week")
BREAKDOWNS = ("channel", "country", "device_model", "os", "app_version", "hour_of_day")
DEPTHS = [AnalyticsDepth.BASIC, AnalyticsDepth.ADVANCED, AnalyticsDepth.FULL]
NEEDED = {
    "overview": AnalyticsDepth.BASIC,
    "series": AnalyticsDepth.BASIC,
    "channels": AnalyticsDepth.BASIC,
    "costs": AnalyticsDepth.BASIC,
    "filters": AnalyticsDepth.ADVANCED,
    "hours": AnalyticsDepth.ADVANCED,
    "breakdown": AnalyticsDepth.ADVANCED,
    "subscriptions": AnalyticsDepth.ADVANCED,
    "active_users": AnalyticsDepth.ADVANCED,
    "campaigns": AnalyticsDepth.ADVANCED,
    "templates": AnalyticsDepth.ADVANCED,
    "distributions": AnalyticsDepth.FULL,
    "sdk": AnalyticsDepth.FULL,
}
"""How deep the plan's analytics must go for each question; `channels` is the breakdown by them, `hours` a series by
hour, `filters` is by campaign or template."""


def may_ask(application: Application, question: str) -> bool:
    """Whether the application's plan answers it."""
    return DEPTHS.index(analytics_depth(application)) >= DEPTHS.index(NEEDED[question])


def refuse_deeper(application: Application, *questions: str) -> None:
    """Raise `Forbidden`, with what the plan has and what it would need, unless the plan answers them."""
    for question in questions:
        require_depth(application, NEEDED[question])


def asked(
    application: Application,
    *,
    since: str = "",
    until: str = "",
    time_zone: str = "",
    channel_type: str = "",
    campaign_id: UUID | None = None,
    template_id: UUID | None = None,
    now: datetime | None = None,
) -> Asked:
    """Days of the time zone (both included), or instants (the last one is not); the last 30 days unless told.

    Raises `ValidationFailed`, on `from`, `to` or `time_zone`.
    """
    zone = _zone(time_zone or application.time_zone)
    today = (now or timezone.now()).astimezone(zone).date()
    end = _moment(until, "to", zone, is_end=True) if until else _midnight(today + timedelta(days=1), zone)
    if since:
        start = _moment(since, "from", zone)
    else:
        last = (end - timedelta(microseconds=1)).astimezone(zone).date()
        start = _midnight(last - timedelta(days=DAYS_UNLESS_TOLD - 1), zone)
    period = selectors.period_of(since=start, until=end, time_zone=zone.key)
    return Asked(application, period, Which(channel_type, campaign_id, template_id))


def refuse_too_many_hours(question: Asked, interval: str) -> None:
    """Raise `ValidationFailed` for more hours than one answer has."""
    if interval == "hour" and question.period.until - question.period.since > timedelta(days=HOURLY_DAYS_MAX):
        raise ValidationFailed.of("interval", f"by hour at most {HOURLY_DAYS_MAX} days can be asked for")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no name at all, a folder of the database
        raise ValidationFailed.of("time_zone", "is not a time zone such as Asia/Seoul") from None


_YEARS = (1970, 9_990)
"""What can be asked for; near the ends of the calendar, days before and after cannot be counted."""


def _moment(text: str, field: str, zone: ZoneInfo, *, is_end: bool = False) -> datetime:
    """A day, of which the end is meant in `to`; or an instant, of the time zone if it has no offset."""
    try:
        day, instant = parse_date(text), parse_datetime(text)
    except ValueError:  # of the right form, and no such day
        day = instant = None
    named = day or instant
    if named is not None and _YEARS[0] <= named.year <= _YEARS[1]:
        if day is not None:
            return _midnight(day + timedelta(days=1) if is_end else day, zone)
        if instant is not None:
            return (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
    raise ValidationFailed.of(field, "is not a day such as 2026-11-01, nor a time in ISO 8601")


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
