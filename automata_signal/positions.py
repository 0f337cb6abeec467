"""The place of a row among all that was written: the number of the transaction that wrote it.

Whoever reads a growing table bit by bit needs an order in which nothing appears behind him. Times and ids are none: a
transaction may commit long after it took them. So events carry the number of their transaction, and are read up to the
oldest one that still runs (`event_horizon()` in the database): below it nothing is added any more.

A dump that is restored in another cluster brings positions from a longer past than the new cluster has;
`event_position_offset()` then lifts the new ones above them (`apps.analytics.rebuild`).
"""

from __future__ import annotations

from django.db import models

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
