"""What an export consists of: columns, filters, and where the rows are.

The declaration is django-import-export's: a `Resource` with its fields. Its own export makes Python objects of each row
and value, and wrote 18,000 rows/s where COPY wrote 277,000 (`docs/exports.md`): so a column says its SQL, and
PostgreSQL writes the rows (`writing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from rest_framework import serializers

from apps.billing.models import AnalyticsDepth
from automata_signal.csv_safety import neutralised_sql

if TYPE_CHECKING:

    class _Field:
        column_name: str

        def __init__(self, *, column_name: str | None = None) -> None: ...

    class _Resource:
        fields: Mapping[str, Any]
else:
    from import_export.fields import Field as _Field
    from import_export.resources import Resource as _Resource

HIDDEN = "'…'"
"""What stands for personal data that is there, and may not be seen."""


class Column(_Field):
    """A column of text that somebody else wrote: a spreadsheet must not run it. The subclasses are for what we wrote.

    `sql` is an expression over the resource's tables; `joins` names those that it needs beside the first. `masked` is
    the SQL to take for who may not see personal data.
    """

    def __init__(
        self,
        sql: str,
        *joins: str,
        label: Any = "",
        masked: str = "",
        is_default: bool = True,
        column_name: str | None = None,
    ) -> None:
        super().__init__(column_name=column_name)
        self.sql, self.joins, self.label = sql, joins, label
        self.masked, self.is_default = masked, is_default

    @property
    def is_personal(self) -> bool:
        return bool(self.masked)

    def expression(self, *, is_masked: bool) -> str:
        """The SQL of the cell."""
        return self.formatted(self.masked if is_masked and self.masked else self.sql)

    def formatted(self, sql: str) -> str:
        return neutralised_sql(f"({sql})")


class Plain(Column):
    """Ids, codes and numbers of our own: nothing that could be a formula."""

    def formatted(self, sql: str) -> str:
        return f"({sql})"


class Flag(Column):
    def formatted(self, sql: str) -> str:
        return f"CASE ({sql}) WHEN true THEN 'true' WHEN false THEN 'false' END"


class Moment(Column):
    """ISO 8601 with microseconds and the offset of the export's time zone, which the transaction has set."""

    def formatted(self, sql: str) -> str:
        return f"to_char({sql}, 'YYYY-MM-DD\"T\"HH24:MI:SS.USTZH:TZM')"


class Sealed(Column):
    """A value that PostgreSQL cannot read: the bytes that `sql` gives become text by `shown`. There is one in a
    resource at most, and in a file it is the last column."""

    def __init__(self, sql: str, shown: Callable[[bytes], str], *joins: str, label: Any = "") -> None:
        super().__init__(sql, *joins, label=label, is_default=False)
        self.shown = shown

    def formatted(self, sql: str) -> str:
        return f"encode({sql}, 'hex')"


def masked_name(sql: str) -> str:
    """Its first two characters: enough to tell two apart, too little to use."""
    return f"CASE WHEN length({sql}) > 4 THEN left({sql}, 2) || '…' WHEN {sql} IS NOT NULL THEN '…' END"


def hidden(sql: str) -> str:
    """Nothing of it, except that it is there."""
    return f"CASE WHEN {sql} IS NOT NULL THEN {HIDDEN} END"


@dataclass(frozen=True)
class Filter:
    """Which rows: `clause` is a condition over the resource's tables, with the filter's name as its parameter. `field`
    checks it, and is not required."""

    name: str
    field: serializers.Field[Any, Any, Any, Any]
    clause: str
    joins: tuple[str, ...] = ()
    label: Any = ""


class ExportResource(_Resource):
    """A kind of export. Rows are read in the order of `key`, of which `index` has the application in front."""

    kind: ClassVar[str]
    label: ClassVar[Any]
    scope: ClassVar[str]
    """What it takes to read these rows, beside `exports:write`."""
    table: ClassVar[str]
    """The rows that are walked, with their alias."""
    application: ClassVar[str]
    """The column of the application."""
    key: ClassVar[str]
    key_type: ClassVar[str] = "uuid"
    """`uuid` (its time is when the row was made) or `timestamptz`."""
    order: ClassVar[str] = ""
    """Where a walked row is several of the file."""
    always: ClassVar[tuple[str, ...]] = ()
    """Joins that every file needs."""
    joins: ClassVar[Mapping[str, str]] = {}
    """Further tables by name, each named with its application; in the order in which they have to stand."""
    filters: ClassVar[tuple[Filter, ...]] = ()
    depth: ClassVar[AnalyticsDepth | None] = None
    """How deep the plan's analytics have to go."""
    needs_period: ClassVar[bool] = True
    period_label: ClassVar[Any] = ""

    @classmethod
    def columns(cls) -> Mapping[str, Column]:
        """By name."""
        return cls.fields

    @classmethod
    def default_columns(cls) -> list[str]:
        return [name for name, column in cls.columns().items() if column.is_default]

    @classmethod
    def first_key(cls, filters: Mapping[str, Any], application_id: UUID) -> UUID | None:
        """A key that no row of these filters is below, if they tell one."""
        return None


Resource = type[ExportResource]
