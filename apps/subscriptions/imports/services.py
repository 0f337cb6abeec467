"""Creating, applying and canceling imports, and finding them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.subscriptions.imports.cleaning import delete_file_of, delete_rejects_of
from apps.subscriptions.imports.columns import parser_for
from apps.subscriptions.imports.duplicates import forget_keys, release_lines
from apps.subscriptions.imports.models import COUNTS, OPEN, Import, ImportMode, ImportState, OnConflict
from apps.subscriptions.imports.reading import SAMPLE_BYTES, Layout, UnreadableFile, read_layout
from apps.subscriptions.imports.rejects import DOWNLOAD_KIND, folder_of, rejects_download
from apps.subscriptions.imports.steps import begin_applying, queue_import
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.downloads import Download, DownloadLink, download_link
from automata_signal.errors import Conflict, NotFound, PayloadTooLarge, ValidationFailed
from automata_signal.ids import new_id
from automata_signal.private_files import delete_file, open_sealed, save_sealed

OPEN_MAX = 10
"""Imports of one application that are not over."""


@dataclass(frozen=True)
class ImportOptions:
    """How a file is read and what is done with it; empty: found in the file."""

    mode: str = ImportMode.DRY_RUN
    encoding: str = ""
    delimiter: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    type: str = ""
    """Of all subscriptions in a file without that column."""
    on_conflict: str = OnConflict.UPDATE
    clear_empty: bool = False
    resubscribe: bool = False


def import_create(
    *,
    application: Application,
    kind: str,
    file_name: str,
    chunks: Iterable[bytes],
    options: ImportOptions,
    by: str,
    ip: str = "",
    is_to_be_mapped: bool = False,
) -> Import:
    """Keep a file, look at its first line, and have it checked in the background; nothing is imported by this.

    `is_to_be_mapped`: its columns are said later, by `import_map`, and it is checked then. Memory does not grow with
    the file. Raises `PayloadTooLarge`, `UnreadableFile`, `ValidationFailed` (the columns), `Conflict`
    (TOO_MANY_IMPORTS); then no trace of the file is left.
    """
    _refuse_too_many(application)
    import_id = new_id()
    incoming = _Incoming(chunks)
    stored_as = save_sealed(f"{folder_of(import_id)}.csv", incoming)
    try:
        layout = _read_layout(stored_as, options)
        if not is_to_be_mapped:
            parser_for(kind, layout.header, options.mapping, default_type=options.type, clear_empty=options.clear_empty)
        if layout.first_offset >= incoming.size:
            raise UnreadableFile("has no lines after its header")
        with transaction.atomic():
            Application.objects.select_for_update(no_key=True).get(pk=application.pk)  # two at once count in turn
            _refuse_too_many(application)
            run = Import.objects.create(
                id=import_id,
                application=application,
                kind=kind,
                mode=options.mode,
                state=ImportState.MAPPING if is_to_be_mapped else ImportState.WAITING,
                file_name=_shown_name(file_name),
                stored_as=stored_as,
                file_bytes=incoming.size,
                sha256=incoming.digest.hexdigest(),
                encoding=layout.encoding,
                delimiter=layout.delimiter,
                header=layout.header,
                mapping=dict(options.mapping),
                default_type=options.type,
                on_conflict=options.on_conflict,
                clear_empty=options.clear_empty,
                resubscribe=options.resubscribe,
                first_offset=layout.first_offset,
                first_line=layout.first_line,
                byte_offset=layout.first_offset,
                line=layout.first_line,
                requested_by=by[:200],
                ip=ip[:45],
            )
            if not is_to_be_mapped:
                transaction.on_commit(lambda: queue_import(run.pk), robust=True)
    except BaseException:
        delete_file(stored_as)
        raise
    return run


def _refuse_too_many(application: Application) -> None:
    """What is open keeps its file; what is canceled or has failed does not."""
    if Import.objects.for_application(application).filter(state__in=OPEN).count() >= OPEN_MAX:
        raise Conflict(f"{OPEN_MAX} imports are not over yet; apply or cancel them.", code="TOO_MANY_IMPORTS")


class _Incoming:
    """The bytes of an upload on their way: counted, bounded and digested."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.size = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > settings.IMPORT_FILE_MAX_BYTES:
                raise PayloadTooLarge(f"The file is larger than {settings.IMPORT_FILE_MAX_BYTES} bytes.")
            self.digest.update(chunk)
            yield chunk


