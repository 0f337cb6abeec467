"""What is deleted when: files and rejects hold personal data, and the record of the import holds none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.subscriptions.imports.duplicates import forget_keys, note_erased
from apps.subscriptions.imports.models import OPEN, WORKING, Import, ImportState
from apps.subscriptions.imports.rejects import delete_parts, folder_of
from apps.subscriptions.models import AppUser
from automata_signal.private_files import UNNAMED_AFTER, delete_file, key_in, private_storage

FORGOTTEN_AT_ONCE = 200
_FOLDER = folder_of(UUID(int=0)).rpartition("/")[0]


def delete_file_of(run: Import) -> None:
    """Delete the uploaded file when the transaction is through. The row is locked; it is not saved."""
    name, run.stored_as = run.stored_as, ""
    transaction.on_commit(lambda: delete_file(name), robust=True)


def delete_rejects_of(run: Import) -> None:
    """The same for what was refused."""
    parts, run.reject_parts = list(run.reject_parts), []
    key = run.pk
    transaction.on_commit(lambda: delete_parts(key, parts), robust=True)


def imports_forget() -> int:
    """Delete the files of imports without a step for `IMPORT_KEEP_DAYS`; one that nobody has applied by then is
    canceled. Returns how many there were. Index: `import_with_files`."""
    before = timezone.now() - timedelta(days=settings.IMPORT_KEEP_DAYS)
    old = Import.objects.filter(deleted_at=None, updated_at__lt=before).exclude(state__in=WORKING)
    ids = list(old.order_by("updated_at").values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE])
    for import_id in ids:
        _forget(import_id)
    _delete_orphans()
    return len(ids)


@transaction.atomic
def _forget(import_id: UUID) -> None:
    run = Import.objects.select_for_update().exclude(state__in=WORKING).filter(pk=import_id, deleted_at=None).first()
    if run is None:
        return
    if run.state in (ImportState.CHECKED, ImportState.MAPPING):
        run.state, run.finished_at = ImportState.CANCELED, timezone.now()
        run.last_error = f"It was not applied within {settings.IMPORT_KEEP_DAYS} days."
    _delete_all_of(run)


def _delete_all_of(run: Import) -> None:
    run.deleted_at = timezone.now()
    delete_file_of(run)
    delete_rejects_of(run)
    forget_keys(run)
    run.save(update_fields=["state", "finished_at", "last_error", "stored_as", "reject_parts", "deleted_at"])


def forget_erased(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """An eraser (`subscriptions.erasure`): the files that the application has no use for any more go, as the person may
    be in them; those that are still to be applied do not bring the person back."""
    note_erased(user, subscription_ids)
    over = Import.objects.filter(application_id=user.application_id, deleted_at=None).exclude(state__in=OPEN)
    for run in over.order_by("pk").select_for_update():
        _delete_all_of(run)


def _delete_orphans() -> None:
    """Files whose import was never recorded: the process ended between the two."""
    storage, before = private_storage(), timezone.now() - UNNAMED_AFTER
    try:
        folders, files = storage.listdir(_FOLDER)
    except FileNotFoundError:
        return
    for name in files:
        place, key = f"{_FOLDER}/{name}", key_in(name)
        is_known = key is None or Import.objects.filter(pk=key, stored_as=place).exists()
        if not is_known and storage.get_modified_time(place) < before:
            delete_file(place)
    for name in folders:
        if (key := key_in(name)) and not Import.objects.filter(pk=key, deleted_at=None).exists():
            for part in storage.listdir(f"{_FOLDER}/{name}")[1]:
                delete_file(f"{_FOLDER}/{name}/{part}")
            delete_file(f"{_FOLDER}/{name}")
