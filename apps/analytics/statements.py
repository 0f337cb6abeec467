"""The SQL that counts a window of events: one statement for each source, made from `apps.analytics.metrics`.

It reads the events whose `position` is in the window, finds what they are about, groups what is alike (`facts`), and
adds the groups to the rollups. The fills and a rebuild run the same text; a rebuild adds to tables of its own.
"""

from __future__ import annotations

from functools import cache

from apps.analytics.metrics import VALUES_MAX, WAIT_BOUNDS_S, Rollup, Source, rollups_of
from apps.analytics.models.rollups import DEVICE_DIMENSIONS, NOBODY, VALUE_MAX

EVENT_TABLES = {
    Source.MESSAGES: "messaging_messageevent",
    Source.SUBSCRIPTIONS: "subscriptions_subscriptionevent",
}

# Looked up by key, event by event: the OFFSET keeps PostgreSQL from joining tables, of which one would be read whole.
_LOOKED_UP = "OFFSET 0"
# Only the named applications, from an hour of each on; a fill names none and takes all.
_OF_A_REBUILD = """
    JOIN unnest(%(applications)s::uuid[], %(begins)s::timestamptz[]) AS b(application_id, begins)
      ON b.application_id = e.application_id AND e.occurred_at >= b.begins
"""
# Clocks that are half an hour off, by application; few are.
_CLOCKS = """
    LEFT JOIN unnest(%(shifted)s::uuid[], %(shifts)s::interval[]) AS c(application_id, shift)
      ON c.application_id = e.application_id
"""
_HOUR = """date_trunc('hour', e.occurred_at + coalesce(c.shift, '0'), 'UTC') - coalesce(c.shift, '0')"""

_EVENTS = """
    events AS MATERIALIZED (
        SELECT e.*, {hour} AS hour FROM {table} e {rebuild} {clocks}
        WHERE e.position >= %(low)s AND e.position < %(high)s
    )
"""


def _first_part(text: str) -> str:
    """A reason without what follows a colon: what a template lacked differs from message to message."""
    return f"left(split_part(coalesce({text}, ''), ':', 1), 100)"


_BOUNDS = ", ".join(f"{bound:g}" for bound in WAIT_BOUNDS_S)
_MESSAGE_FACTS = f"""
    alike AS MATERIALIZED (
        SELECT e.application_id, e.hour, e.event_type::text AS event_type, m.channel_type, m.campaign_id, m.dispatch_id,
               CASE e.event_type WHEN 'failed' THEN {_first_part("m.error_reason")}
                                 WHEN 'errored' THEN {_first_part("e.metadata->>'reason'")} ELSE '' END AS reason,
               CASE WHEN e.event_type IN ('received', 'converted') AND m.sent_at IS NOT NULL
                    THEN width_bucket(extract(epoch FROM e.occurred_at - m.sent_at)::float8, ARRAY[{_BOUNDS}]::float8[])
               END AS bucket,
               coalesce(s.country_code, '')::text AS country,
               left(coalesce(s.device_model, ''), {VALUE_MAX}) AS device_model,
               left(trim(CASE s.type WHEN 'iOSPush' THEN 'iOS ' WHEN 'AndroidPush' THEN 'Android ' ELSE '' END
                         || coalesce(s.device_os, '')), {VALUE_MAX}) AS os,
               left(coalesce(s.app_version, ''), {VALUE_MAX}) AS app_version,
               count(*) AS n
        FROM events e
             CROSS JOIN LATERAL (
                 SELECT channel_type, campaign_id, dispatch_id, subscription_id, error_reason, sent_at
                 FROM messaging_message WHERE id = e.message_id AND application_id = e.application_id {_LOOKED_UP}
             ) m
             LEFT JOIN LATERAL (
                 SELECT type, country_code, device_model, device_os, app_version FROM subscriptions_subscription
                 WHERE id = m.subscription_id AND application_id = e.application_id {_LOOKED_UP}
             ) s ON true
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    ), facts AS MATERIALIZED (
        SELECT a.application_id, a.hour, a.event_type, a.channel_type, a.reason, a.bucket, a.country, a.device_model,
               a.os, a.app_version, a.n, coalesce(a.campaign_id, '{NOBODY}') AS campaign_id,
               coalesce(t.template_id, '{NOBODY}') AS template_id,
               date_trunc('month', a.hour AT TIME ZONE 'UTC')::date AS month
        FROM alike a
             LEFT JOIN LATERAL (
                 SELECT v.template_id
                 FROM messaging_dispatch d JOIN messaging_messagetemplateversion v ON v.id = d.template_version_id
                 WHERE d.id = a.dispatch_id AND d.application_id = a.application_id {_LOOKED_UP}
             ) t ON true
    )
"""
_SUBSCRIPTION_FACTS = """
    facts AS MATERIALIZED (
        SELECT e.application_id, e.hour, e.event_type::text AS event_type, e.channel AS subscription_type, e.source,
               coalesce(e.new_status, 0)::smallint AS status, count(*) AS n
        FROM events e GROUP BY 1, 2, 3, 4, 5, 6
    )
"""

