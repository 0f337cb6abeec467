"""Writing exports step by step, on the control queue.

A step takes the export that has waited longest, under a lease, reads pages for `STEP_MAX_S`, and stores them as one
more part of the file. Part and checkpoint are committed together: what a killed worker had written and not committed
is deleted by whoever takes the export next, and written again. One step runs at a time on the whole platform unless
`EXPORT_STEPS_AT_ONCE` says more, and it is short: the sweeps on the same queue wait for no export.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.analytics.exports.registry import resource_of
from apps.analytics.exports.writing import Page, estimated_rows, header, query_of, read_page, until_of
from apps.analytics.models.exports import OPEN_STATES, Export, ExportState
from apps.messaging.stopping import is_stopping
from apps.tenants.operations.switches import EXPORTS, is_on
from automata_signal.celery import Task, send_tasks
from automata_signal.ids import new_id
from automata_signal.private_files import delete_file, delete_unnamed, read_sealed, save_sealed
from automata_signal.replica import reading

log = logging.getLogger(__name__)

STEP_MAX_S = 2.0
LEASE_S = 120
"""Longer than any page may take (`writing.STATEMENT_MAX_S`); renewed with each."""
ATTEMPTS_MAX = 5
"""Steps in a row that the database may break off."""
PAUSE_S = 15
"""After such a step."""
GZIP_LEVEL = 5
FOLDER = "exports"
_CLAIMS = 0x6578706F  # an advisory lock: claims come one after the other


class Interrupted(Exception):
    """The export was canceled, or its lease went to another worker."""


class TooLarge(Exception):
    """The file would be larger than `EXPORT_FILE_MAX_BYTES`."""


def queue_step() -> None:
    """If the broker does not answer, the sweep `analytics.continue_exports` makes up for it."""
    send_tasks([Task("analytics.export_step", [], "control", mark="automata:exports:step")])


def exports_continue() -> bool:
    """Queue a step if there is work that nobody is at; True if so. None is while exports are stopped. Index:
    `export_open`."""
    is_work = is_on(EXPORTS) and _waiting().exists()
    if is_work:
        queue_step()
    return is_work


def _waiting() -> QuerySet[Export]:
    now = timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lt=now)
    return Export.objects.filter(free, state__in=OPEN_STATES, stepped_at__lte=now)


# --- A step --------------------------------------------------------------------------------------------------------


def export_step() -> bool:
    """Write a part of the export that has waited longest; True if there is more to do."""
    export = _claim() if is_on(EXPORTS) else None
    if export is None:
        return False
    try:
        _write_part(export)
    except Interrupted:
        log.info("an export was taken away from its worker", extra={"export_id": str(export.pk)})
    except TooLarge:
        limit = f"{settings.EXPORT_FILE_MAX_BYTES:,}"
        _fail(export, _("The file would have more than %(limit)s bytes. Ask for fewer rows.") % {"limit": limit})
    except OSError as error:
        log.exception("an export's file cannot be stored", extra={"export_id": str(export.pk)})
        _fail(export, _problem_of(error))
    except (DatabaseError, InterfaceError) as error:
        _put_off(export, error)
    except Exception:
        _fail(export, _("Something failed on our side; it was logged."))
        raise
    return exports_continue()


def _claim() -> Export | None:
    """Lease the export whose turn it is. What a worker left behind whose lease has ended is deleted."""
    now = timezone.now()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CLAIMS])
        at_work = Export.objects.filter(state__in=OPEN_STATES, lease_until__gt=now).count()
        export = _waiting().order_by("stepped_at").first() if at_work < settings.EXPORT_STEPS_AT_ONCE else None
        if export is None:
            return None
        left_behind = export.lease_id
        export.lease_id, export.lease_until = new_id(), now + timedelta(seconds=LEASE_S)
        export.state, export.stepped_at = ExportState.RUNNING, now
        export.started_at = export.started_at or now
        export.save(update_fields=["lease_id", "lease_until", "state", "stepped_at", "started_at"])
    if left_behind is not None:
        delete_file(_part_name(export, left_behind))
    return export


def _part_name(export: Export, lease_id: UUID) -> str:
    return f"{FOLDER}/{export.pk}-{lease_id}"


@dataclass
class _Part:
    """What a step writes, and how far it gets: complete when its chunks are read."""

    export: Export
    alias: str
    size: int = 0
    """In bytes, as it will be loaded."""
    rows: int = 0
    read: int = 0
    after_key: str = ""
    is_last: bool = False

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the part, as they are stored."""
        self.after_key = self.export.after_key
        packer = zlib.compressobj(GZIP_LEVEL, wbits=31) if self.export.is_gzipped else None
        for chunk in self._lines():
            yield from self._counted(packer.compress(chunk) if packer else chunk)
        if packer:
            yield from self._counted(packer.flush())

    def _counted(self, chunk: bytes) -> Iterator[bytes]:
        self.size += len(chunk)
        if self.export.bytes_written + self.size > settings.EXPORT_FILE_MAX_BYTES:
            raise TooLarge
        if chunk:
            yield chunk

    def _lines(self) -> Iterator[bytes]:
        if not self.export.parts:
            yield header(self.export)
        query, resource = query_of(self.export), resource_of(self.export.kind)
        ends_at = time.monotonic() + STEP_MAX_S
        while True:
            for item in read_page(query, resource, self.alias, self.after_key):
                if isinstance(item, Page):
                    self._note(item)
                else:
                    yield item
            if self.is_last or time.monotonic() >= ends_at or is_stopping():
                return
            _renew_lease(self.export)

    def _note(self, page: Page) -> None:
        self.rows += page.written
        self.read += page.read
        self.after_key, self.is_last = page.last_key, page.is_last


