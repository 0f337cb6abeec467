"""The work of an import, in steps that can stop and go on anywhere."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.subscriptions.imports.cleaning import delete_file_of, delete_rejects_of
from apps.subscriptions.imports.columns import Reject, RowParser, SubscriptionRow, UserRow, parser_for
from apps.subscriptions.imports.duplicates import (
    ERASED_LINE,
    claim_lines,
    erased_so_far,
    first_lines,
    forget_keys,
    key_of,
    user_key,
)
from apps.subscriptions.imports.models import COUNTS, WORKING, Import, ImportKind, ImportMode, ImportState
from apps.subscriptions.imports.outcome import Outcome, Raced
from apps.subscriptions.imports.reading import Record, UnreadableFile, records
from apps.subscriptions.imports.rejects import REJECT_COLUMNS, RejectedLine, write_part
from apps.subscriptions.imports.subscriptions import import_subscriptions
from apps.subscriptions.imports.users import import_users
from apps.tenants.operations.switches import IMPORTS, is_on
from automata_signal.celery import Task, send_tasks
from automata_signal.encryption import DecryptionError
from automata_signal.errors import FieldProblem
from automata_signal.private_files import open_sealed
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

LINES_AT_ONCE = 5_000
BYTES_AT_ONCE = 4 * 1024 * 1024
"""Of one step, whatever comes first: a second of work, and what is in memory at any time."""
TASK_MAX_S = 10.0
"""Then the import goes on in a new task, and other tasks of the control queue get their turn."""
STATEMENT_MAX_S = 300
STALLED_AFTER_S = 60
"""An import without a step for so long was lost by the broker or its worker."""
ATTEMPTS = 5
"""At one step that ends in an error of ours."""
ROWS_MAX = 5_000_000
REJECTED_MAX = 100_000
"""More, and it is the wrong file."""


def queue_import(import_id: UUID) -> None:
    """If the broker does not answer, the sweep `subscriptions.continue_imports` makes up for it."""
    send_tasks([Task("subscriptions.run_import", [str(import_id)], "control")])


def imports_continue() -> int:
    """Queue the imports that nobody is working on; returns how many. Index: `import_working`."""
    if not is_on(IMPORTS):
        return 0
    stalled_before = timezone.now() - timedelta(seconds=STALLED_AFTER_S)
    stalled = Import.objects.filter(state__in=WORKING, updated_at__lt=stalled_before)
    ids = list(stalled.order_by("updated_at").values_list("pk", flat=True)[:100])
    for import_id in ids:
        queue_import(import_id)
    return len(ids)


def import_run(import_id: UUID, *, max_s: float = TASK_MAX_S) -> bool:
    """Go on with an import until it is over or `max_s` are; True if there is more to do.

    An error of ours is counted and raised; after `ATTEMPTS` of them at one step the import has failed. While imports
    are stopped it rests at its checkpoint, and the sweep goes on with it later.
    """
    ends_at = time.monotonic() + max_s
    more = False
    try:
        while is_on(IMPORTS) and (more := _patient_step(import_id)) and time.monotonic() < ends_at:
            pass
    except Exception:
        _note_failure(import_id)
        raise
    return more and is_on(IMPORTS)


def _patient_step(import_id: UUID) -> bool:
    """A step; one that met somebody else is to be done again, and that it failed means that the other did not."""
    try:
        return import_step(import_id)
    except Raced:
        time.sleep(random.uniform(0.01, 0.1))
        return True


@transaction.atomic
def import_step(import_id: UUID) -> bool:
    """Do the next lines of an import and move its checkpoint, both or neither; True if there is more to do.

    False also if another worker is at it. Raises `Raced` if the lines are to be done again.
    """
    limit_statements(STATEMENT_MAX_S)
    rows = Import.objects.select_for_update(skip_locked=True)
    run = rows.filter(pk=import_id, state__in=WORKING).first()
    if run is None:
        return False
    if run.state == ImportState.WAITING:
        run.state = ImportState.CHECKING
    try:
        chunk = _next_chunk(run)
        if run.total_rows + len(chunk.records) > ROWS_MAX:
            raise UnreadableFile(f"has more than {ROWS_MAX:,} lines")
        _do(run, chunk.records)
        if run.rejected_rows > REJECTED_MAX:
            raise UnreadableFile(f"more than {REJECTED_MAX:,} lines are wrong; is it the right file?")
    except UnreadableFile as error:
        _fail(run, error.message)
    except (FileNotFoundError, DecryptionError):
        _fail(run, "The file is not in the storage of this worker, or its encryption key is gone.")
    else:
        run.byte_offset, run.line = chunk.next_offset, chunk.next_line
        if chunk.is_last:
            _finish_pass(run)
    run.failures = 0
    run.updated_at = timezone.now()
    run.save()
    return run.is_working


# --- One chunk ---------------------------------------------------------------------------------------------------


class _Chunk(NamedTuple):
    records: list[Record]
    next_offset: int
    next_line: int
    is_last: bool


def _next_chunk(run: Import) -> _Chunk:
    """The lines after the checkpoint. Raises `UnreadableFile`, FileNotFoundError, DecryptionError."""
    found: list[Record] = []
    with open_sealed(run.stored_as, offset=run.byte_offset) as file:
        rest = records(file, encoding=run.encoding, delimiter=run.delimiter, offset=run.byte_offset, line=run.line)
        for record in islice(rest, LINES_AT_ONCE):
            found.append(record)
            if record.next_offset - run.byte_offset >= BYTES_AT_ONCE:
                break
        else:
            if len(found) < LINES_AT_ONCE:
                return _Chunk(found, run.file_bytes, found[-1].next_line if found else run.line, is_last=True)
    return _Chunk(found, found[-1].next_offset, found[-1].next_line, is_last=False)


def _do(run: Import, lines: Sequence[Record]) -> None:
    """Check or apply these lines, count what came of them, and write down what was refused."""
    parser = _parser_of(run)
    cells = {record.line: record.cells for record in lines}
    rows: list[UserRow | SubscriptionRow] = []
    rejects: list[Reject] = []
    for record in lines:
        row = (
            Reject.of(record.line, "line", record.problem) if record.problem else parser.row(record.line, record.cells)
        )
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            rows.append(row)
    erased = erased_so_far(run)
    if run.state == ImportState.CHECKING:
        claim_lines(run, rows)
    firsts, repeated = _first_of_their_keys(run, rows)
    done = _outcome(run, firsts)
    if run.state == ImportState.RUNNING and erased_so_far(run) != erased:
        raise Raced
    rejects += [*repeated, *done.rejects]
    run.total_rows += len(lines)
    run.created_rows += done.created
    run.updated_rows += done.updated
    run.unchanged_rows += done.unchanged
    run.skipped_rows += done.skipped
    run.kept_rows += done.kept
    run.rejected_rows += len(rejects)
    if rejects:
        rejects.sort(key=lambda reject: reject.line)
        write_part(run.pk, run.line, _rejected(run, rejects, cells))
        run.reject_parts = [*run.reject_parts, run.line]


def _parser_of(run: Import) -> RowParser:
    return parser_for(run.kind, run.header, run.mapping, default_type=run.default_type, clear_empty=run.clear_empty)


def _first_of_their_keys(
    run: Import, rows: Sequence[UserRow | SubscriptionRow]
) -> tuple[list[UserRow | SubscriptionRow], list[Reject]]:
    """The rows that the file has here for the first time; the others are refused."""
    lines = first_lines(run, rows)
    firsts, repeated = [], []
    for row in rows:
        first = lines.get(key_of(row), row.line)
        is_erased = row.external_id is not None and lines.get(user_key(row.external_id)) == ERASED_LINE
        field = "external_id" if isinstance(row, UserRow) else "token"
        if is_erased or first == ERASED_LINE:
            repeated.append(Reject.of(row.line, field, "belongs to somebody who was erased after the upload"))
        elif first != row.line:
            repeated.append(Reject.of(row.line, field, f"stands on line {first} of the file already"))
        else:
            firsts.append(row)
    return firsts, repeated


def _outcome(run: Import, rows: Sequence[UserRow | SubscriptionRow]) -> Outcome:
    write = run.state == ImportState.RUNNING
    if run.kind == ImportKind.USERS:
        users = [row for row in rows if isinstance(row, UserRow)]
        return import_users(run.application_id, users, on_conflict=run.on_conflict, write=write)
    return import_subscriptions(
        run.application_id,
        [row for row in rows if isinstance(row, SubscriptionRow)],
        on_conflict=run.on_conflict,
        resubscribe=run.resubscribe,
        reason=f"import {run.pk}",
        write=write,
    )


def _rejected(run: Import, rejects: Sequence[Reject], cells: dict[int, list[str]]) -> Iterator[RejectedLine]:
    """With the cells of the file; not with what an earlier rejects file had said of them."""
    ours = {number for number, title in enumerate(run.header) if title in REJECT_COLUMNS}
    for reject in rejects:
        own = [cell for number, cell in enumerate(cells[reject.line]) if number not in ours]
        yield RejectedLine(reject.line, "; ".join(map(_in_words, reject.problems)), own)


def _in_words(problem: FieldProblem) -> str:
    return f"{problem.field}: {problem.message}" if problem.field else problem.message


# --- The end of a pass -------------------------------------------------------------------------------------------


def _finish_pass(run: Import) -> None:
    """The file is read to its end: it is checked, or applied."""
    now = timezone.now()
    if run.state == ImportState.RUNNING:
        run.state, run.finished_at = ImportState.DONE, now
        forget_keys(run)
        if settings.IMPORT_DELETE_WHEN_DONE:
            delete_file_of(run)
        return
    run.state, run.checked_at, run.check_counts = ImportState.CHECKED, now, run.counts
    if run.mode == ImportMode.APPLY:
        begin_applying(run, by=run.requested_by)


def begin_applying(run: Import, *, by: str) -> None:
    """From the first line again, and this time for good. The row is locked and checked; it is not saved."""
    delete_rejects_of(run)
    run.state, run.applied_by, run.applied_at = ImportState.RUNNING, by[:200], timezone.now()
    run.byte_offset, run.line = run.first_offset, run.first_line
    for name in COUNTS:
        setattr(run, name, 0)


def _fail(run: Import, problem: str) -> None:
    run.state, run.last_error, run.finished_at = ImportState.FAILED, problem, timezone.now()
    forget_keys(run)
    delete_file_of(run)


@transaction.atomic
def _note_failure(import_id: UUID) -> None:
    """Count an error of ours at the present step; `updated_at` moves, so that the sweep waits before the next try."""
    now = timezone.now()
    working = Import.objects.filter(pk=import_id, state__in=WORKING)
    working.update(failures=F("failures") + 1, updated_at=now)
    run = working.select_for_update().filter(failures__gte=ATTEMPTS).first()
    if run is not None:
        log.error("an import failed", extra={"cause": "the same step failed again and again"})
        _fail(run, f"Something failed on our side at line {run.line}; it was logged. What stands before it is applied.")
        run.save()
