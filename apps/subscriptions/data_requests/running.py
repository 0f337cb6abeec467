"""Fulfilling requests in steps, on the control queue.

A step is one transaction: a page of a copy, or a part of an erasure, and the checkpoint behind it. What a killed worker
had begun is rolled back, and done again by whoever takes the request next; a page that it had written gets the same
name and is written over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.subscriptions.data_requests.copies import FOLDER, delete_parts, part_names, write_part
from apps.subscriptions.data_requests.models import WORKING, DataRequest, DataRequestKind, DataRequestState
from apps.subscriptions.data_requests.sections import subscription_ids_of
from apps.subscriptions.erasure import count_all, readers
from apps.subscriptions.models import AppUser
from apps.subscriptions.services.users import is_erased, user_erase
from apps.subscriptions.status import Setter
from apps.tenants.audit.services import audit
from automata_signal.celery import Task, send_tasks
from automata_signal.private_files import delete_unnamed

log = logging.getLogger(__name__)

TASK_MAX_S = 10.0
"""Then the work goes on in a new task, and other tasks of the control queue get their turn."""
ATTEMPTS = 5
"""At one step that ends in an error of ours."""
PARTS_OF_ERASURE = 3
"""Counting, erasing, counting again."""
FORGOTTEN_AT_ONCE = 200


def queue_work() -> None:
    """If the broker does not answer, the sweep `subscriptions.continue_data_requests` makes up for it."""
    send_tasks([Task("subscriptions.run_data_requests", [], "control", mark="automata:data-requests")])


def data_requests_continue() -> bool:
    """Queue the work if there is some; True if so. Index: `data_request_working`."""
    is_work = DataRequest.objects.filter(state__in=WORKING).exists()
    if is_work:
        queue_work()
    return is_work


def data_requests_run(*, max_s: float = TASK_MAX_S) -> bool:
    """Do steps, of the request that has waited longest first, until all are answered or `max_s` are over; True if
    there is more to do. An error of ours is counted and raised; after `ATTEMPTS` at one step the request has failed."""
    ends_at = time.monotonic() + max_s
    while (key := _next()) is not None:
        try:
            if not data_request_step(key):
                return False  # another worker is at it
        except Exception:
            _note_failure(key)
            raise
        if time.monotonic() >= ends_at:
            return _next() is not None
    return False


def _next() -> UUID | None:
    waiting = DataRequest.objects.filter(state__in=WORKING).order_by("updated_at")
    return waiting.values_list("pk", flat=True).first()


@transaction.atomic
def data_request_step(request_id: UUID) -> bool:
    """One step of a request and its checkpoint, both or neither; False if another worker is at it."""
    rows = DataRequest.objects.select_for_update(skip_locked=True, of=("self",)).select_related("user", "application")
    request = rows.filter(pk=request_id, state__in=WORKING).first()
    if request is None:
        return False
    now = timezone.now()
    request.state, request.started_at = DataRequestState.RUNNING, request.started_at or now
    if request.kind == DataRequestKind.ERASE:
        _erase(request)
    else:
        _copy(request)
    request.failures, request.updated_at = 0, timezone.now()
    request.save()
    return True


def _finish(request: DataRequest) -> None:
    request.state, request.finished_at = DataRequestState.DONE, timezone.now()
    details = {"kind": request.kind, "result": request.result}
    audit("data_request.done", application_id=request.application_id, row=request, details=details)


# --- An erasure ----------------------------------------------------------------------------------------------------


def _erase(request: DataRequest) -> None:
    """Count what there is; erase it, all in one transaction; count what is left. The counts are the proof."""
    user, request.sections = request.user, PARTS_OF_ERASURE
    ids = subscription_ids_of(user)
    if request.section == 0:
        request.result = {"found": count_all(user, ids)}
    elif request.section == 1 and not is_erased(user):
        user_erase(user=user, setter=Setter.PERSON, source="operator")
    elif request.section == 2:
        request.result = {**request.result, "left": count_all(user, ids)}
        _finish(request)
    request.section += 1


def forget_requests(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """An eraser (`subscriptions.erasure`): copies of an erased person's data go, and none is made."""
    copies = DataRequest.objects.filter(user=user, kind=DataRequestKind.EXPORT)
    for request in copies.order_by("pk").select_for_update(of=("self",)):
        delete_copy(request)
        if request.is_working:
            request.state, request.finished_at = DataRequestState.CANCELED, timezone.now()
            request.last_error = _("The person was erased meanwhile.")
        request.save()
    # Not of an erasure that is at work: its own step holds the row, and waits for the user.
    others = DataRequest.objects.filter(user=user).exclude(kind=DataRequestKind.ERASE, state__in=WORKING)
    others.exclude(reference="").update(reference="")


# --- A copy --------------------------------------------------------------------------------------------------------


def _copy(request: DataRequest) -> None:
    """The next page of the section that is to be copied."""
    all_of_them = list(readers().items())
    request.sections = len(all_of_them)
    if is_erased(request.user):
        request.state, request.finished_at = DataRequestState.FAILED, timezone.now()
        request.last_error = _("The person was erased meanwhile.")
        return
    name, read = all_of_them[request.section]
    page = read(request.user, subscription_ids_of(request.user), request.after_key)
    request.parts = [*request.parts, write_part(request.pk, len(request.parts), name, page.rows)]
    request.result = {**request.result, name: request.result.get(name, 0) + len(page.rows)}
    request.after_key = page.after
    if not page.after:
        request.section += 1
    if request.section == len(all_of_them):
        request.expires_at = timezone.now() + timedelta(hours=settings.EXPORT_KEEP_HOURS)
        _finish(request)


def copies_forget() -> int:
    """Delete the copies whose time is over; how many. Index: `data_request_files`."""
    old = DataRequest.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at")
    keys = list(old.values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE])
    for key in keys:
        with transaction.atomic():
            request = old.select_for_update(of=("self",)).filter(pk=key).first()
            if request is not None:  # else it is tried again since
                delete_copy(request)
                request.save()
    delete_unnamed(FOLDER, _names_of)
    return len(keys)


def _names_of(keys: list[UUID]) -> list[str]:
    requests = DataRequest.objects.filter(pk__in=keys)
    return [name for one in requests if one.parts or one.is_working for name in part_names(one)]


def delete_copy(request: DataRequest) -> None:
    """Delete the parts when the transaction is through; one that has failed begins anew if it is tried again. The row
    is locked; it is not saved."""
    names = part_names(request)
    request.parts, request.expires_at = [], None
    if request.state == DataRequestState.FAILED:
        request.section, request.after_key, request.result = 0, "", {}
    transaction.on_commit(lambda: delete_parts(names), robust=True)


@transaction.atomic
def _note_failure(request_id: UUID) -> None:
    """Count an error of ours at the present step; `updated_at` moves, so that the others get their turn."""
    working = DataRequest.objects.filter(pk=request_id, state__in=WORKING)
    working.update(failures=F("failures") + 1, updated_at=timezone.now())
    request = working.select_for_update().filter(failures__gte=ATTEMPTS).first()
    if request is not None:
        log.error("a data request failed", extra={"data_request_id": str(request_id)})
        request.state, request.finished_at = DataRequestState.FAILED, timezone.now()
        request.last_error = _("Something failed on our side; it was logged.")
        if request.kind == DataRequestKind.EXPORT:  # what there is of it goes, unless it is tried again until then
            request.expires_at = request.finished_at + timedelta(hours=settings.EXPORT_KEEP_HOURS)
        request.save()
