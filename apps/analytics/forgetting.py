"""Rollups have a retention of their own (`ROLLUP_RETENTION_DAYS`); that of messages does not touch them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction
from django.utils import timezone

from apps.analytics.models.rollups import (
    AudienceDay,
    DeviceHour,
    DimensionValue,
    MessageHour,
    SdkHour,
    SubscriptionHour,
    WaitHour,
)
from apps.messaging.stopping import is_stopping
from apps.tenants.models import Application

log = logging.getLogger(__name__)

SLICE_ROWS = 20_000
"""Deleted in one transaction."""
_MOMENTS: dict[type[models.Model], str] = {
    **dict.fromkeys((MessageHour, DeviceHour, WaitHour, SubscriptionHour, SdkHour), "hour"),
    AudienceDay: "day",
    DimensionValue: "month",
}


def rollups_forget(*, now: datetime | None = None) -> int:
    """Delete the rollups that are older than they are kept, slice by slice; returns how many rows."""
    if not settings.ROLLUP_RETENTION_DAYS:
        return 0
    before = (now or timezone.now()) - timedelta(days=settings.ROLLUP_RETENTION_DAYS)
    deleted = 0
    for application_id in Application.objects.values_list("pk", flat=True):
        for model, column in _MOMENTS.items():
            bound = before if column == "hour" else before.date()
            while (found := _forget(model._meta.db_table, column, [application_id, bound, SLICE_ROWS])) and (
                not is_stopping()
            ):
                deleted += found
    if deleted:
        log.info("old statistics were deleted", extra={"rows": deleted})
    return deleted


@transaction.atomic
def _forget(table: str, column: str, parameters: list[Any]) -> int:
    """By the primary key, which begins with the application."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("
            f"SELECT ctid FROM {table} WHERE application_id = %s AND {column} < %s LIMIT %s))",
            parameters,
        )
        return int(cursor.rowcount)
