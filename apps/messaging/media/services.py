"""Uploading, making variants, marking as used and deleting media files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.messaging.media.images import CHANNEL_IMAGES, Encoded, image_clean, image_for
from apps.messaging.media.kinds import clean_name, find_kind
from apps.messaging.media.models import MediaFile, MediaKind, MediaVariant
from apps.messaging.media.selectors import media_bytes_used, media_get
from apps.messaging.media.storing import forget, read, store
from apps.messaging.media.uses import still_used
from apps.tenants.models import Application
from automata_signal.errors import Conflict, NotFound, PayloadTooLarge, ValidationFailed
from automata_signal.ids import new_id

log = logging.getLogger(__name__)
FORGOTTEN_AT_ONCE = 200
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}


def media_create(*, application: Application, file_name: str, chunks: Iterable[bytes], by: str) -> MediaFile:
    """Keep an upload. What it is, is found in its content; images are encoded anew, without what was hidden in them.

    Raises `ValidationFailed` (`file`), `PayloadTooLarge`, `Conflict` (MEDIA_QUOTA_FULL); then nothing is kept.
    """
    content = _read_bounded(chunks)
    found = find_kind(content, file_name)
    limit = _limit_of(found.kind)
    if len(content) > limit:
        raise PayloadTooLarge(f"The file is {len(content)} bytes: at most {limit} are taken of this kind.")
    made = image_clean(content, found.content_type) if found.kind == MediaKind.IMAGE else None
    stored = made.content if made is not None else content
    _refuse_over_quota(application, len(stored))
    media_id = new_id()
    stored_as = store(application.pk, f"{media_id.hex}/file.{found.extension}", stored)
    try:
        with transaction.atomic():
            Application.objects.select_for_update(no_key=True).get(pk=application.pk)  # two at once count in turn
            _refuse_over_quota(application, len(stored))
            return MediaFile.objects.create(
                id=media_id,
                application=application,
                kind=found.kind,
                file_name=clean_name(file_name, found.extension),
                content_type=found.content_type,
                file_bytes=len(stored),
                stored_bytes=len(stored),
                sha256=hashlib.sha256(stored).hexdigest(),
                width=made.width if made is not None else None,
                height=made.height if made is not None else None,
                is_animated=made is not None and made.is_animated,
                stored_as=stored_as,
                uploaded_by=by[:200],
            )
    except BaseException:
        forget(stored_as)
        raise


def media_variant(*, application: Application, media_id: UUID, channel: str) -> MediaVariant:
    """The image as `channel` takes it (a name of `images.CHANNEL_IMAGES`): made now, or found from an earlier time.

    Raises `NotFound`, `ValidationFailed` (`channel`), `Conflict` (MEDIA_QUOTA_FULL).
    """
    media = media_get(application=application, media_id=media_id)
    if channel not in CHANNEL_IMAGES:
        raise ValidationFailed.of("channel", f"must be one of {', '.join(CHANNEL_IMAGES)}")
    if not media.is_image:
        raise ValidationFailed.of("channel", "is only of images")
    made = media.variants.filter(name=channel).first()
    if made is not None:
        return made
    try:
        encoded = image_for(read(media.stored_as), media.content_type, channel)
    except FileNotFoundError:
        raise NotFound("The file is gone from the storage; upload it again.") from None
    return _keep_variant(media, channel, encoded)


def _keep_variant(media: MediaFile, channel: str, encoded: Encoded) -> MediaVariant:
    """Keep what was made; if another request was faster, what it made."""
    _refuse_over_quota(media.application, len(encoded.content))
    name = f"{media.pk.hex}/{channel}.{_EXTENSIONS[encoded.content_type]}"
    stored_as = store(media.application_id, name, encoded.content)
    try:
        with transaction.atomic():
            grown = MediaFile.objects.filter(pk=media.pk)
            if not grown.update(stored_bytes=F("stored_bytes") + len(encoded.content)):
                raise NotFound("There is no such media file.")
            return MediaVariant.objects.create(
                media=media,
                name=channel,
                content_type=encoded.content_type,
                file_bytes=len(encoded.content),
                sha256=hashlib.sha256(encoded.content).hexdigest(),
                width=encoded.width,
                height=encoded.height,
                stored_as=stored_as,
            )
    except IntegrityError:
        forget(stored_as)
        return media.variants.get(name=channel)
    except BaseException:
        forget(stored_as)
        raise


def media_mark_used(*, application_id: UUID, ids: Collection[str | UUID]) -> None:
    """Content that names these files was accepted: they are needed from now on. Ids of nobody's are passed over."""
    if ids:
        MediaFile.objects.filter(application_id=application_id, pk__in=ids).update(last_used_at=timezone.now())


