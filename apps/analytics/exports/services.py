"""Asking for an export, canceling it, and loading its file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.analytics.exports.columns import Resource
from apps.analytics.exports.filters import checked_columns, checked_filters, checked_time_zone
from apps.analytics.exports.registry import resource_of
from apps.analytics.exports.running import delete_parts, queue_step
from apps.analytics.models.exports import OPEN_STATES, Export, ExportDownload, ExportState
from apps.billing.entitlements import require_depth, require_feature
from apps.billing.models import Feature
from apps.tenants.models import Application
from automata_signal.downloads import Download
from automata_signal.errors import Conflict, Forbidden, NotFound
from automata_signal.private_files import read_sealed

log = logging.getLogger(__name__)

WRITE, PERSONAL = "exports:write", "personal_data:read"
TOKEN_MAX_CHARS = 500
_SALT = "apps.analytics.exports.download"
_NO_FILE = _("There is no such file, or the link has expired. Ask for a new one where you got it.")


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: for the record, and for what may be seen."""

    label: str
    address: str
    scopes: frozenset[str]

    def may_read(self, resource: Resource, *, is_masked: bool) -> bool:
        return {WRITE, resource.scope} <= self.scopes and (is_masked or PERSONAL in self.scopes)


# --- Asking --------------------------------------------------------------------------------------------------------


def export_create(
    *,
    application: Application,
    kind: str,
    requester: Requester,
    filters: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    time_zone: str = "",
    bom: bool = False,
    gzip: bool = False,
    masked: bool | None = None,
) -> Export:
    """Order a file; a worker writes it. Personal data is masked for who has no `personal_data:read` or wants it so.

    Raises `ValidationFailed` or DRF's `ValidationError`, which name the field; `Forbidden`: without the scope of the
    kind, if it is to be unmasked without the scope for that, and PLAN_FEATURE; `Conflict` (EXPORTS_BUSY) if
    `EXPORTS_OPEN_MAX` are waiting or running.
    """
    resource = resource_of(kind)
    if resource.scope not in requester.scopes:
        raise Forbidden(f"An export of {kind} needs the scope {resource.scope}.")
    if masked is False and PERSONAL not in requester.scopes:
        raise Forbidden(f"A file that is not masked needs the scope {PERSONAL}.")
    require_feature(application, Feature.EXPORTS)
    if resource.depth is not None:
        require_depth(application, resource.depth)
    export = Export(
        application=application,
        kind=kind,
        filters=checked_filters(resource, filters or {}),
        columns=checked_columns(resource, columns),
        time_zone=checked_time_zone(application, time_zone),
        with_bom=bom,
        is_gzipped=gzip,
        is_masked=PERSONAL not in requester.scopes if masked is None else masked,
        requested_by=requester.label[:200],
        requested_from=requester.address or None,
    )
    with transaction.atomic():
        Application.objects.select_for_update(no_key=True).get(
            pk=application.pk
        )  # two at once count one after the other
        open_now = Export.objects.for_application(application).filter(state__in=OPEN_STATES).count()
        if open_now >= settings.EXPORTS_OPEN_MAX:
            raise Conflict(
                f"{open_now} exports are waiting or running; wait for one, or cancel it.", code="EXPORTS_BUSY"
            )
        export.save(force_insert=True)
        transaction.on_commit(queue_step, robust=True)
    return export


def export_get(*, application: Application, export_id: UUID) -> Export:
    """Raises `NotFound`, also for another application's."""
    export = Export.objects.for_application(application).filter(pk=export_id).first()
    if export is None:
        raise NotFound("There is no such export.")
    return export


def export_cancel(*, export: Export) -> Export:
    """End it and delete what is written; a worker that is at it notices with its next page. Raises `Conflict`."""
    with transaction.atomic():
        row = Export.objects.select_for_update().get(pk=export.pk)
        if row.state not in OPEN_STATES:
            raise Conflict(f"The export is {row.state}.", code="EXPORT_STATE")
        row.state = ExportState.CANCELED
        row.finished_at = timezone.now()
        row.save(update_fields=["state", "finished_at"])
    delete_parts(row)
    return row


# --- Loading -------------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    url: str
    expires_at: datetime


def download_token(export: Export) -> str:
    """Says that who comes with it was given this file's address within the last `DOWNLOAD_LINK_S`. It opens nothing by
    itself: who loads it is asked for a key or a session as well."""
    return Signer(salt=_SALT).sign_object([str(export.pk), int(time.time()) + settings.DOWNLOAD_LINK_S])


def download_link(export: Export) -> Link | None:
    """The address for API callers; None if there is no file."""
    if not _has_file(export):
        return None
    address = f"{settings.PUBLIC_URL.rstrip('/')}/api/v1/exports/{export.pk}/download"
    expires = datetime.fromtimestamp(int(time.time()) + settings.DOWNLOAD_LINK_S, UTC)
    return Link(f"{address}?{urlencode({'token': download_token(export)})}", expires)


def export_download(*, application: Application, export_id: UUID, token: str, requester: Requester) -> Download:
    """The file, and a record of who took it. Whatever is wrong, the link or who uses it, raises the same `NotFound`."""
    export = Export.objects.for_application(application).filter(pk=export_id).first()
    if export is None or not _fits(token, export) or not _has_file(export):
        raise NotFound(str(_NO_FILE))
    if not requester.may_read(resource_of(export.kind), is_masked=export.is_masked):
        raise NotFound(str(_NO_FILE))
    with transaction.atomic():
        ExportDownload.objects.create(
            export=export, downloaded_by=requester.label[:200], downloaded_from=requester.address or None
        )
        Export.objects.filter(pk=export.pk).update(downloads_count=F("downloads_count") + 1)
    log.info("an export was downloaded", extra={"export_id": str(export.pk), "application_id": str(application.pk)})
    content_type = "application/gzip" if export.is_gzipped else "text/csv; charset=utf-8"
    return Download(export.file_name, content_type, _content(export), export.bytes_written)


def _has_file(export: Export) -> bool:
    return export.state == ExportState.DONE and export.expires_at is not None and timezone.now() < export.expires_at


def _fits(token: str, export: Export) -> bool:
    try:
        key, expires = Signer(salt=_SALT).unsign_object(token[: TOKEN_MAX_CHARS + 1])
        return bool(key == str(export.pk) and time.time() < expires)
    except (BadSignature, ValueError, TypeError):
        return False


def _content(export: Export) -> Iterator[bytes]:
    for part in export.parts:
        yield from read_sealed(part["name"])
