"""The place of a row among all that was written: the number of the transaction that wrote it.

Whoever reads a growing table bit by bit needs an order in which nothing appears behind him. Times and ids are none: a
transaction may commit long after it took them. So events carry the number of their transaction, and are read up to the
oldest one that still runs (`event_horizon()` in the database): below it nothing is added any more.

A dump that is restored in another cluster brings positions from a longer past than the new cluster has;
`event_position_offset()` then lifts the new ones above them (`apps.analytics.rebuild`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import OperationalError, ProgrammingError, connection, models, transaction

from automata_signal.time_limits import limit_lock_waits, limit_statements

log = logging.getLogger(__name__)

STATEMENT_MAX_S = 300
WORK_MEMORY = "64MB"
"""What a step groups fits in it; the server's own is meant for short statements."""
SUMMARY_LOCK_WAIT_S = 0.2
"""Less than `deadlock_timeout`, at which PostgreSQL would end an autovacuum for us."""

_FUNCTIONS = """
CREATE OR REPLACE FUNCTION event_position_offset() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT {offset:d}::bigint';
CREATE OR REPLACE FUNCTION event_position() RETURNS bigint LANGUAGE sql STABLE AS
  'SELECT pg_current_xact_id()::text::bigint + event_position_offset()';
CREATE OR REPLACE FUNCTION event_horizon() RETURNS bigint LANGUAGE sql STABLE AS
  'SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + event_position_offset()';
"""


def functions(*, offset: int = 0) -> str:
    """The SQL that makes them, for the first migration that needs them, and makes them anew with another offset.

    PostgreSQL inlines them: they cost what is in them. Always all three are replaced: a plan that is kept (`prepared`)
    has the offset as a constant, and is made anew only because the function that it inlined was.
    """
    return _FUNCTIONS.format(offset=offset)


DROP_FUNCTIONS = "DROP FUNCTION event_horizon(), event_position(), event_position_offset()"


def position_field() -> models.BigIntegerField[int, int]:
    """A column that PostgreSQL fills with the position of the row, whoever writes it and how."""
    default = models.Func(function="event_position", output_field=models.BigIntegerField())
    return models.BigIntegerField("position", db_default=default, editable=False)


# --- Reading by it -------------------------------------------------------------------------------------------------


def read_horizon() -> int:
    """Below this position nothing is added any more."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_horizon()")
        (horizon,) = cursor.fetchone()
    return int(horizon)


def prepare_reading() -> None:
    """Patience and memory, for this transaction. Tables are never read whole, whatever is known of the newest rows."""
    limit_statements(STATEMENT_MAX_S)
    _set_local(work_mem=WORK_MEMORY, enable_seqscan="off", jit="off", max_parallel_workers_per_gather="0")


def _set_local(**values: str) -> None:
    with connection.cursor() as cursor:
        for name, value in values.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])


def window_end(tables: Sequence[str], low: int, horizon: int, *, events_max: int, width: int = 0) -> int:
    """Where a window from `low` has to end so that it holds `events_max` of each table at most, or one transaction.

    Each look reads no more than that, by the BRIN index of `position`. Other indexes are shut out: by one of those a
    table is read from its beginning. `width`: of that many transactions at most; 0: of all.
    """
    high = min(horizon, low + width) if width else horizon
    _set_local(enable_indexscan="off", enable_indexonlyscan="off")
    while high - low > 1 and any(_holds_more(table, low, high, events_max) for table in tables):
        high = low + (high - low) // 2
    _set_local(enable_indexscan="on", enable_indexonlyscan="on")
    return high


def _holds_more(table: str, low: int, high: int, events_max: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT FROM {table} WHERE position >= %s AND position < %s LIMIT %s) e",
            [low, high, events_max + 1],
        )
        (found,) = cursor.fetchone()
    return int(found) > events_max


def summarise_positions(table: str) -> None:
    """Bring the BRIN index of positions up to date: what is not summarised yet is read by each step.

    Autovacuum does the same when it comes by; a million events that it has not seen cost a step 0.15 s. Not done now if
    a VACUUM has the table, or if the tables are another role's.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            limit_lock_waits(SUMMARY_LOCK_WAIT_S)
            cursor.execute(_SUMMARISE, {"table": table})
    except (OperationalError, ProgrammingError) as error:
        log.info("an index of positions is not summarised now", extra={"cause": str(error).partition("\n")[0]})


_SUMMARISE = """
    SELECT brin_summarize_new_values(i.indexrelid::regclass)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid = ANY(ARRAY(SELECT relid FROM pg_partition_tree(%(table)s::regclass)) || %(table)s::regclass)
      AND a.amname = 'brin' AND c.relkind = 'i'
"""
