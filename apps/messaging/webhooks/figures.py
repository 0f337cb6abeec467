"""What Prometheus is told of outgoing webhooks: looked up when it asks (`automata_signal.figures`)."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection
from django.utils import timezone

from apps.messaging.webhooks.models import WebhookEndpoint, WebhookReader
from automata_signal.figures import Figure, Sample, Source, register

ENDPOINTS_SHOWN = 50

_LAG = Figure(
    "automata_webhook_lag_seconds",
    "How long the oldest delivery of an active webhook waits; the latest ones only",
    ("application", "webhook"),
)
_READER_AGE = Figure(
    "automata_webhook_reader_age_seconds", "How long ago all events there were had become deliveries of webhooks"
)
_DISABLED = Figure("automata_webhooks_disabled", "Webhooks that were disabled because they failed")

# The first of each lane, by `webhook_delivery_next`.
_LAG_SQL = """
    SELECT e.application_id::text, e.id::text, extract(epoch FROM %(now)s - min(head.created_at))::float8
    FROM messaging_webhooklane l JOIN messaging_webhookendpoint e ON e.id = l.endpoint_id AND e.is_active
    CROSS JOIN LATERAL (
        SELECT d.created_at FROM messaging_webhookdelivery d
        WHERE d.endpoint_id = l.endpoint_id AND d.lane = l.number AND d.state = 'waiting'
        ORDER BY d.sequence LIMIT 1
    ) head
    GROUP BY e.application_id, e.id ORDER BY 3 DESC LIMIT %(rows)s
"""


def _read() -> Iterator[Sample]:
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_LAG_SQL, {"now": now, "rows": ENDPOINTS_SHOWN})
        waiting = cursor.fetchall()
    for application_id, webhook_id, lag_s in waiting:
        yield Sample(_LAG, max(0.0, lag_s), (application_id, webhook_id))
    yield Sample(_DISABLED, WebhookEndpoint.objects.filter(disabled_at__isnull=False).count())
    caught_up_at = WebhookReader.objects.values_list("caught_up_at", flat=True).first()
    if caught_up_at is not None and WebhookEndpoint.objects.exists():
        yield Sample(_READER_AGE, max(0.0, (now - caught_up_at).total_seconds()))


def register_figures() -> None:
    register(Source("webhooks", (_LAG, _READER_AGE, _DISABLED), _read))