def _renew_lease(export: Export) -> None:
    until = timezone.now() + timedelta(seconds=LEASE_S)
    if not _mine(export).update(lease_until=until):
        raise Interrupted


def _mine(export: Export) -> QuerySet[Export]:
    """The row, as long as this worker is the one to write it."""
    return Export.objects.filter(pk=export.pk, lease_id=export.lease_id, state=ExportState.RUNNING)


def _write_part(export: Export) -> None:
    with reading(max_lag_s=_lag_allowed_s(export)) as alias:
        if not export.rows_estimated:
            export.rows_estimated = estimated_rows(query_of(export), alias)
        part = _Part(export, alias)
        assert export.lease_id is not None
        name = save_sealed(_part_name(export, export.lease_id), part.chunks())
    try:
        _commit(export, part, name)
    except (DatabaseError, InterfaceError):
        raise  # it may be committed all the same; if it is not, the next claim deletes what was left behind
    except BaseException:
        delete_file(name)
        raise


def _lag_allowed_s(export: Export) -> float:
    """A replica must have replayed the whole period."""
    since_end_s = (timezone.now() - until_of(export)).total_seconds()
    return max(0.0, min(settings.REPLICA_LAG_MAX_S, since_end_s))


def _commit(export: Export, part: _Part, name: str) -> None:
    """The part and the checkpoint together, if the export is still ours."""
    now = timezone.now()
    if part.size:
        export.parts = [*export.parts, {"name": name, "bytes": part.size}]
    else:
        delete_file(name)
    values = {
        "parts": export.parts,
        "rows_written": export.rows_written + part.rows,
        "rows_read": export.rows_read + part.read,
        "rows_estimated": export.rows_estimated,
        "bytes_written": export.bytes_written + part.size,
        "after_key": part.after_key,
        "attempts": 0,
        "lease_id": None,
        "lease_until": None,
        "stepped_at": now,
    }
    if part.is_last:
        values |= {
            "state": ExportState.DONE,
            "sha256": _sha256(export),
            "finished_at": now,
            "expires_at": now + timedelta(hours=settings.EXPORT_KEEP_HOURS),
        }
    if not _mine(export).update(**values):
        raise Interrupted


def _sha256(export: Export) -> str:
    digest = hashlib.sha256()
    for part in export.parts:
        for chunk in read_sealed(part["name"]):
            digest.update(chunk)
        _renew_lease(export)
    return digest.hexdigest()


# --- What goes wrong -----------------------------------------------------------------------------------------------


def _fail(export: Export, reason: str) -> None:
    """For good: nothing of the file is kept."""
    failed = _mine(export).update(
        state=ExportState.FAILED, last_error=reason[:300], finished_at=timezone.now(), lease_until=None
    )
    if failed:
        delete_parts(export)


def _put_off(export: Export, error: Exception) -> None:
    """The database broke off: again in a moment, from the checkpoint; `ATTEMPTS_MAX` times in a row."""
    log.warning("an export's rows could not be read", extra={"export_id": str(export.pk), "cause": str(error)[:300]})
    if export.attempts + 1 >= ATTEMPTS_MAX:
        _fail(export, _("The database broke off reading the rows. Ask for a shorter period or fewer columns."))
        return
    again_at = timezone.now() + timedelta(seconds=PAUSE_S)
    _mine(export).update(attempts=export.attempts + 1, lease_until=None, stepped_at=again_at)


def _problem_of(error: OSError) -> str:
    """For the operator."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _("There is no space left where files are kept (PRIVATE_FILES_DIR).")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _("The worker may not write where files are kept (PRIVATE_FILES_DIR).")
    return _("The file could not be stored: %(problem)s.") % {"problem": error.strerror or type(error).__name__}


# --- The end of a file ---------------------------------------------------------------------------------------------


def delete_parts(export: Export) -> None:
    """Delete what there is of the file, also what a worker is writing. What cannot be deleted is logged."""
    for name in _part_names(export):
        try:
            delete_file(name)
        except OSError:
            log.exception("a part of an export cannot be deleted", extra={"export_id": str(export.pk), "part": name})


def exports_expire() -> int:
    """Delete the files whose time is over, 100 at a time; returns how many. Index: `export_expiring`."""
    over = Export.objects.filter(state=ExportState.DONE, expires_at__lte=timezone.now())
    rows = list(over.order_by("expires_at")[:100])
    for export in rows:
        delete_parts(export)
        Export.objects.filter(pk=export.pk, state=ExportState.DONE).update(state=ExportState.EXPIRED)
    delete_unnamed(FOLDER, _names_of)
    return len(rows)


def _names_of(keys: list[UUID]) -> list[str]:
    """Of what is being written, or may be loaded; of what has ended otherwise nothing is kept."""
    kept = Export.objects.filter(pk__in=keys, state__in=(*OPEN_STATES, ExportState.DONE))
    return [name for export in kept for name in _part_names(export)]


def _part_names(export: Export) -> list[str]:
    """Of what there is, and of what a worker is writing."""
    names = [part["name"] for part in export.parts]
    return names if export.lease_id is None else [*names, _part_name(export, export.lease_id)]
