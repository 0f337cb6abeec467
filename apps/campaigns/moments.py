"""When a campaign is to start: an instant, or a local time in a named zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils import timezone

from automata_signal.errors import ValidationFailed

FARTHEST = timedelta(days=366)
_TOO_FAR = f"lies more than {FARTHEST.days} days ahead"
_YEARS_MAX = 2


class Moment(NamedTuple):
    at: datetime
    """In UTC."""
    time_zone: str
    """The zone in which it was meant and is shown; empty if only an offset was given."""


def scheduled_moment(at: datetime, *, time_zone: str = "", default_time_zone: str = "UTC") -> Moment:
    """The moment meant by `at`, which is an instant if it has an offset and else a local time.

    A local time is read in `time_zone`, or in the application's zone (`default_time_zone`). One that clocks skip in
    spring is refused: whoever planned it has to say what they meant. One that they show twice in autumn is the
    first of the two (as in RFC 5545, section 3.3.5). Raises `ValidationFailed` with `at` or `time_zone`, also for the
    past and for more than a year ahead.
    """
    zone = _zone(time_zone) if time_zone else None
    now = timezone.now()
    if not abs(at.year - now.year) <= _YEARS_MAX:  # the calendar ends at the years 1 and 9999
        raise ValidationFailed.of("at", "lies in the past" if at.year < now.year else _TOO_FAR)
    if at.tzinfo is None:
        time_zone = time_zone or default_time_zone
        at = _localised(at, zone or _zone(time_zone))
    at = at.astimezone(UTC)
    if at <= now:
        raise ValidationFailed.of("at", "lies in the past")
    if at > now + FARTHEST:
        raise ValidationFailed.of("at", _TOO_FAR)
    return Moment(at, time_zone)


def parsed(text: str) -> datetime:
    """ISO 8601 with a date and a time, with or without an offset. Raises `ValidationFailed` with `at`."""
    try:
        at = datetime.fromisoformat(text)
        at.astimezone(UTC)
    except (ValueError, OverflowError):
        at = None
    if at is None or "T" not in text.upper().replace(" ", "T"):
        raise ValidationFailed.of(
            "at", "must be a date and time such as 2026-12-24T09:00:00+09:00, or without the offset for a local time"
        )
    return at


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValidationFailed.of("time_zone", "is not a time zone such as Asia/Seoul") from None


def _localised(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.replace(tzinfo=zone, fold=0)
    there_and_back = local.astimezone(UTC).astimezone(zone)
    if there_and_back.replace(tzinfo=None) != at.replace(fold=0):
        shown = there_and_back.isoformat()
        raise ValidationFailed.of("at", f"does not exist in {zone.key}: clocks go forward; did you mean {shown}?")
    return local
