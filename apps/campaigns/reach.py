"""An audience while it is being put together: how many on each channel, and who, for instance."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.db import connection

from apps.campaigns.audience import compiled, freeze
from apps.messaging.adapters.registry import CHANNELS
from apps.subscriptions.models import Subscription
from apps.subscriptions.targeting import REACHABLE, Criteria
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.caches import AUDIENCE_COUNTS, cached

SAMPLE_SIZE = 5


def audience_by_channel(application: Application, criteria: object) -> dict[str, int]:
    """Subscriptions that a send could reach, for every channel, as of now or a little before.

    One statement; index `subscription_reachable`, with those of the criteria. Raises `ValidationFailed` with the place
    below `criteria`.
    """
    predicate = compiled(application, criteria, field="criteria")
    asked = {"channel": "every", "criteria": freeze(application, cast(Criteria, criteria))}

    def count() -> dict[str, int]:
        sql = (
            f"SELECT s.type, count(*) FROM {predicate.from_clause} WHERE s.application_id = %s AND s.type = ANY(%s)"
            f" AND {REACHABLE} AND ({predicate.sql}) GROUP BY s.type"
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, [application.pk, list(CHANNELS), *predicate.params])
            by_type = dict(cursor.fetchall())
        counts = dict.fromkeys(ChannelType.values, 0)
        for subscription_type, subscriptions in by_type.items():
            counts[CHANNELS[subscription_type].channel] += subscriptions
        return counts

    return cached(AUDIENCE_COUNTS, application.pk, asked, count)


def audience_examples(application: Application, criteria: object, channel_type: str) -> list[Subscription]:
    """The newest of an audience, with their users; on every channel if none is named. Raises `ValidationFailed`."""
    predicate = compiled(application, criteria, field="criteria")
    types = [name for name, reach in CHANNELS.items() if channel_type in ("", reach.channel)]
    sql = (
        f"SELECT s.id FROM {predicate.from_clause} WHERE s.application_id = %s AND s.type = ANY(%s)"
        f" AND {REACHABLE} AND ({predicate.sql}) ORDER BY s.id DESC LIMIT {SAMPLE_SIZE:d}"
    )
    params: list[Any] = [application.pk, types, *predicate.params]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        ids: list[UUID] = [row[0] for row in cursor.fetchall()]
    rows = Subscription.objects.for_application(application).defer("token").select_related("user")
    return list(rows.filter(pk__in=ids).order_by("-pk"))
