"""What a slice of a campaign does to its subscriptions: one statement each, however many they are.

Both lock their rows in the order of their ids before they change any. Two slices that share subscriptions would
otherwise wait for each other (architecture, section 6: 109 deadlocks in 180 batches unsorted, none sorted).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

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
    last_active_at = greatest(s.last_active_at, least(%(last_active_at)s, now()))
FROM locked l WHERE s.id = l.id AND s.application_id = %(application_id)s
"""


def subscriptions_end(*, ends: Iterable[SubscriptionEnd], application_id: UUID, occurred_at: datetime) -> int:
    """End what a provider says is gone, with an event each; answer with how many were ended.

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
        return int(cursor.rowcount)


def subscriptions_count_receipts(
    *,
    received: Mapping[UUID, int] | Mapping[str, int],
    converted: Mapping[UUID, int] | Mapping[str, int],
    last_active_at: datetime,
    application_id: UUID,
) -> int:
    """Add to the subscriptions' counters; answer with how many subscriptions there were.

    `last_active_at` only moves forward, and not into the future, whatever a device's clock says. Other
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
        "last_active_at": last_active_at,
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
