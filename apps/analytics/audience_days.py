"""How many users and subscriptions there are and were active, taken from the rows each day of a calendar.

A day's row is taken again every few hours while the day lasts, and once more when it has ended: that one stays. Whoever
is active between midnight and then counts too, so it is taken soon or not at all.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from apps.analytics.clocks import zone_of
from apps.analytics.models.rollups import AudienceDay
from apps.messaging.stopping import is_stopping
from apps.tenants.models import Application
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

AGAIN_AFTER = timedelta(hours=3)
LATE_MAX = timedelta(hours=6)
"""So long after midnight the day before can still be told."""
STATEMENT_MAX_S = 600
TASK_MAX_S = 120.0


def audience_days_take(*, now: datetime | None = None, max_s: float = TASK_MAX_S) -> int:
    """Take what is due, a day of an application in a transaction; returns how many. Safe to run twice, and to stop."""
    now = now or timezone.now()
    ends_at = time.monotonic() + max_s
    taken = 0
    for application in Application.objects.filter(is_active=True).order_by("id"):
        for day in _due_days(application, now):
            audience_day_take(application=application, day=day, now=now)
            taken += 1
        if time.monotonic() >= ends_at or is_stopping():
            break
    return taken


def _due_days(application: Application, now: datetime) -> list[date]:
    """Yesterday, unless it was taken after it ended; today, unless it was taken a while ago."""
    today = now.astimezone(zone_of(application.time_zone)).date()
    yesterday = today - timedelta(days=1)
    begins = _midnight(application, today)
    rows = AudienceDay.objects.for_application(application).filter(day__in=(yesterday, today), subscription_type="")
    taken_at = dict(rows.values_list("day", "taken_at"))
    due = []
    if now - begins < LATE_MAX and taken_at.get(yesterday, _LONG_AGO) < begins:
        due.append(yesterday)
    if taken_at.get(today, _LONG_AGO) < now - AGAIN_AFTER:
        due.append(today)
    return due


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _midnight(application: Application, day: date) -> datetime:
    """When a day begins, by the clock of the application."""
    return datetime(day.year, day.month, day.day, tzinfo=zone_of(application.time_zone)).astimezone(UTC)


@transaction.atomic
def audience_day_take(*, application: Application, day: date, now: datetime) -> None:
    """Count the application's users and subscriptions, each read once, and keep it as the day's row."""
    limit_statements(STATEMENT_MAX_S)
    parameters: dict[str, Any] = {
        "application_id": application.pk,
        "day": day,
        "now": now,
        "day_1": _midnight(application, day),
        "day_7": _midnight(application, day - timedelta(days=6)),
        "day_30": _midnight(application, day - timedelta(days=29)),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE.format(kind="type", group="GROUP BY type", rows=_SUBSCRIPTIONS), parameters)
        cursor.execute(_TAKE.format(kind="''", group="", rows=_USERS), parameters)


_SUBSCRIPTIONS = """
    SELECT type, subscription_status > 0 AS is_reachable, last_active_at FROM subscriptions_subscription
    WHERE application_id = %(application_id)s AND NOT is_archived
"""
# A user is active by a login, or by any of the devices.
_USERS = """
    SELECT greatest(u.last_active_at, max(s.last_active_at)) AS last_active_at,
           coalesce(bool_or(s.subscription_status > 0), false) AS is_reachable
    FROM subscriptions_appuser u
         LEFT JOIN subscriptions_subscription s
                ON s.user_id = u.id AND s.application_id = u.application_id AND NOT s.is_archived
    WHERE u.application_id = %(application_id)s AND NOT u.is_archived
    GROUP BY u.id
"""
_TAKE = """
    INSERT INTO analytics_audienceday
        (application_id, day, subscription_type, total, reachable, active_1d, active_7d, active_30d, taken_at)
    SELECT %(application_id)s, %(day)s, {kind}, count(*), count(*) FILTER (WHERE is_reachable),
           count(*) FILTER (WHERE last_active_at >= %(day_1)s), count(*) FILTER (WHERE last_active_at >= %(day_7)s),
           count(*) FILTER (WHERE last_active_at >= %(day_30)s), %(now)s
    FROM ({rows}) r {group}
    ON CONFLICT (application_id, day, subscription_type) DO UPDATE
    SET total = excluded.total, reachable = excluded.reachable, active_1d = excluded.active_1d,
        active_7d = excluded.active_7d, active_30d = excluded.active_30d, taken_at = excluded.taken_at
"""
