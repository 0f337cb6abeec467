"""Hours as the clocks of applications show them, which may be half an hour or a quarter off UTC's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone

from apps.tenants.models import Application

HOUR = timedelta(hours=1)


def zone_of(time_zone: str) -> ZoneInfo:
    """The zone of this name; UTC for one that this machine does not know, so that one application stops nobody."""
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def shift_of(time_zone: str) -> timedelta:
    """How far the clocks of a zone are off the whole hour, now."""
    return (timezone.now().astimezone(zone_of(time_zone)).utcoffset() or timedelta()) % HOUR


def hour_of(application: Application, moment: datetime) -> datetime:
    """When the hour of `moment` began by the clock of the application; the rollups' `hour`, in UTC."""
    shift = shift_of(application.time_zone)
    return (moment.astimezone(UTC) + shift).replace(minute=0, second=0, microsecond=0) - shift


def shifted_clocks() -> dict[UUID, timedelta]:
    """The shifts of all applications that have one: those of India, Nepal, …"""
    zones = list(Application.objects.values_list("pk", "time_zone"))
    shifts = {name: shift_of(name) for name in {name for _, name in zones}}
    return {key: shifts[name] for key, name in zones if shifts[name]}
