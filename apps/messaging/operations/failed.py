"""The page of failed messages: by reason and application, what to do about each, and sending them again.

What failed is told by the rollups of the last days, which upper apps hand in (`register_failed`). How many of it can be
sent again is counted when it is asked for, in the batches that have failed messages, and no longer than a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django import forms
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import OperationalError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.console.words import page_of_step
from apps.messaging.models import MessageRequeue
from apps.messaging.next_steps import next_step
from apps.messaging.operations.frame import AREA, Asked, ask, render
from apps.messaging.requeue import ONLY_BY_NAME, DeadLetters, FailedFilter, dead_letters, requeue_start
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.audit.services import audit
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, number
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.console.panels import list_address
from apps.tenants.models import Application
from automata_signal.time_limits import limit_statements

READ, SEND = "messages:read", "messages:send"
SHOWN = 100
COUNT_MAX_S = 1.5
"""Then the count is given up, and the page says so."""
ADDED = {1: "24h", 7: "7d", 30: "30d"}
"""Days that are shown → the filter of messages by when they were made."""
ORDERS_SHOWN = 8


class FailedCount(NamedTuple):
    application_id: UUID
    error_reason: str
    messages: int


ReadFailed = Callable[[Sequence[UUID], datetime, int], Sequence[FailedCount]]
_readers: list[ReadFailed] = []


def register_failed(read: ReadFailed) -> None:
    """Ask `read` (applications, since, limit) what failed; registering again takes the place of the first."""
    _readers[:] = [read]


class PeriodForm(forms.Form):
    days = forms.TypedChoiceField(
        label=gettext_lazy("Of"),
        coerce=int,
        choices=[
            (1, gettext_lazy("the last 24 hours")),
            (7, gettext_lazy("the last 7 days")),
            (30, gettext_lazy("the last 30 days")),
        ],
        widget=forms.Select(attrs={"class": "as-input", "data-submit": ""}),
    )


@console_page(
    "operations_failed",
    "operations/failed/",
    scope=READ,
    title=gettext_lazy("Failed messages"),
    icon="report",
    area=AREA,
)
def failed_page(request: HttpRequest) -> HttpResponse:
    """What failed in the operator's applications, most first, and the orders to send again."""
    grants = grants_of(request)
    form = PeriodForm({"days": request.GET.get("days") or "7"})
    days = form.cleaned_data["days"] if form.is_valid() else 7
    since = timezone.now() - timedelta(days=days)
    ids = _applications(request)
    found = list(_readers[0](ids, since, SHOWN)) if _readers and ids else []
    names = dict(Application.objects.filter(pk__in={row.application_id for row in found}).values_list("pk", "name"))
    rows = [
        {
            **_row(row, names.get(row.application_id, ""), since, may_send=grants.has(SEND, row.application_id)),
            "page": page_of_step(request, next_step(row.error_reason).page, row.application_id),
            "rows": list_address(
                "messaging.Message", application=row.application_id, reason=row.error_reason, added=ADDED[days]
            ),
        }
        for row in found
    ]
    orders = MessageRequeue.objects.filter(application_id__in=ids).select_related("application").order_by("-pk")
    context: dict[str, Any] = {
        "form": form,
        "rows": rows,
        "is_cut": len(rows) >= SHOWN,
        "orders": [_order(row) for row in orders[:ORDERS_SHOWN]],
        "all_orders": reverse("admin:messaging_messagerequeue_changelist"),
        "address": request.get_full_path(),
    }
    context["is_moving"] = any(not order["is_over"] for order in context["orders"])
    return render(request, "operations_failed", "failed", context)


def _applications(request: HttpRequest) -> list[UUID]:
    grants = grants_of(request)
    if named := request.GET.get("application", ""):
        application_id = as_uuid(named)
        if application_id is None or not grants.has(READ, application_id):
            raise Http404
        return [application_id]
    return grants.applications(READ)


def _row(row: FailedCount, application: str, since: datetime, *, may_send: bool) -> dict[str, Any]:
    step = next_step(row.error_reason)
    which = {
        "application": str(row.application_id),
        "reason": row.error_reason,
        "since": since.isoformat(timespec="seconds"),
    }
    return {
        "application": application,
        "reason": row.error_reason or "–",
        "messages": number(row.messages),
        "step": step.text,
        "link": step.link,
        "requeue": f"{reverse('admin:operations_requeue')}?{urlencode(which)}" if may_send and row.error_reason else "",
    }


