"""Monthly partitions of messages and their events, by ranges of their UUIDv7 keys.

A partition is made months ahead and dropped whole (`apps.messaging.retention`); the default partition stays empty, and
`problems` says so.
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.migrations import CreateModel
from django.utils import timezone

from automata_signal.ids import first_id_at
from automata_signal.time_limits import limit_lock_waits, limit_statements

log = logging.getLogger(__name__)

# Half of each page is left free, so that a message's next state fits on the same page: updates stay HOT (design, 7).
FILLFACTORS = {"messaging_message": 50, "messaging_messageevent": 100}
REPAIR_MAX_S = 1_800
REPAIR_LOCK_WAIT_S = 5.0


class Partition(NamedTuple):
    name: str
    month: date
    """The first day."""


class CreatePartitionedModel(CreateModel):
    """`CreateModel` for a table that is partitioned by range of its primary key."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        sql, params = schema_editor.table_sql(model)
        schema_editor.execute(f"{sql} PARTITION BY RANGE (id)", params or None)
        schema_editor.execute(
            f"CREATE TABLE {model._meta.db_table}_default PARTITION OF {model._meta.db_table} DEFAULT"
        )
        schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(model))


def next_month(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def month_start(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def month_start_id(month: date) -> UUID:
    """The least id that can be made in this month (UTC)."""
    return first_id_at(int(month_start(month).timestamp() * 1_000))


def make_partitions(*, today: date | None = None, months_ahead: int | None = None) -> list[str]:
    """Make what is missing from the present month on; returns the names made. Safe to run at any time, by anybody."""
    months_ahead = settings.PARTITION_MONTHS_AHEAD if months_ahead is None else months_ahead
    month = (today or timezone.now().date()).replace(day=1)
    made = []
    for _ in range(months_ahead + 1):
        for table in FILLFACTORS:
            made += _make_partition(table, month)
        month = next_month(month)
    return made


def _make_partition(table: str, month: date) -> list[str]:
    name = f"{table}_p{month:%Y_%m}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
        if cursor.fetchone()[0]:
            return []
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} "
            f"FOR VALUES FROM ('{month_start_id(month)}') TO ('{month_start_id(next_month(month))}') "
            f"WITH (fillfactor = {FILLFACTORS[table]}, autovacuum_vacuum_insert_scale_factor = 0.05)"
        )
    return [name]


def list_partitions(table: str) -> list[Partition]:
    """The monthly partitions of a table, oldest first; the default one is not among them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = %s::regclass AND c.relname ~ '_p[0-9]{4}_[0-9]{2}$' ORDER BY 1",
            [table],
        )
        names = [row[0] for row in cursor.fetchall()]
    return [Partition(name, date(int(name[-7:-3]), int(name[-2:]), 1)) for name in names]


# --- Whether they are as they should be ---------------------------------------------------------------------------


def problems(*, today: date | None = None) -> list[str]:
    """What is wrong, a line each: rows without a partition of their month, and a month to come without partitions."""
    found = []
    for table in FILLFACTORS:
        if has_stray_rows(table):
            found.append(f"{table}_default holds rows: their month had no partition")
        found += [f"{name} is missing" for name in _missing(table, today or timezone.now().date())]
    return found


def report_problems() -> list[str]:
    """`problems`, each as an error in the log."""
    found = problems()
    for problem in found:
        log.error("partitions need an operator: manage.py check_partitions --repair", extra={"cause": problem})
    return found


def stray_rows() -> int:
    """Rows in the default partitions."""
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT count(*) FROM {table}_default" for table in FILLFACTORS))
        return sum(row[0] for row in cursor.fetchall())


def has_stray_rows(table: str) -> bool:
    """Whether the default partition of the table holds rows."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table}_default)")
        (answer,) = cursor.fetchone()
    return bool(answer)


def _missing(table: str, today: date) -> list[str]:
    there = {partition.month for partition in list_partitions(table)}
    this_month = today.replace(day=1)
    return [f"{table}_p{month:%Y_%m}" for month in (this_month, next_month(this_month)) if month not in there]


def repair() -> int:
    """Make the partitions of the months ahead and of stray rows, and move those home; returns how many moved.

    One transaction that holds both tables for itself: nothing is sent or received for as long as copying the stray
    rows takes (some 10 s for a million), and nothing at all if the tables are not to be had at once.
    """
    moved = 0
    with transaction.atomic(), connection.cursor() as cursor:
        limit_statements(REPAIR_MAX_S)
        limit_lock_waits(REPAIR_LOCK_WAIT_S)
        cursor.execute(f"LOCK TABLE {', '.join(FILLFACTORS)} IN ACCESS EXCLUSIVE MODE")
        for table in FILLFACTORS:
            cursor.execute(f"CREATE TEMP TABLE stray_{table} ON COMMIT DROP AS SELECT * FROM {table}_default")
            cursor.execute(f"TRUNCATE {table}_default")
            cursor.execute(f"SELECT DISTINCT {_MONTH} FROM stray_{table} ORDER BY 1")
            for (month,) in cursor.fetchall():
                _make_partition(table, month)
        make_partitions()
        for table in FILLFACTORS:
            cursor.execute(f"INSERT INTO {table} SELECT * FROM stray_{table}")
            moved += cursor.rowcount
    return moved


_MONTH = """date_trunc('month', to_timestamp(
    ('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC')::date"""
"""The month of a UUIDv7, in UTC."""
