"""What a slice of a campaign does to its subscriptions: one statement each, however many they are.

Both lock their rows in the order of their ids before they change any. Two slices that share subscriptions would
otherwise wait for each other (architecture, section 6: 109 deadlocks in 180 batches unsorted, none sorted).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.subscriptions.preferences.refusals import refusals_record
from apps.subscriptions.status import Setter, may_set
from automata_signal.ids import new_id
from automata_signal.prepared import prepared_cursor


class SubscriptionEnd(NamedTuple):
    """A provider's word that an address is no longer reachable."""

    subscription_id: UUID
    status: int
    reason: str
    """The provider's own, such as `Unregistered`."""
    gone_at: datetime | None = None
    """When the provider knew (APNs 410 tells). A token that the device registered after that is alive."""
    event_id: UUID | None = None


# The guards are read again on each row after its lock is had, so a row that another slice has just ended, or whose
# device has just registered again, is left alone.
_END = """
WITH ends AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(statuses)s::smallint[], %(reasons)s::text[], %(gone_at)s::timestamptz[],
                       %(event_ids)s::uuid[]) AS e (id, status, reason, gone_at, event_id)
), locked AS (
  SELECT s.id, s.user_id, s.type, s.subscription_status AS old_status, e.status, e.reason, e.event_id
  FROM subscriptions_subscription s JOIN ends e ON e.id = s.id
  WHERE s.application_id = %(application_id)s AND s.subscription_status > 0
    AND (e.gone_at IS NULL OR s.token_registered_at <= e.gone_at)
  ORDER BY s.id
  FOR NO KEY UPDATE OF s
), ended AS (
  UPDATE subscriptions_subscription s
  SET subscription_status = l.status, status_source = 'provider', unsubscribed_at = %(occurred_at)s, updated_at = now()
  FROM locked l WHERE s.id = l.id AND s.application_id = %(application_id)s
  RETURNING l.*
)
INSERT INTO subscriptions_subscriptionevent
  (id, application_id, subscription_id, user_id, event_type, channel, source, reason, old_status, new_status,
   occurred_at, position)
SELECT event_id, %(application_id)s, id, user_id, 'unsubscribed', type, 'provider', left(reason, 200), old_status,
       status, %(occurred_at)s, (SELECT event_position())
FROM ended ORDER BY event_id
"""


class Strike(NamedTuple):
    """A failure of a subscription that ends it only when it repeats: a full mailbox, a phone that is off."""

    subscription_id: UUID
    status: int
    """What it ends with."""
    reason: str


# One more in a row; the first again if the last one is long ago. As in `_END`, locked in the order of ids.
_STRIKE = """
WITH strikes AS (
  SELECT * FROM unnest(%(ids)s::uuid[]) AS k (id)
), locked AS (
  SELECT s.id FROM subscriptions_subscription s JOIN strikes k ON k.id = s.id
  WHERE s.application_id = %(application_id)s AND s.subscription_status > 0
  ORDER BY s.id FOR NO KEY UPDATE OF s
)
UPDATE subscriptions_subscription s
SET soft_failures = CASE WHEN s.soft_failed_at > %(since)s THEN least(s.soft_failures + 1, 32000) ELSE 1 END,
    soft_failed_at = %(occurred_at)s
FROM locked l WHERE s.id = l.id AND s.application_id = %(application_id)s
RETURNING s.id, s.soft_failures
"""
# By primary key; written only where there is something to forget.
_FORGIVE = """
UPDATE subscriptions_subscription SET soft_failures = 0
WHERE application_id = %(application_id)s AND id = ANY(%(ids)s::uuid[]) AND soft_failures > 0
"""

_COUNT = """
WITH counts AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(received)s::int[], %(converted)s::int[]) AS c (id, received, converted)
), locked AS (
  SELECT s.id, c.received, c.converted
  FROM subscriptions_subscription s JOIN counts c ON c.id = s.id
  WHERE s.application_id = %(application_id)s
  ORDER BY s.id
  FOR NO KEY UPDATE OF s
)
UPDATE subscriptions_subscription s
SET total_messages_received = s.total_messages_received + l.received,
    total_messages_converted = s.total_messages_converted + l.converted,
    last_active_at = greatest(s.last_active_at, %(last_active_at)s)
FROM locked l WHERE s.id = l.id AND s.application_id = %(application_id)s
"""


