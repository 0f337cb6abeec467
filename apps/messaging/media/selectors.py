"""Finding media files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Sum

from apps.messaging.adapters.base import Attachment
from apps.messaging.media.addresses import media_url
from apps.messaging.media.images import CHANNEL_IMAGES
from apps.messaging.media.models import MediaFile, MediaVariant
from apps.messaging.media.storing import read
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.errors import NotFound, ValidationFailed


class Servable(NamedTuple):
    """What an address opens."""

    stored_as: str
    content_type: str
    file_name: str
    file_bytes: int
    sha256: str
    is_image: bool


def media_list(*, application: Application, kind: str = "") -> ScopedQuerySet[MediaFile]:
    rows = MediaFile.objects.for_application(application)
    return rows.filter(kind=kind) if kind else rows


def media_get(*, application: Application, media_id: UUID) -> MediaFile:
    """The file of this application, or `NotFound`."""
    media = MediaFile.objects.for_application(application).filter(pk=media_id).first()
    if media is None:
        raise NotFound("There is no such media file.")
    return media


def media_bytes_used(application: Application) -> int:
    """What the application's files take, variants too. Index: `media_by_application`."""
    used = MediaFile.objects.for_application(application).aggregate(total=Sum("stored_bytes"))["total"]
    return int(used or 0)


def media_address(media: MediaFile, *, variant: str = "", valid_s: int | None = None) -> str:
    """The public address of a file or of its variant: as long as it is there, or for `valid_s` seconds.

    Raises `NotFound` for a variant that was not made.
    """
    made = media.variants.filter(name=variant).first() if variant else None
    if variant and made is None:
        raise NotFound("This variant was not made yet.")
    return media_url(media.pk, _name_of(media, made), variant=variant, valid_s=valid_s)


def variant_address(variant: MediaVariant) -> str:
    """The public address of a variant, as long as its file is there."""
    return media_url(variant.media_id, _name_of(variant.media, variant), variant=variant.name)


def _name_of(media: MediaFile, variant: MediaVariant | None) -> str:
    return media.file_name if variant is None else variant_file_name(media, variant)


def variant_file_name(media: MediaFile, variant: MediaVariant) -> str:
    extension = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif"}[variant.content_type]
    return f"{media.file_name.rpartition('.')[0]}.{extension}"


def media_open(media_id: UUID, variant: str) -> Servable | None:
    """What an address of ours opens; None if it is gone, or its application was switched off."""
    media = MediaFile.objects.filter(pk=media_id, application__is_active=True).first()
    if media is None:
        return None
    if not variant:
        return Servable(
            media.stored_as, media.content_type, media.file_name, media.file_bytes, media.sha256, media.is_image
        )
    made = media.variants.filter(name=variant).first()
    if made is None or variant not in CHANNEL_IMAGES:
        return None
    name = variant_file_name(media, made)
    return Servable(made.stored_as, made.content_type, name, made.file_bytes, made.sha256, is_image=True)


def attachments_load(
    *, application_id: UUID, ids: Sequence[str | UUID], field: str = "options.attachments"
) -> tuple[Attachment, ...]:
    """The files to go along with an e-mail, in this order.

    Raises `ValidationFailed` that names `options.attachments.0` and so on: for an id that is none, a file that is not
    there (any more), one that stands twice, and the first one with which they are larger than
    `MEDIA_ATTACHMENTS_TOTAL_MAX_BYTES`. `attachments_check` says the same without reading the files.
    """
    rows = attachments_check(application_id=application_id, ids=ids, field=field)
    loaded: list[Attachment] = []
    for number, media in enumerate(rows):
        try:
            loaded.append(Attachment(media.file_name, media.content_type, read(media.stored_as)))
        except FileNotFoundError:
            raise ValidationFailed.of(f"{field}.{number}", "is gone from the storage; upload it again") from None
    return tuple(loaded)


def attachments_check(
    *, application_id: UUID, ids: Sequence[str | UUID], field: str = "options.attachments"
) -> list[MediaFile]:
    """The rows of `ids`, in this order. Raises as `attachments_load` does; for when content is accepted."""
    if not isinstance(ids, Sequence) or isinstance(ids, str):
        raise ValidationFailed.of(field, "must be a list of ids of media files")
    if len(ids) > settings.MEDIA_ATTACHMENTS_MAX:
        raise ValidationFailed.of(field, f"at most {settings.MEDIA_ATTACHMENTS_MAX} files may be attached")
    keys = [_key(f"{field}.{number}", value) for number, value in enumerate(ids)]
    rows = MediaFile.objects.filter(application_id=application_id).in_bulk(keys)
    total, found = 0, []
    for number, key in enumerate(keys):
        place, media = f"{field}.{number}", rows.get(key)
        if media is None:
            raise ValidationFailed.of(place, "there is no such media file")
        if key in keys[:number]:
            raise ValidationFailed.of(place, "is attached already")
        total += media.file_bytes
        if total > settings.MEDIA_ATTACHMENTS_TOTAL_MAX_BYTES:
            limit = settings.MEDIA_ATTACHMENTS_TOTAL_MAX_BYTES
            raise ValidationFailed.of(place, f"with it the attachments are {total} bytes: at most {limit} are allowed")
        found.append(media)
    return found


def _key(place: str, value: str | UUID) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValidationFailed.of(place, "must be the id of a media file") from None
