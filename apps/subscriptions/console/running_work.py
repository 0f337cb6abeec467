"""Imports, and what people ask about their data, on the page of running work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Min, Q, TextField
from django.db.models.functions import Cast
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.subscriptions.data_requests.models import WORKING as REQUEST_WORKING
from apps.subscriptions.data_requests.models import (
    DataRequest,
    DataRequestKind,
    DataRequestState,
)
from apps.subscriptions.imports.models import WORKING, Import, ImportState
from apps.tenants.console import running  # noqa: F401  # registers its page
from apps.tenants.console.formats import number
from apps.tenants.console.work import SHOWN, Work, work_source

_COLOURS = {
    ImportState.CHECKED.value: "warning",
    ImportState.MAPPING.value: "warning",
    ImportState.DONE.value: "success",
    ImportState.FAILED.value: "danger",
    ImportState.CANCELED.value: "default",
}


def _within(rows: Any, applications: Sequence[UUID] | None) -> Any:
    return rows if applications is None else rows.filter(application_id__in=applications)


def _count_imports(applications: Sequence[UUID] | None) -> int:
    """Index: `import_working`."""
    return int(_within(Import.objects.filter(state__in=WORKING), applications).count())


@work_source("imports", label=gettext_lazy("Import"), icon="upload_file", scope="imports:write", count=_count_imports)
def imports(applications: Sequence[UUID] | None, is_running: bool) -> list[Work]:
    rows = _within(Import.objects.all(), applications)
    rows = rows.filter(state__in=WORKING) if is_running else rows
    return [
        Work(
            title=run.file_name,
            application_id=run.application_id,
            by=run.requested_by,
            started_at=run.created_at,
            finished_at=run.finished_at,
            is_running=run.is_working,
            state=ImportState(run.state).label,
            colour=_COLOURS.get(run.state, "info"),
            percent=run.percent if run.is_working else None,
            line=_("%(rows)s rows, %(rejected)s refused")
            % {"rows": number(run.total_rows), "rejected": number(run.rejected_rows)},
            problem=run.last_error,
            address=reverse("admin:subscriptions_import_change", args=[run.pk]),
            cancel=reverse("admin:subscriptions_import_do", args=[run.pk, "cancel"]) if run.is_open else "",
        )
        for run in rows.order_by("-pk")[:SHOWN]
    ]


def _count_orders(applications: Sequence[UUID] | None) -> int:
    """Index: `data_request_working`."""
    rows = _within(DataRequest.objects.filter(state__in=REQUEST_WORKING), applications)
    return int(rows.aggregate(orders=Count("order_id", distinct=True))["orders"])


@work_source(
    "data_requests",
    label=gettext_lazy("Data request"),
    icon="privacy_tip",
    scope="users:read",
    count=_count_orders,
    cancel_scope="users:write",
)
def data_requests(applications: Sequence[UUID] | None, is_running: bool) -> list[Work]:
    """One row for all that was asked in one go; however many an order names, it hides no other. Ids of orders are in
    order of time: by `data_request_by_order`."""
    rows = _within(DataRequest.objects.all(), applications)
    if is_running:
        rows = rows.filter(state__in=REQUEST_WORKING)
    newest = list(rows.order_by("-order_id").values_list("order_id", flat=True).distinct()[:SHOWN])
    orders = (
        DataRequest.objects.filter(order_id__in=newest)
        .values("order_id", "application_id", "kind")
        .annotate(
            total=Count("pk"),
            working=Count("pk", filter=Q(state__in=REQUEST_WORKING)),
            failed=Count("pk", filter=Q(state=DataRequestState.FAILED)),
            canceled=Count("pk", filter=Q(state=DataRequestState.CANCELED)),
            begun=Min("created_at"),
            ended=Max("finished_at"),
            who=Min("requested_by"),
            at=Min("section"),
            sections=Min("sections"),
            one=Min(Cast("pk", TextField())),
        )
        .order_by("-begun")
    )
    return [_order(order) for order in orders]


def _order(order: Mapping[str, Any]) -> Work:
    total, working = order["total"], order["working"]
    state, colour = _("Done"), "success"
    if working:
        state, colour = _("Running"), "info"
    elif order["failed"]:
        state, colour = _("Failed"), "danger"
    elif order["canceled"] == total:
        state, colour = _("Canceled"), "default"
    percent = int(100 * (total - working) / total)
    if total == 1:
        percent = int(100 * order["at"] / order["sections"]) if order["sections"] else 0
        address = reverse("admin:subscriptions_datarequest_change", args=[order["one"]])
        line = ""
    else:
        address = f"{reverse('admin:subscriptions_datarequest_changelist')}?order={order['order_id']}"
        line = _("%(done)s of %(total)s people") % {"done": number(total - working), "total": number(total)}
    return Work(
        title=str(DataRequestKind(order["kind"]).label),
        application_id=order["application_id"],
        by=order["who"],
        started_at=order["begun"],
        finished_at=None if working else order["ended"],
        is_running=bool(working),
        state=state,
        colour=colour,
        percent=min(99, percent) if working else None,
        line=line,
        address=address,
        cancel=reverse("admin:subscriptions_datarequest_do", args=[order["one"], "cancel"])
        if working and total == 1
        else "",
    )
