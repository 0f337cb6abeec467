"""Pages of rows as CSV, written by PostgreSQL: `COPY (SELECT …) TO STDOUT`.

A page is a range of keys, `PAGE_ROWS` of the application's rows long whatever the filters leave of them: so each
statement reads a bounded number of rows, and a rare filter moves on as well. Ranges do not overlap, so no row comes
twice. Each page is a short transaction: an export of an hour holds no snapshot for an hour. What changes meanwhile is
seen as it is when its page is read; what is made meanwhile is after the end of the period, which the request fixes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections, transaction

from apps.analytics.exports.columns import Resource, Sealed
from apps.analytics.exports.filters import stored_filters
from apps.analytics.exports.registry import resource_of
from apps.analytics.models.exports import Export
from automata_signal.csv_safety import BOM, neutralised
from automata_signal.ids import first_id_at

PAGE_ROWS = 20_000
CHUNK_BYTES = 256 * 1024
STATEMENT_MAX_S = 60.0
_BOUNDS = "/* page */"
"""Where a page's own bounds go."""
_SET_LIMITS = "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', %s, true)"


class Page(NamedTuple):
    """What a page was: `read` rows were looked at, all up to `last_key`. Of the last page nobody counts them."""

    read: int
    written: int
    last_key: str
    is_last: bool


@dataclass
class Written:
    """How many rows the chunks of a page hold; complete when they are read."""

    rows: int = 0


@dataclass(frozen=True)
class Query:
    """An export's SQL, with the parameters that all its pages share."""

    window: str
    copy: str
    estimate: str
    parameters: Mapping[str, Any]
    time_zone: str
    sealed: Sealed | None


def header(export: Export) -> bytes:
    """The first line."""
    columns = resource_of(export.kind).columns()
    names = [columns[name].column_name for name in export.columns]
    return (BOM if export.with_bom else b"") + ",".join(names).encode() + b"\r\n"


def query_of(export: Export) -> Query:
    resource = resource_of(export.kind)
    filters = stored_filters(resource, export.filters)
    filters.pop("until")
    until = until_of(export)
    start = _start(resource, filters.pop("since", None), resource.first_key(filters, export.application_id))
    parameters = {"application_id": export.application_id, "start": start, "end": _key_at(resource, until), **filters}
    columns = [resource.columns()[name] for name in export.columns]
    used = {*resource.always, *(join for column in columns for join in column.joins)}
    asked = [item for item in resource.filters if item.name in filters]
    used |= {join for item in asked for join in item.joins}
    tables = [resource.table, *(sql for name, sql in resource.joins.items() if name in used)]
    rows = [f"{resource.application} = %(application_id)s", *_bounds(resource, start)]
    cells = ", ".join(column.expression(is_masked=export.is_masked) for column in columns)
    conditions = " AND ".join([*rows, _BOUNDS, *(f"({item.clause})" for item in asked)])
    walked = f"FROM {resource.table} WHERE {' AND '.join(rows)}"
    sealed = [column for column in columns if isinstance(column, Sealed)]
    return Query(
        window=f"SELECT {resource.key}::text {walked} AND {_BOUNDS} ORDER BY {resource.key} OFFSET %(skip)s LIMIT 1",
        copy=(
            f"COPY (SELECT {cells} FROM {' '.join(tables)} WHERE {conditions}"
            f" ORDER BY {resource.order or resource.key}) TO STDOUT WITH (FORMAT csv)"
        ),
        estimate=f"EXPLAIN (FORMAT JSON) SELECT 1 {walked}",
        parameters=parameters,
        time_zone=export.time_zone,
        sealed=sealed[0] if sealed else None,
    )


def until_of(export: Export) -> datetime:
    """The end of the period."""
    return datetime.fromisoformat(export.filters["until"])


def _bounds(resource: Resource, start: Any) -> Iterator[str]:
    if start is not None:
        yield f"{resource.key} >= %(start)s::{resource.key_type}"
    yield f"{resource.key} < %(end)s::{resource.key_type}"


def _start(resource: Resource, since: datetime | None, first: UUID | None) -> Any:
    begin = _key_at(resource, since) if since else None
    return max((key for key in (begin, first) if key is not None), default=None)


def _key_at(resource: Resource, moment: datetime) -> Any:
    if resource.key_type == "timestamptz":
        return moment
    return first_id_at(max(0, int(moment.timestamp() * 1_000)))


def estimated_rows(query: Query, alias: str) -> int:
    """How many rows are to be looked at, as PostgreSQL plans it."""
    with connections[alias].cursor() as cursor:
        cursor.execute(query.estimate, query.parameters)
        (plan,) = cursor.fetchone()
    plans = json.loads(plan) if isinstance(plan, str) else plan
    return int(plans[0]["Plan"]["Plan Rows"])


def read_page(query: Query, resource: Resource, alias: str, after_key: str) -> Iterator[bytes | Page]:
    """The page after `after_key` in chunks of whole lines, and last what it was."""
    after = f"{resource.key} > %(after)s::{resource.key_type}" if after_key else "true"
    parameters = {**query.parameters, "after": after_key, "skip": PAGE_ROWS - 1}
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(_SET_LIMITS, [f"{int(STATEMENT_MAX_S * 1_000)}ms", query.time_zone])
        cursor.execute(query.window.replace(_BOUNDS, after), parameters)
        found = cursor.fetchone()
        bounds = after
        if found is not None:
            parameters["upto"] = found[0]
            bounds = f"{after} AND {resource.key} <= %(upto)s::{resource.key_type}"
        written = Written()
        copying = cursor.copy(query.copy.replace(_BOUNDS, bounds), parameters)
        with connections[alias].wrap_database_errors, copying as lines:
            yield from _chunks(lines, query.sealed, written)
        # Of the transaction, but it may be somebody's larger one, and Django reads times as those of its own time zone.
        cursor.execute("SELECT set_config('TimeZone', %s, true)", [connections[alias].timezone_name])
    yield Page(
        read=PAGE_ROWS if found else 0,
        written=written.rows,
        last_key=found[0] if found else after_key,
        is_last=found is None,
    )


def _chunks(lines: Any, sealed: Sealed | None, written: Written) -> Iterator[bytes]:
    """COPY gives a line at a time, ended by LF; RFC 4180 wants CRLF."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        row = bytes(line)[:-1]
        held.append(row if sealed is None else _opened(row, sealed))
        size += len(row) + 2
        written.rows += 1
        if size >= CHUNK_BYTES:
            yield b"\r\n".join(held) + b"\r\n"
            held, size = [], 0
    if held:
        yield b"\r\n".join(held) + b"\r\n"


def _opened(row: bytes, sealed: Sealed) -> bytes:
    """The last cell made readable."""
    head, comma, cell = row.rpartition(b",")
    if not cell:
        return row
    text = neutralised(sealed.shown(bytes.fromhex(cell.decode())))
    if any(sign in text for sign in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return head + comma + text.encode()
