"""Monthly partitions of messages and their events, by ranges of their UUIDv7 keys.

A partition is made months ahead and dropped whole; the default partition stays empty, and `stray_rows` says so.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.migrations import CreateModel
from django.utils import timezone

from automata_signal.ids import first_id_at

# Half of each page is left free, so that a message's next state fits on the same page: updates stay HOT (design, 7).
FILLFACTORS = {"messaging_message": 50, "messaging_messageevent": 100}


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


def month_start_id(month: date) -> UUID:
    """The least id that can be made in this month (UTC)."""
    return first_id_at(int(datetime(month.year, month.month, 1, tzinfo=UTC).timestamp() * 1_000))


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


def drop_partitions(*, keep_days: int, today: date | None = None) -> list[str]:
    """Drop partitions whose whole month is older than `keep_days`; returns the names. 0 keeps everything."""
    if not keep_days:
        return []
    limit = (today or timezone.now().date()) - timedelta(days=keep_days)
    old = [p.name for table in FILLFACTORS for p in list_partitions(table) if next_month(p.month) <= limit]
    with connection.cursor() as cursor:
        for name in old:
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
    return old


def stray_rows() -> int:
    """Rows in the default partitions: anything but 0 means that a month had no partition in time."""
    total = 0
    with connection.cursor() as cursor:
        for table in FILLFACTORS:
            cursor.execute(f"SELECT count(*) FROM {table}_default")
            total += cursor.fetchone()[0]
    return total
