"""Campaign counters, kept by the transactions that move messages (`apps.messaging.recorders`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from apps.messaging.models import MessageStatus
from apps.messaging.recorders import PLANNED, StatusCount
from automata_signal.ids import new_id
from automata_signal.prepared import prepared_cursor

_COLUMNS = {
    "total": "total_recipients",
    "successful": "successful_count",
    "failed": "failed_count",
    "received": "received_count",
    "converted": "converted_count",
}

_COUNTED_AS: dict[str, frozenset[str]] = {
    MessageStatus.SUCCESSFUL: frozenset({"successful"}),
    MessageStatus.RECEIVED: frozenset({"successful", "received"}),
    MessageStatus.CONVERTED: frozenset({"successful", "received", "converted"}),
    MessageStatus.FAILED: frozenset({"failed"}),
    PLANNED: frozenset({"total"}),
}
"""The counters in which a message in this state stands. A transition adds those of the new state and takes away those
of the old one: a successful message that fails for want of a receipt leaves `successful`. The fan-out has counted whom
it planned for; who left before their message was made leaves `total`."""


def record_campaign_counts(counts: Sequence[StatusCount]) -> None:
    """One statement for the counters of the campaigns in `counts`, and one for the reasons of what failed.

    For each application, of which a slice has one. The campaigns' rows are shared by all slices: they are locked in
    the order of their ids, and last.
    """
    for application_id in sorted({row.application_id for row in counts if row.campaign_id is not None}):
        _record(application_id, [row for row in counts if row.application_id == application_id])


def _record(application_id: UUID, counts: Sequence[StatusCount]) -> None:
    changes: dict[UUID, Counter[str]] = {}
    of_dispatches: dict[UUID, dict[UUID, Counter[str]]] = {}
    reasons: Counter[tuple[UUID, str]] = Counter()
    for row in counts:
        if row.campaign_id is None:
            continue
        _add(changes.setdefault(row.campaign_id, Counter()), row)
        if row.dispatch_id is not None:
            _add(of_dispatches.setdefault(row.campaign_id, {}).setdefault(row.dispatch_id, Counter()), row)
        if row.new == MessageStatus.FAILED:
            reasons[row.campaign_id, row.reason[:100]] += row.messages
    if reasons:
        _add_reasons(application_id, reasons)
    changed = {
        campaign: change
        for campaign, change in changes.items()
        if any(change.values()) or any(any(own.values()) for own in of_dispatches.get(campaign, {}).values())
    }
    if changed:
        testing = _add_counts(application_id, changed)
        tested = {key: change for campaign in testing for key, change in of_dispatches.get(campaign, {}).items()}
        if tested:
            _add_tallies(application_id, tested)


def _add(change: Counter[str], row: StatusCount) -> None:
    change.update(dict.fromkeys(_COUNTED_AS.get(row.new, ()), row.messages))
    change.subtract(dict.fromkeys(_COUNTED_AS.get(row.old, ()), row.messages))


def _add_reasons(application_id: UUID, reasons: Counter[tuple[UUID, str]]) -> None:
    """Index: `one_row_per_failure_reason`."""
    rows = sorted(reasons.items())
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO campaigns_campaignfailure AS f (id, application_id, campaign_id, reason, count)
            SELECT r.id, %s, r.campaign_id, r.reason, r.count
            FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::int[]) AS r(id, campaign_id, reason, count)
            ON CONFLICT (application_id, campaign_id, reason) DO UPDATE SET count = f.count + excluded.count
            """,
            [
                application_id,
                [new_id() for _ in rows],
                [campaign for (campaign, _), _ in rows],
                [reason for (_, reason), _ in rows],
                [count for _, count in rows],
            ],
        )


def _add_counts(application_id: UUID, changes: dict[UUID, Counter[str]]) -> list[UUID]:
    """By primary key; no index names a counter, so the updates stay HOT. Nearly always there is one campaign, whose
    statement takes a third of the one for several. Returns those that test variants, which it comes to know by the way:
    the others pay nothing for it."""
    campaigns = sorted(changes)
    with prepared_cursor() as cursor:
        if len(campaigns) == 1:
            cursor.execute(_ADD_ONE, [*(changes[campaigns[0]][name] for name in _COLUMNS), application_id, *campaigns])
        else:
            cursor.execute(
                _ADD_MANY,
                [
                    *(application_id, campaigns, campaigns),
                    *([changes[campaign][name] for campaign in campaigns] for name in _COLUMNS),
                    application_id,
                ],
            )
        return [campaign_id for campaign_id, has_variants in cursor.fetchall() if has_variants]


def _add_tallies(application_id: UUID, changes: dict[UUID, Counter[str]]) -> None:
    """What became of the messages of these dispatches, in the rows of their variants. The campaigns' rows are locked:
    who holds one may change its tallies in any order. By primary keys, and HOT. A step of a chain has no tally."""
    dispatches = sorted(changes)
    with prepared_cursor() as cursor:
        cursor.execute(
            _ADD_TALLIES,
            [
                dispatches,
                *([changes[dispatch][name] for dispatch in dispatches] for name in _COLUMNS),
                *(application_id, application_id),
            ],
        )


_ADD_ONE = f"""
    UPDATE campaigns_messagecampaign SET {", ".join(f"{column} = {column} + %s" for column in _COLUMNS.values())}
    WHERE application_id = %s AND id = %s
    RETURNING id, has_variants
"""
_ADD_MANY = f"""
    WITH locked AS MATERIALIZED (
        SELECT id FROM campaigns_messagecampaign WHERE application_id = %s AND id = ANY(%s::uuid[])
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE campaigns_messagecampaign c
    SET {", ".join(f"{column} = c.{column} + d.{name}" for name, column in _COLUMNS.items())}
    FROM locked, unnest(%s::uuid[] {", %s::int[]" * len(_COLUMNS)}) AS d(id, {", ".join(_COLUMNS)})
    WHERE locked.id = d.id AND c.id = d.id AND c.application_id = %s
    RETURNING c.id, c.has_variants
"""
_ADD_TALLIES = f"""
    UPDATE campaigns_varianttally t
    SET {", ".join(f"{name} = t.{name} + g.{name}" for name in _COLUMNS)}
    FROM (
        SELECT o.tally_id, {", ".join(f"sum(d.{name})::int AS {name}" for name in _COLUMNS)}
        FROM unnest(%s::uuid[] {", %s::int[]" * len(_COLUMNS)}) AS d(id, {", ".join(_COLUMNS)})
             JOIN messaging_dispatch o ON o.id = d.id AND o.application_id = %s
        WHERE o.tally_id IS NOT NULL AND o.chain_step = 0 GROUP BY 1
    ) g
    WHERE t.id = g.tally_id AND t.application_id = %s
"""