def subscriptions_end(*, ends: Iterable[SubscriptionEnd], application_id: UUID, occurred_at: datetime) -> int:
    """End what a provider says is gone, with an event each; answer with how many were ended. What a hard bounce, a
    complaint or a refusal means besides is `refusals_record`.

    Left alone: subscriptions that had ended before (a person's -22 and -31 among them), other applications', and those
    whose token was registered after `gone_at`. Of several ends of one subscription the first counts.
    """
    first: dict[UUID, SubscriptionEnd] = {}
    for end in ends:
        if end.status > 0 or not may_set(end.status, Setter.PROVIDER):
            raise ValueError(f"{end.status} is not a status that a provider may set")
        first.setdefault(end.subscription_id, end)
    if not first:
        return 0
    rows = [first[subscription_id] for subscription_id in sorted(first)]
    values: dict[str, Any] = {
        "ids": [row.subscription_id for row in rows],
        "statuses": [int(row.status) for row in rows],
        "reasons": [row.reason for row in rows],
        "gone_at": [row.gone_at for row in rows],
        "event_ids": [row.event_id or new_id() for row in rows],
        "application_id": application_id,
        "occurred_at": occurred_at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_END, values)
        ended = int(cursor.rowcount)
    statuses = {row.subscription_id: int(row.status) for row in rows}
    refusals_record(application_id=application_id, statuses=statuses, at=occurred_at)
    return ended


def subscriptions_strike(*, strikes: Iterable[Strike], application_id: UUID, occurred_at: datetime) -> int:
    """Count a soft failure for each, and end those that have had `SOFT_FAILURES_MAX` in a row, none of them more than
    `SOFT_FAILURE_DAYS` after the one before; answer with how many were ended."""
    by_id = {strike.subscription_id: strike for strike in strikes}
    if not by_id:
        return 0
    values: dict[str, Any] = {
        "ids": sorted(by_id),
        "application_id": application_id,
        "occurred_at": occurred_at,
        "since": occurred_at - timedelta(days=settings.SOFT_FAILURE_DAYS),
    }
    with connection.cursor() as cursor:
        cursor.execute(_STRIKE, values)
        out = [by_id[row[0]] for row in cursor.fetchall() if row[1] >= settings.SOFT_FAILURES_MAX]
    ends = [SubscriptionEnd(s.subscription_id, s.status, f"repeated: {s.reason}") for s in out]
    subscriptions_forgive(subscription_ids=[end.subscription_id for end in ends], application_id=application_id)
    return subscriptions_end(ends=ends, application_id=application_id, occurred_at=occurred_at)


def subscriptions_forgive(*, subscription_ids: Iterable[UUID | str], application_id: UUID) -> None:
    """Something has arrived: failures are counted from the beginning."""
    ids = sorted(str(subscription_id) for subscription_id in subscription_ids)
    if ids:
        with connection.cursor() as cursor:
            cursor.execute(_FORGIVE, {"application_id": application_id, "ids": _array(ids)})


def subscriptions_count_receipts(
    *,
    received: Mapping[UUID, int] | Mapping[str, int],
    converted: Mapping[UUID, int] | Mapping[str, int],
    last_active_at: datetime | None,
    application_id: UUID,
) -> int:
    """Add to the subscriptions' counters; answer with how many subscriptions there were.

    `last_active_at` only moves forward, and not into the future, whatever a device's clock says; None leaves it. Other
    applications' subscriptions are left alone.
    """
    received_by = {str(key): count for key, count in received.items()}
    converted_by = {str(key): count for key, count in converted.items()}
    ids = sorted({*received_by, *converted_by})
    if not ids:
        return 0
    values: dict[str, Any] = {
        "ids": _array(ids),
        "received": _array(str(received_by.get(key, 0)) for key in ids),
        "converted": _array(str(converted_by.get(key, 0)) for key in ids),
        "last_active_at": last_active_at and min(last_active_at, timezone.now()),
        "application_id": application_id,
    }
    with prepared_cursor() as cursor:
        cursor.execute(_COUNT, values)
        return int(cursor.rowcount)


def _array(values: Iterable[str]) -> str:
    """PostgreSQL's text of an array of ids or numbers; a list would be adapted value by value."""
    return f"{{{','.join(values)}}}"


# Oldest first, by `subscription_event_by_app`; the rows by their primary key.
_FORGET = """
DELETE FROM subscriptions_subscriptionevent WHERE application_id = %(application_id)s AND id = ANY(ARRAY(
  SELECT id FROM subscriptions_subscriptionevent
  WHERE application_id = %(application_id)s AND id < %(before_id)s ORDER BY id LIMIT %(limit)s
))
"""


def subscription_events_forget(*, application_id: UUID, before_id: UUID, limit: int) -> int:
    """Delete the application's oldest events from before `before_id`, `limit` at most; answer with how many."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, {"application_id": application_id, "before_id": before_id, "limit": limit})
        return int(cursor.rowcount)
