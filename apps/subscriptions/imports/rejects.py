"""The lines that were refused, as a CSV file: corrected, it can be imported again as it is.

Each step that refuses lines writes one part, encrypted, named by the line at which the step began. A step that is
repeated writes the same part again.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import StringIO
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from automata_signal.csv_safety import csv_lines
from automata_signal.downloads import Download
from automata_signal.private_files import delete_file, read_sealed, save_sealed

if TYPE_CHECKING:
    from apps.subscriptions.imports.models import Import

REJECT_COLUMNS = ("import_line", "import_error")
"""Before those of the file. A file that has them is taken as a corrected one."""
DOWNLOAD_KIND = "import-rejects"
SHOWN = 20


class RejectedLine(NamedTuple):
    line: int
    error: str
    cells: Sequence[str]


def folder_of(import_id: UUID) -> str:
    return f"imports/{import_id}"


def write_part(import_id: UUID, first_line: int, lines: Iterable[RejectedLine]) -> None:
    """Write, or write again, the rejects of the step that began at `first_line`."""
    name = _part_name(import_id, first_line)
    rows = ([line.line, line.error, *map(_readable, line.cells)] for line in lines)
    compressor = zlib.compressobj(6)
    chunks = chain(map(compressor.compress, csv_lines(rows)), (compressor.flush() for _ in range(1)))
    delete_file(name)
    save_sealed(name, chunks)


def delete_parts(import_id: UUID, parts: Iterable[int]) -> None:
    for first_line in parts:
        delete_file(_part_name(import_id, first_line))


def rejects_file(run: Import) -> Iterator[bytes]:
    """The whole file, piece by piece; for Excel it begins with the mark of UTF-8."""
    yield from csv_lines([[*REJECT_COLUMNS, *_original(run)]], bom=True)
    for first_line in run.reject_parts:
        yield from _part(run.pk, first_line)


def first_rejects(run: Import, limit: int = SHOWN) -> list[RejectedLine]:
    """The first lines that were refused; none if their file is gone."""
    if not run.has_rejects:
        return []
    try:
        pieces = b"".join(islice(_part(run.pk, run.reject_parts[0]), 16))
    except FileNotFoundError:
        return []
    found = csv.reader(StringIO(pieces.decode("utf-8", "ignore"), newline=""))
    lines: list[RejectedLine] = []
    with suppress(csv.Error):  # a cell as long as we take, and an apostrophe before it: the file has it
        lines += (RejectedLine(int(row[0]), row[1], row[2:]) for row in islice(found, limit) if len(row) > 1)
    return lines


def rejects_download(run: Import) -> Download:
    return Download(f"rejects-{run.pk}.csv", "text/csv; charset=utf-8", rejects_file(run))


def _part(import_id: UUID, first_line: int) -> Iterator[bytes]:
    decompressor = zlib.decompressobj()
    for chunk in read_sealed(_part_name(import_id, first_line)):
        yield decompressor.decompress(chunk)
    yield decompressor.flush()


def _part_name(import_id: UUID, first_line: int) -> str:
    return f"{folder_of(import_id)}/rejects-{first_line}"


def _original(run: Import) -> list[str]:
    return [title for title in run.header if title not in REJECT_COLUMNS]


def _readable(cell: str) -> str:
    """Without the halves that stand for bytes which are no text."""
    return cell.encode("utf-8", "replace").decode()
