"""Entering, canceling and answering people's requests about their data."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from io import StringIO
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.subscriptions.data_requests.copies import DOWNLOAD_KIND, copy_download
from apps.subscriptions.data_requests.models import WORKING, DataRequest, DataRequestKind, DataRequestState
from apps.subscriptions.data_requests.running import delete_copy, queue_work
from apps.subscriptions.models import AppUser
from apps.subscriptions.services.users import is_erased
from apps.tenants.audit.services import audit
from apps.tenants.models import Application, Operator
from automata_signal.downloads import Download, DownloadLink, download_link
from automata_signal.errors import Conflict, NotFound, ValidationFailed
from automata_signal.ids import new_id

ORDER_MAX = 1_000
"""Users in one go."""
_BETWEEN = re.compile(r"[\r\n]+")


class Ordered(NamedTuple):
    order_id: UUID
    requests: list[DataRequest]
    unknown: list[str]
    """External ids of nobody."""
    open_already: int


def data_request_create(
    *,
    application: Application,
    user: AppUser,
    kind: str,
    by: Operator | str,
    ip: str | None = None,
    reference: str = "",
    order_id: UUID | None = None,
) -> DataRequest:
    """Write down a request, to be fulfilled in the background. Raises `NotFound` for who was erased, `Conflict`
    (DATA_REQUEST_OPEN) where the same was asked and is not answered yet."""
    if user.application_id != application.pk or is_erased(user):
        raise NotFound(_("There is no such user."))
    if kind not in DataRequestKind.values:
        raise ValidationFailed.of("kind", _("must be export or erase"))
    if len(reference) > 100:
        raise ValidationFailed.of("reference", _("is longer than 100 characters"))
    try:
        with transaction.atomic():
            request = DataRequest.objects.create(
                application=application,
                user=user,
                order_id=order_id or new_id(),
                kind=kind,
                requested_by=str(by)[:200],
                requested_from=ip or None,
                reference=reference,
            )
            audit(f"data_request.{kind}", actor=by, application_id=application.pk, row=request)
            transaction.on_commit(queue_work, robust=True)
    except IntegrityError:
        raise Conflict(_("This was asked for already and is not answered yet."), code="DATA_REQUEST_OPEN") from None
    return request


def data_requests_create(
    *,
    application: Application,
    kind: str,
    by: Operator | str,
    external_ids: Sequence[str] = (),
    user_ids: Sequence[UUID] = (),
    ip: str | None = None,
    reference: str = "",
) -> Ordered:
    """The same for many, by external id or by our own. Raises `ValidationFailed`: nobody, or more than `ORDER_MAX`."""
    wanted = list(dict.fromkeys(external_ids))
    if not wanted and not user_ids:
        raise ValidationFailed.of("external_ids", _("names nobody"))
    if len(wanted) + len(user_ids) > ORDER_MAX:
        raise ValidationFailed.of("external_ids", _("names more than %(limit)s users") % {"limit": f"{ORDER_MAX:,}"})
    rows = AppUser.with_archived.for_application(application)
    found = list(rows.filter(external_id__in=wanted)) if wanted else []
    found += [user for user in rows.filter(pk__in=user_ids) if not is_erased(user)] if user_ids else []
    known = {user.external_id for user in found}
    order = Ordered(new_id(), [], [one for one in wanted if one not in known], 0)
    open_already = 0
    with transaction.atomic():
        for user in {user.pk: user for user in found}.values():
            try:
                order.requests.append(
                    data_request_create(
                        application=application,
                        user=user,
                        kind=kind,
                        by=by,
                        ip=ip,
                        reference=reference,
                        order_id=order.order_id,
                    )
                )
            except Conflict:
                open_already += 1
    return order._replace(open_already=open_already)


def external_ids_of_lines(text: str) -> list[str]:
    """One external id a line, whatever is in it: a comma too."""
    lines = (line.strip() for line in _BETWEEN.split(text))
    return list(dict.fromkeys(line for line in lines if line))


def external_ids_of_csv(text: str) -> list[str]:
    """The first column, without a header that says so. Raises `csv.Error`."""
    cells = [row[0].strip() for row in csv.reader(StringIO(text)) if row]
    if cells and cells[0].lower() == "external_id":
        cells = cells[1:]
    return list(dict.fromkeys(cell for cell in cells if cell))


def data_request_cancel(*, application: Application, request_id: UUID, by: Operator | str) -> DataRequest:
    """Stop before the next step. Raises `NotFound`; `Conflict` (DATA_REQUEST_IS_OVER), also for an erasure that is
    done and only to be checked."""
    with transaction.atomic():
        request = _locked(application, request_id)
        if not request.is_working or (request.kind == DataRequestKind.ERASE and request.section >= 2):
            raise Conflict(_("The request is answered already."), code="DATA_REQUEST_IS_OVER")
        request.state, request.ended_by = DataRequestState.CANCELED, str(by)[:200]
        request.finished_at = request.updated_at = timezone.now()
        delete_copy(request)
        request.save()
        audit("data_request.cancel", actor=by, application_id=application.pk, row=request)
    return request


def data_request_retry(*, application: Application, request_id: UUID, by: Operator | str) -> DataRequest:
    """Go on with a request that has failed. Raises `NotFound`; `Conflict` (DATA_REQUEST_NOT_FAILED)."""
    with transaction.atomic():
        request = _locked(application, request_id)
        if request.state != DataRequestState.FAILED:
            raise Conflict(_("The request has not failed."), code="DATA_REQUEST_NOT_FAILED")
        if DataRequest.objects.filter(user=request.user_id, kind=request.kind, state__in=WORKING).exists():
            raise Conflict(_("This was asked for already and is not answered yet."), code="DATA_REQUEST_OPEN")
        request.state, request.failures, request.last_error = DataRequestState.WAITING, 0, ""
        request.finished_at, request.expires_at, request.updated_at = None, None, timezone.now()
        request.save()
        audit("data_request.retry", actor=by, application_id=application.pk, row=request)
        transaction.on_commit(queue_work, robust=True)
    return request


def data_request_link(
    *, application: Application, request_id: UUID, by: Operator | str, ip: str | None
) -> DownloadLink:
    """A link to the copy that expires; who asked for it is on record. Raises `NotFound`; `Conflict` (NO_COPY)."""
    with transaction.atomic():
        request = _locked(application, request_id)
        if not request.has_file:
            raise Conflict(_("There is no copy: it was not made yet, or its time is over."), code="NO_COPY")
        request.downloads_count += 1
        request.save(update_fields=["downloads_count"])
        audit("data_request.download", actor=by, application_id=application.pk, row=request, details={"from": ip or ""})
    return download_link(DOWNLOAD_KIND, request.pk)


def open_copy(request_id: UUID) -> Download | None:
    """The opener of these links (`automata_signal.downloads`)."""
    request = DataRequest.objects.filter(pk=request_id, application__is_active=True).first()
    return copy_download(request) if request is not None and request.has_file else None


def _locked(application: Application, request_id: UUID) -> DataRequest:
    rows = DataRequest.objects.for_application(application).select_for_update(of=("self",))
    request = rows.filter(pk=request_id).first()
    if request is None:
        raise NotFound(_("There is no such request."))
    return request