def _read_layout(stored_as: str, options: ImportOptions) -> Layout:
    with open_sealed(stored_as) as file:
        sample = file.read(SAMPLE_BYTES)
    return read_layout(io.BytesIO(sample), encoding=options.encoding, delimiter=options.delimiter)


def _shown_name(file_name: str) -> str:
    """The last part of it, as it can be shown."""
    name = file_name.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in name if character.isprintable())[:200] or "import.csv"


def import_map(*, application: Application, import_id: UUID, options: ImportOptions) -> Import:
    """Say what the columns of an uploaded file are, and have it checked in the background; also anew, with others.

    Raises `NotFound`, `ValidationFailed` (the columns), `Conflict` (IMPORT_CANNOT_BE_MAPPED) for one that is being
    checked or applied, or is over.
    """
    with transaction.atomic():
        run = _locked(application, import_id)
        if run.state not in (ImportState.MAPPING, ImportState.CHECKED):
            raise Conflict(f"The import is {run.state}.", code="IMPORT_CANNOT_BE_MAPPED")
        if options.on_conflict not in OnConflict.values:
            raise ValidationFailed.of("on_conflict", "must be update or skip")
        parser_for(run.kind, run.header, options.mapping, default_type=options.type, clear_empty=options.clear_empty)
        run.mapping, run.default_type, run.on_conflict = dict(options.mapping), options.type, options.on_conflict
        run.clear_empty, run.resubscribe = options.clear_empty, options.resubscribe
        release_lines(run)
        delete_rejects_of(run)
        run.state, run.check_counts, run.checked_at, run.failures = ImportState.WAITING, None, None, 0
        run.byte_offset, run.line = run.first_offset, run.first_line
        for name in COUNTS:
            setattr(run, name, 0)
        run.updated_at = timezone.now()
        run.save()
        transaction.on_commit(lambda: queue_import(run.pk), robust=True)
    return run


def import_apply(*, application: Application, import_id: UUID, by: str) -> Import:
    """Import what was checked, in the background. Raises `NotFound`, `Conflict` (IMPORT_NOT_CHECKED)."""
    with transaction.atomic():
        run = _locked(application, import_id)
        if run.state != ImportState.CHECKED:
            raise Conflict(f"The import is {run.state}, not checked.", code="IMPORT_NOT_CHECKED")
        begin_applying(run, by=by)
        run.updated_at = timezone.now()
        run.save()
        transaction.on_commit(lambda: queue_import(run.pk), robust=True)
    return run


def import_cancel(*, application: Application, import_id: UUID, by: str) -> Import:
    """Stop an import after the step in progress. What it has applied stays. Raises `NotFound`, `Conflict`
    (IMPORT_IS_OVER)."""
    with transaction.atomic():
        run = _locked(application, import_id)
        if not run.is_open:
            raise Conflict(f"The import is {run.state}.", code="IMPORT_IS_OVER")
        run.state, run.ended_by = ImportState.CANCELED, by[:200]
        run.finished_at = run.updated_at = timezone.now()
        forget_keys(run)
        delete_file_of(run)
        run.save()
    return run


def imports_list(*, application: Application) -> ScopedQuerySet[Import]:
    return Import.objects.for_application(application)


def import_get(*, application: Application, import_id: UUID) -> Import:
    """The import of this application, or `NotFound`."""
    run = imports_list(application=application).filter(pk=import_id).first()
    if run is None:
        raise NotFound("There is no such import.")
    return run


def import_rejects_link(*, application: Application, import_id: UUID) -> DownloadLink:
    """A link to the lines that were refused. Raises `NotFound`; `Conflict` (NO_REJECTS) if there are none."""
    run = import_get(application=application, import_id=import_id)
    if not run.has_rejects:
        raise Conflict("No line was refused, or the file was deleted.", code="NO_REJECTS")
    return download_link(DOWNLOAD_KIND, run.pk)


def open_rejects(import_id: UUID) -> Download | None:
    """The opener of these links (`automata_signal.downloads`)."""
    run = Import.objects.filter(pk=import_id, application__is_active=True).first()
    return rejects_download(run) if run is not None and run.has_rejects else None


def _locked(application: Application, import_id: UUID) -> Import:
    run = Import.objects.for_application(application).select_for_update().filter(pk=import_id).first()
    if run is None:
        raise NotFound("There is no such import.")
    return run