def media_delete(*, application: Application, media_id: UUID, even_if_used: bool = False) -> None:
    """Delete a file and its variants; all its addresses are revoked by it.

    Raises `NotFound`; `Conflict` (MEDIA_IN_USE) for one that content has named within `MEDIA_KEEP_DAYS` or that a
    template or campaign names, unless `even_if_used`: messages that were sent then show a gap.
    """
    with transaction.atomic():
        media = MediaFile.objects.for_application(application).select_for_update().filter(pk=media_id).first()
        if media is None:
            raise NotFound("There is no such media file.")
        if not even_if_used and _is_used(media):
            raise Conflict("Messages, templates or campaigns name this file.", code="MEDIA_IN_USE")
        _delete(media)


def media_forget_unused() -> int:
    """Delete what nothing uses: uploads that nothing has named within `MEDIA_UNUSED_DAYS`, and what nothing has named
    again for `MEDIA_KEEP_DAYS`. Returns how many. Indexes: `media_never_used`, `media_last_used`."""
    now = timezone.now()
    never = Q(last_used_at=None, created_at__lt=now - timedelta(days=settings.MEDIA_UNUSED_DAYS))
    long_ago = Q(last_used_at__lt=now - timedelta(days=settings.MEDIA_KEEP_DAYS))
    by_application: dict[UUID, list[UUID]] = {}
    for condition in (never, long_ago):
        old = MediaFile.objects.filter(condition).order_by("created_at").values_list("application_id", "pk")
        for application_id, media_id in old[:FORGOTTEN_AT_ONCE]:
            by_application.setdefault(application_id, []).append(media_id)
    deleted = 0
    for application_id, ids in by_application.items():
        used = still_used(application_id, ids)
        media_mark_used(application_id=application_id, ids=used)  # so that they are not looked at each time
        for media_id in set(ids) - used:
            deleted += _forget(media_id, never | long_ago)
    return deleted


@transaction.atomic
def _forget(media_id: UUID, condition: Q) -> int:
    media = MediaFile.objects.filter(condition, pk=media_id).select_for_update(skip_locked=True).first()
    if media is None:
        return 0
    _delete(media)
    return 1


def _delete(media: MediaFile) -> None:
    names = [media.stored_as, *media.variants.values_list("stored_as", flat=True)]
    media.delete()
    transaction.on_commit(lambda: _forget_all(names), robust=True)


def _forget_all(names: Iterable[str]) -> None:
    for name in names:
        forget(name)


def _is_used(media: MediaFile) -> bool:
    since = timezone.now() - timedelta(days=settings.MEDIA_KEEP_DAYS)
    if media.last_used_at is not None and media.last_used_at >= since:
        return True
    return bool(still_used(media.application_id, [media.pk]))


def _read_bounded(chunks: Iterable[bytes]) -> bytes:
    limit, content = max(_limit_of(kind) for kind in MediaKind), bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > limit:
            raise PayloadTooLarge(f"The file is larger than {limit} bytes.")
    return bytes(content)


def _limit_of(kind: str) -> int:
    limit: int = settings.MEDIA_IMAGE_MAX_BYTES if kind == MediaKind.IMAGE else settings.MEDIA_ATTACHMENT_MAX_BYTES
    return limit


def _refuse_over_quota(application: Application, more: int) -> None:
    used, quota = media_bytes_used(application), settings.MEDIA_QUOTA_BYTES
    if used + more > quota:
        raise Conflict(
            f"The application's files take {used} of {quota} bytes: this one does not fit. Delete some.",
            code="MEDIA_QUOTA_FULL",
            facts={"what": "media_bytes", "limit": quota, "used": used},
        )
