"""Addresses from a CSV file to the suppression list: `address`, and perhaps `type`, `reason` and `note`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

from django.db import transaction

from apps.subscriptions.preferences.models import ConsentSource, SuppressionReason
from apps.subscriptions.preferences.suppressing import Address, address_of, suppressions_add
from apps.tenants.models import Application
from automata_signal.errors import FieldProblem, SignalError, ValidationFailed
from automata_signal.time_limits import limit_statements

ROWS_MAX = 100_000
PROBLEMS_MAX = 100
CHUNK = 2_000
COLUMNS = frozenset({"address", "type", "reason", "note"})


class Imported(NamedTuple):
    added: int
    known: int
    """Were on the list, or twice in the file."""
    refused: int
    problems: list[FieldProblem]
    """The first of those that were refused, by line."""


def suppressions_import(*, application: Application, content: str, type: str = "", by: str) -> Imported:
    """Put the addresses of a CSV file on the list; what is no address is left out and named.

    `type` is that of all addresses unless the column says so. Raises `ValidationFailed` for a file that cannot be read;
    then nothing is added.
    """
    reader = _reader(content)
    added = addresses = refused = 0
    problems: list[FieldProblem] = []
    with transaction.atomic():
        limit_statements(60)
        chunk: list[Address] = []
        for line, row in _rows(reader):
            try:
                address = address_of(
                    (row.get("type") or type).strip(),
                    row.get("address") or "",
                    reason=(row.get("reason") or SuppressionReason.IMPORT).strip(),
                    note=_plain(row.get("note") or ""),
                )
            except SignalError as error:
                refused += 1
                if len(problems) < PROBLEMS_MAX:
                    problems += [FieldProblem(f"line {line}.{p.field}", p.message) for p in error.details]
                continue
            chunk.append(address)
            addresses += 1
            if len(chunk) >= CHUNK:
                added += _add(application, chunk, by)
                chunk = []
        added += _add(application, chunk, by)
    return Imported(added, addresses - added, refused, problems)


def _add(application: Application, chunk: list[Address], by: str) -> int:
    return suppressions_add(application_id=application.pk, addresses=chunk, source=ConsentSource.IMPORT, by=by)


def _reader(content: str) -> csv.DictReader[str]:
    if "\0" in content:
        raise ValidationFailed.of("content", "holds NUL: this is no CSV file")
    first_line = content.partition("\n")[0]
    delimiter = ";" if first_line.count(";") > first_line.count(",") else ","
    reader = csv.DictReader(io.StringIO(content.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    try:
        names = [name.strip().lower() for name in (reader.fieldnames or [])]
    except csv.Error:
        raise ValidationFailed.of("content", "cannot be read as CSV (line 1)") from None
    if "address" not in names:
        raise ValidationFailed.of("content", "needs a first line that names the column address")
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ValidationFailed.of("content", f"has the unknown column {unknown[0][:50]!r}")
    reader.fieldnames = names
    return reader


def _rows(reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    try:
        for number, row in enumerate(reader, 1):
            if number > ROWS_MAX:
                raise ValidationFailed.of("content", f"has more than {ROWS_MAX} lines")
            yield reader.line_num, row
    except csv.Error:
        raise ValidationFailed.of("content", f"cannot be read as CSV (line {reader.line_num})") from None


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
