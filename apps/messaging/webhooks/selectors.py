"""Reading webhooks: endpoints, what was delivered to them, and what waits."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from apps.messaging.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.tenants.models import Application
from automata_signal.errors import NotFound

COUNT_MAX = 10_000


def endpoints_of(application: Application) -> QuerySet[WebhookEndpoint]:
    """Without their secrets."""
    return WebhookEndpoint.objects.for_application(application).defer("secret", "previous_secret")


def endpoint_get(*, application: Application, webhook_id: UUID) -> WebhookEndpoint:
    """Raise `NotFound`."""
    endpoint = endpoints_of(application).filter(pk=webhook_id).first()
    if endpoint is None:
        raise NotFound("There is no such webhook.")
    return endpoint


def deliveries_of(endpoint: WebhookEndpoint, *, state: str | None = None) -> QuerySet[WebhookDelivery]:
    """Its log, with what waits. Index: `webhook_delivery_of`."""
    rows = WebhookDelivery.objects.filter(application_id=endpoint.application_id, endpoint=endpoint)
    return rows.filter(state=state) if state else rows


def delivery_get(*, endpoint: WebhookEndpoint, delivery_id: UUID) -> WebhookDelivery:
    """Raise `NotFound`."""
    delivery = deliveries_of(endpoint).filter(pk=delivery_id).first()
    if delivery is None:
        raise NotFound("There is no such delivery.")
    delivery.endpoint = endpoint
    return delivery


class Backlog(NamedTuple):
    """What waits for an endpoint."""

    deliveries: int
    """`COUNT_MAX` at most."""
    oldest_at: datetime | None


# By `webhook_delivery_next`: the first of each lane, and no more of them than are counted.
_BACKLOG = """
    SELECT (SELECT count(*) FROM (SELECT FROM messaging_webhookdelivery
                                  WHERE endpoint_id = %(id)s AND state = 'waiting' LIMIT %(max)s) d),
           (SELECT min(head.created_at) FROM messaging_webhooklane l CROSS JOIN LATERAL (
                SELECT created_at FROM messaging_webhookdelivery d
                WHERE d.endpoint_id = l.endpoint_id AND d.lane = l.number AND d.state = 'waiting'
                ORDER BY d.sequence LIMIT 1) head
            WHERE l.endpoint_id = %(id)s)
"""


def backlog_of(endpoint: WebhookEndpoint) -> Backlog:
    parameters: dict[str, Any] = {"id": endpoint.pk, "max": COUNT_MAX}
    with connection.cursor() as cursor:
        cursor.execute(_BACKLOG, parameters)
        return Backlog(*cursor.fetchone())