# Values that are new this month are admitted while there is room, the most frequent first (`DimensionValue`).
_VALUES = """
    seen AS MATERIALIZED (
        SELECT f.application_id, f.month, d.dimension, d.value, sum(f.n) AS n
        FROM facts f CROSS JOIN LATERAL (VALUES {values}) AS d(dimension, value)
        WHERE d.value <> '' AND f.event_type IN ('successful', 'failed', 'received', 'converted') GROUP BY 1, 2, 3, 4
    ), known AS MATERIALIZED (
        SELECT v.application_id, v.month, v.dimension::text, v.value::text FROM analytics_dimensionvalue v
        WHERE (v.application_id, v.month, v.dimension) IN (SELECT application_id, month, dimension FROM seen)
    ), admitted AS (
        INSERT INTO analytics_dimensionvalue (application_id, month, dimension, value)
        SELECT application_id, month, dimension, value FROM (
            SELECT s.*, row_number() OVER (
                PARTITION BY application_id, month, dimension ORDER BY n DESC, value
            ) AS place
            FROM seen s WHERE (application_id, month, dimension, value) NOT IN (SELECT * FROM known)
        ) s LEFT JOIN (
            SELECT application_id, month, dimension, count(*) AS there FROM known GROUP BY 1, 2, 3
        ) k USING (application_id, month, dimension)
        WHERE s.place + coalesce(k.there, 0) <= (%(values_max)s::jsonb ->> s.dimension)::int
        RETURNING application_id, month, dimension::text, value::text
    ), told_apart AS MATERIALIZED (
        SELECT * FROM known UNION ALL SELECT * FROM admitted
    )
"""
_IS_TOLD_APART = "d.value = '' OR (f.application_id, f.month, d.dimension, d.value) IN (SELECT * FROM told_apart)"


def values_max() -> dict[str, int]:
    """How many values there may be of each dimension of devices."""
    return {str(dimension): VALUES_MAX[dimension] for dimension in DEVICE_DIMENSIONS}


@cache
def counting(source: Source, *, rebuild: bool = False, suffix: str = "") -> str:
    """The statement for a source; it answers with how many events it counted.

    Parameters: `low`, `high` (positions), `shifted`, `shifts` (clocks), of messages `values_max`, and of a rebuild
    `applications` and `begins`. The rollups' names end with `suffix`.
    """
    events = _EVENTS.format(
        hour=_HOUR, table=EVENT_TABLES[source], rebuild=_OF_A_REBUILD if rebuild else "", clocks=_CLOCKS
    )
    parts = [events]
    if source is Source.MESSAGES:
        values = ", ".join(f"('{dimension}', f.{dimension})" for dimension in DEVICE_DIMENSIONS)
        parts += [_MESSAGE_FACTS, _VALUES.format(values=values)]
    else:
        parts += [_SUBSCRIPTION_FACTS]
    parts += [f"{rollup.table} AS ({_adding(rollup, suffix)})" for rollup in rollups_of(source)]
    return f"WITH {', '.join(parts)} SELECT coalesce(sum(n), 0)::bigint FROM facts"


def _adding(rollup: Rollup, suffix: str) -> str:
    """Rows are locked in the order of their keys, so that nobody waits in a circle."""
    keys, measures = ", ".join(rollup.dimensions), ", ".join(rollup.measures)
    places = ", ".join(str(place) for place in range(1, len(rollup.dimensions) + 1))
    expressions = ", ".join([*rollup.dimensions.values(), *rollup.measures.values()])
    sums = ", ".join(f"{name} = t.{name} + excluded.{name}" for name in rollup.measures)
    return f"""
        INSERT INTO {rollup.table}{suffix} AS t ({keys}, {measures})
        SELECT {expressions.format(is_told_apart=_IS_TOLD_APART)} FROM facts f {rollup.joins} WHERE {rollup.where}
        GROUP BY {places} ORDER BY {places}
        ON CONFLICT ({keys}) DO UPDATE SET {sums}
    """
