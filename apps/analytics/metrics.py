"""The metrics, as a table: what each rollup is counted from, by what, and what is counted.

`apps.analytics.statements` makes the SQL of the fills and of the rebuild from it, so both give the same numbers.
A source is read once a step into `facts`: one row for all events that are alike, with `n`, how many they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from apps.analytics.models.rollups import DEVICE_DIMENSIONS, Dimension

WAIT_BOUNDS_S = (
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600),
    *(7_200, 14_400, 28_800, 43_200, 86_400, 172_800, 345_600, 604_800),
)
"""Bounds of the buckets of `WaitHour`, seconds: bucket 0 is below the first, the last one is open."""
INITIALISATION_BOUNDS_MS = (20, 50, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000)
"""Bounds of the buckets of the SDK's initialisation, milliseconds."""
VALUES_MAX = {
    Dimension.COUNTRY: 250,
    Dimension.DEVICE_MODEL: 200,
    Dimension.OS: 100,
    Dimension.APP_VERSION: 100,
    Dimension.SDK_VERSION: 50,
    Dimension.SDK_ERROR: 100,
}
"""How many values of a dimension an application has in a month, each told apart; what comes later is `OTHER`."""
OTHER = "other"


class Source(StrEnum):
    """The tables of events, each with a watermark of its own."""

    MESSAGES = "messages"
    SUBSCRIPTIONS = "subscriptions"


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of counts. Expressions are SQL over `facts f`; those of measures are aggregates."""

    table: str
    source: Source
    dimensions: dict[str, str]
    """Column and expression; together the key of the table."""
    measures: dict[str, str]
    joins: str = ""
    where: str = "true"


def counted(condition: str) -> str:
    """The events of `facts` for which this is true."""
    return f"coalesce(sum(f.n) FILTER (WHERE {condition}), 0)::bigint"


def _in_state(state: str) -> str:
    return counted(f"f.event_type = '{state}'")


_PROGRESS = {
    "sent": _in_state("successful"),
    "failed": _in_state("failed"),
    "received": _in_state("received"),
    "converted": _in_state("converted"),
}
_OF_DEVICES = ", ".join(f"('{dimension}', f.{dimension})" for dimension in DEVICE_DIMENSIONS)

ROLLUPS = (
    Rollup(
        table="analytics_messagehour",
        source=Source.MESSAGES,
        dimensions={
            "application_id": "f.application_id",
            "hour": "f.hour",
            "channel_type": "f.channel_type",
            "campaign_id": "f.campaign_id",
            "template_id": "f.template_id",
            "reason": "f.reason",
        },
        measures={**_PROGRESS, "errored": _in_state("errored"), "retried": _in_state("pending")},
    ),
    Rollup(
        table="analytics_devicehour",
        source=Source.MESSAGES,
        dimensions={
            "application_id": "f.application_id",
            "dimension": "d.dimension",
            "hour": "f.hour",
            "channel_type": "f.channel_type",
            "value": "CASE WHEN {is_told_apart} THEN d.value ELSE '" + OTHER + "' END",
        },
        measures=_PROGRESS,
        joins=f"CROSS JOIN LATERAL (VALUES {_OF_DEVICES}) AS d(dimension, value)",
        where="f.event_type IN ('successful', 'failed', 'received', 'converted')",
    ),
    Rollup(
        table="analytics_waithour",
        source=Source.MESSAGES,
        dimensions={
            "application_id": "f.application_id",
            "wait": "CASE f.event_type WHEN 'received' THEN 'receipt' ELSE 'open' END",
            "hour": "f.hour",
            "channel_type": "f.channel_type",
            "campaign_id": "f.campaign_id",
            "bucket": "f.bucket",
        },
        measures={"messages": "sum(f.n)::bigint"},
        where="f.bucket IS NOT NULL",
    ),
    Rollup(
        table="analytics_subscriptionhour",
        source=Source.SUBSCRIPTIONS,
        dimensions={
            "application_id": "f.application_id",
            "hour": "f.hour",
            "subscription_type": "f.subscription_type",
            "source": "f.source",
            "status": "f.status",
        },
        measures={
            "registered": counted("f.event_type = 'registered'"),
            "gained": counted("f.event_type = 'subscribed'"),
            "lost": counted("f.event_type = 'unsubscribed'"),
        },
        where="f.event_type IN ('registered', 'subscribed', 'unsubscribed')",
    ),
)


def rollups_of(source: Source) -> tuple[Rollup, ...]:
    return tuple(rollup for rollup in ROLLUPS if rollup.source is source)
