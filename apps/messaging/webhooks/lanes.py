"""Whose turn it is: a lane is one worker's at a time, by a lease, and waits after a failure.

Slow and dead receivers cost turns: of one application no more than `WEBHOOK_POSTS_PER_APPLICATION` lanes are served at
a time, and who was served longest ago comes first.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.messaging.webhooks.models import WebhookLane
from automata_signal.ids import new_id

LEASE_MARGIN_S = 50
"""Beyond the time-out of a POST: for the resolver, which has its own, and for recording."""
FIRST_DELAY_S = 5.0
DELAY_MAX_S = 3_600.0
JITTER = 0.2
CLAIM_LOCK = "webhooks.claim"

# A lane has work when a delivery of it waits: one probe of `webhook_delivery_next` for each lane that may be served.
_READY = """
    SELECT l.id, l.endpoint_id, l.number, l.served_at, e.application_id
    FROM messaging_webhooklane l JOIN messaging_webhookendpoint e ON e.id = l.endpoint_id
    WHERE e.is_active AND (l.retry_at IS NULL OR l.retry_at <= %(now)s)
      AND (l.lease_until IS NULL OR l.lease_until <= %(now)s)
      AND EXISTS (SELECT FROM messaging_webhookdelivery d
                  WHERE d.endpoint_id = l.endpoint_id AND d.lane = l.number AND d.state = 'waiting')
"""
_CLAIM = f"""
    WITH ready AS ({_READY}), held AS (
        SELECT e.application_id, count(*) AS lanes
        FROM messaging_webhooklane l JOIN messaging_webhookendpoint e ON e.id = l.endpoint_id
        WHERE l.lease_until > %(now)s GROUP BY 1
    ), queue AS (
        SELECT r.id, r.served_at, coalesce(h.lanes, 0)
               + row_number() OVER (PARTITION BY r.application_id ORDER BY r.served_at NULLS FIRST, r.id) AS turn
        FROM ready r LEFT JOIN held h ON h.application_id = r.application_id
    ), chosen AS (
        SELECT id FROM queue WHERE turn <= %(per_application)s ORDER BY served_at NULLS FIRST, id LIMIT %(limit)s
    )
    UPDATE messaging_webhooklane l
    SET lease_id = %(lease_id)s, lease_until = %(until)s, served_at = %(now)s
    FROM chosen WHERE l.id = chosen.id
    RETURNING l.id, l.endpoint_id, l.number
"""


class Lane(NamedTuple):
    """A lane that is ours until its lease ends."""

    id: UUID
    endpoint_id: UUID
    number: int
    lease_id: UUID


def lanes_claim(*, limit: int) -> list[Lane]:
    """Lanes with something to deliver, for the caller alone. Claims come one after the other and count each other."""
    now, lease_id = timezone.now(), new_id()
    parameters: dict[str, Any] = {
        "now": now,
        "until": _lease_end(now),
        "lease_id": lease_id,
        "limit": limit,
        "per_application": settings.WEBHOOK_POSTS_PER_APPLICATION,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [CLAIM_LOCK])
        cursor.execute(_CLAIM, parameters)
        claimed: list[tuple[UUID, UUID, int]] = cursor.fetchall()
    return [Lane(key, endpoint_id, number, lease_id) for key, endpoint_id, number in claimed]


def is_anything_ready() -> bool:
    """Whether a lane could be claimed now."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS ({_READY})", {"now": timezone.now()})
        (answer,) = cursor.fetchone()
    return bool(answer)


def lane_renew(lane: Lane) -> bool:
    """Hold it for another POST; False if it is another worker's by now, and nothing of it may be sent."""
    now = timezone.now()
    ours = WebhookLane.objects.filter(pk=lane.id, lease_id=lane.lease_id)
    return bool(ours.update(lease_until=_lease_end(now), served_at=now))


def lane_release(lane: Lane, *, retry_at: datetime | None = None) -> None:
    """Give it back: its next delivery is due at `retry_at`, or now."""
    ours = WebhookLane.objects.filter(pk=lane.id, lease_id=lane.lease_id)
    ours.update(lease_id=None, lease_until=None, retry_at=retry_at)


def _lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.OUTGOING_TIMEOUT_S + LEASE_MARGIN_S)


def delay_s(attempt: int) -> float:
    """Seconds until the next attempt, after `attempt` (1 the first): exponential with jitter."""
    exponential: float = min(FIRST_DELAY_S * 2 ** min(attempt - 1, 20), DELAY_MAX_S)
    return exponential * (1 + random.random() * JITTER)
