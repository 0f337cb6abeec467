"""Where media files are: a folder of this machine, or a bucket (`settings.STORAGES["media"]`)."""

from __future__ import annotations

from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.http import content_disposition_header

PRESIGNED_S = 600


def media_storage() -> Storage:
    return storages["media"]


def store(application_id: UUID, name: str, content: bytes) -> str:
    """Keep `content`; answers with its name in the storage, which nobody can choose."""
    return media_storage().save(f"{application_id.hex}/{name}", ContentFile(content))


def read(stored_as: str) -> bytes:
    """All of a file. Raises FileNotFoundError."""
    with media_storage().open(stored_as, "rb") as file:
        content: bytes = file.read()
    return content


def forget(stored_as: str) -> None:
    """Delete a file; one that is not there is fine."""
    if stored_as:
        media_storage().delete(stored_as)


def presigned_url(stored_as: str, *, content_type: str, file_name: str, is_shown: bool) -> str | None:
    """Where the bucket itself hands out a file for `PRESIGNED_S` seconds; None if this machine has to."""
    storage = media_storage()
    if isinstance(storage, FileSystemStorage):
        return None
    shown_as = content_disposition_header(not is_shown, file_name) or "inline"
    parameters = {"ResponseContentType": content_type, "ResponseContentDisposition": shown_as}
    url: str = storage.url(stored_as, parameters=parameters, expire=PRESIGNED_S)  # type: ignore[call-arg]  # S3Storage's
    return url