def _order(row: MessageRequeue) -> dict[str, Any]:
    return {
        "address": reverse("admin:messaging_messagerequeue_change", args=[row.pk]),
        "application": row.application.name,
        "reason": row.error_reason or _("any"),
        "requeued": number(row.requeued),
        "skipped": number(sum(row.skipped.values())),
        "by": row.requested_by,
        "at": moment(row.created_at),
        "is_over": row.finished_at is not None,
    }


# --- Sending again -------------------------------------------------------------------------------------------------


@console_page("operations_requeue", "operations/requeue/", scope=SEND)
def requeue_page(request: HttpRequest) -> HttpResponse:
    """Count what the address names (application, campaign, reason, since, until), and on POST send it again."""
    application = _application(request)
    which = _which(request)

    def run(cleaned: dict[str, Any]) -> HttpResponse:
        with transaction.atomic():
            order = requeue_start(application=application, which=which, requested_by=str(request.user))
            told = {"reason": which.error_reason, "campaign": str(which.campaign_id or ""), "requeued": order.requeued}
            audit("message.requeue", request=request, application_id=application.pk, row=order, details=told)
        return HttpResponseRedirect(reverse("admin:messaging_messagerequeue_change", args=[order.pk]))

    facts: list[tuple[Any, Any]] = [(_("reason"), which.error_reason or _("any"))]
    if which.since:
        facts.append((_("accepted since"), moment(which.since)))
    if which.until:
        facts.append((_("accepted before"), moment(which.until)))
    asked = Asked(
        title=_("Send failed messages again"),
        subtitle=application.name,
        explain=_(
            "As new messages with the same content, each once; the failed ones stay failed. What a provider took and "
            "who cannot be reached any more are left out, and so is what the quota has no room for."
        ),
        label=_("Send again"),
        back=f"{reverse('admin:operations_failed')}?{urlencode({'application': str(application.pk)})}",
        facts=[*facts, *_counted(application, which)],
    )
    return ask(request, asked, forms.Form, run)


def _application(request: HttpRequest) -> Application:
    """404 for one that is not theirs to read, 403 where they may not send."""
    grants, key = grants_of(request), as_uuid(request.GET.get("application", ""))
    if key is None or not grants.has(READ, key):
        raise Http404
    if not grants.has(SEND, key):
        raise PermissionDenied
    row = Application.objects.filter(pk=key).first()
    if row is None:
        raise Http404
    return row


def _which(request: HttpRequest) -> FailedFilter:
    given = request.GET
    reason = given.get("reason", "").strip()
    if "\0" in reason or len(reason) > 100:
        raise BadRequest("There is no such reason.")
    return FailedFilter(
        campaign_id=as_uuid(given.get("campaign", "")),
        error_reason=reason,
        since=_moment(given.get("since", "")),
        until=_moment(given.get("until", "")),
    )


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else timezone.make_aware(found)
        if not 2000 <= found.year < 2200:  # beyond, there are times that not every zone can show
            raise ValueError
    except (ValueError, OverflowError):
        raise BadRequest("This is no time.") from None
    return found


def _counted(application: Application, which: FailedFilter) -> list[tuple[Any, Any]]:
    """How many it would be; without a number if it takes too long to say."""
    try:
        with transaction.atomic():
            limit_statements(COUNT_MAX_S)
            found = dead_letters(application=application, which=which)
    except OperationalError:
        return [(_("messages"), _("more than can be counted in a moment; they are sent again step by step"))]
    count = sum(_again(row, which) for row in found)
    done = sum(row.requeued for row in found)
    facts: list[tuple[Any, Any]] = [(_("messages, at most"), number(count))]
    if done:
        facts.append((_("were sent again already"), number(done)))
    if not which.error_reason:
        facts += [(row.error_reason or "–", number(row.messages - row.requeued)) for row in found[:12]]
    return facts


def _again(row: DeadLetters, which: FailedFilter) -> int:
    """Of these, what goes again: what only goes by its name needs to be named, and what was sent never does."""
    is_left_out = row.error_reason == TIMED_OUT or (row.error_reason in ONLY_BY_NAME and not which.error_reason)
    return 0 if is_left_out else row.messages - row.requeued
