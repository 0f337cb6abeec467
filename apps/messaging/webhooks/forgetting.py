"""Forgetting deliveries after `WEBHOOK_KEEP_DAYS`: the log, and what could not be delivered, which is counted."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.messaging.stopping import is_stopping
from automata_signal.celery import Task, send_tasks
from automata_signal.ids import first_id_at

SLICE = 5_000
TASK_MAX_S = 20.0

# By the primary key, which has the time in it.
_FORGET = """
WITH old AS (
    SELECT id FROM messaging_webhookdelivery WHERE id < %(before)s ORDER BY id LIMIT %(slice)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM messaging_webhookdelivery d USING old WHERE d.id = old.id
    RETURNING d.endpoint_id, d.state, d.source, cardinality(d.event_ids) AS events, d.replay_of
), lost AS (
    SELECT endpoint_id, sum(events) AS events FROM gone
    WHERE state <> 'delivered' AND replay_of IS NULL AND source <> 'test' GROUP BY 1
), told AS (
    UPDATE messaging_webhookendpoint p SET lost_events = p.lost_events + lost.events, lost_at = %(now)s
    FROM lost WHERE p.id = lost.endpoint_id
)
SELECT count(*) FROM gone
"""


def deliveries_forget(*, max_s: float = TASK_MAX_S, now: datetime | None = None) -> bool:
    """Delete the old ones until none is left or `max_s` are over; True if there are more."""
    now = now or timezone.now()
    ends_at = time.monotonic() + max_s
    before = first_id_at(int((now - timedelta(days=settings.WEBHOOK_KEEP_DAYS)).timestamp() * 1_000))
    while _forget_slice(before, now) == SLICE:
        if time.monotonic() >= ends_at or is_stopping():
            return True
    return False


@transaction.atomic
def _forget_slice(before: UUID, now: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, {"before": before, "slice": SLICE, "now": now})
        (deleted,) = cursor.fetchone()
    return int(deleted)


def queue_forget() -> None:
    """If the broker does not answer, beat's next tick goes on."""
    send_tasks([Task("messaging.forget_webhooks", [], "control")])
