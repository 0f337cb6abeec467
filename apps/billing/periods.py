"""Days and months of an application: those of its own time zone, as quotas and statements count them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo


class Period(NamedTuple):
    """From `began_at` until before `ends_at`. A day is 23 or 25 hours long where clocks are changed."""

    began_at: datetime
    ends_at: datetime


def day_of(moment: datetime, zone: ZoneInfo) -> Period:
    """The local day that the moment is in."""
    midnight = moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return Period(midnight, midnight + timedelta(days=1))  # wall-clock time: the next midnight, whatever lies between


def month_of(moment: datetime, zone: ZoneInfo) -> Period:
    """The local month that the moment is in."""
    began_at = day_of(moment, zone).began_at.replace(day=1, fold=0)
    return Period(began_at, (began_at + timedelta(days=32)).replace(day=1))
