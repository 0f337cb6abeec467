"""Of recipients who are named, those who want a message; the others are told to the caller."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from django.db import connection

from apps.messaging.courtesy.wanted import conditions_of, reason_of
from apps.messaging.models import Purpose
from apps.messaging.named import Named, Skipped

# By the primary key.
_OF_NAMED = """
    SELECT id, reason FROM (
        SELECT s.id, {reason} AS reason FROM subscriptions_subscription s
        WHERE s.application_id = %s AND s.id = ANY(%s::uuid[])
    ) asked WHERE reason IS NOT NULL
"""


def who_want_it(
    application_id: UUID,
    channel: str,
    purpose: str,
    category: str,
    reachable: Sequence[Named],
    *,
    by_id: Collection[UUID],
) -> tuple[list[Named], list[Skipped]]:
    """Of these recipients those who want such a message, and the others with the reason, as they were named: `by_id`
    are those who were named by subscription."""
    if (purpose == Purpose.TRANSACTIONAL and not category) or not reachable:
        return list(reachable), []
    conditions = conditions_of(application_id, channel, purpose, category)
    if not conditions:
        return list(reachable), []
    reason, params = reason_of(conditions)
    with connection.cursor() as cursor:
        ids = [row.id for row in reachable]
        cursor.execute(_OF_NAMED.format(reason=reason), [*params, application_id, ids])
        reasons: dict[UUID, str] = dict(cursor.fetchall())
    wanting = [row for row in reachable if row.id not in reasons]
    reached = {row.external_id for row in wanting}
    skipped: dict[tuple[str, str], Skipped] = {}
    for row in reachable:
        if row.id not in reasons:
            continue
        if row.external_id is None or row.id in by_id:
            one = Skipped("subscription_ids", str(row.id), reasons[row.id])
        elif row.external_id not in reached:
            one = Skipped("external_ids", row.external_id, reasons[row.id])
        else:
            continue
        skipped.setdefault((one.field, one.value), one)
    return wanting, list(skipped.values())
