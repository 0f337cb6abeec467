"""Exports, and counting anew, on the page of running work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.analytics.exports import services
from apps.analytics.exports.registry import kind_choices
from apps.analytics.models.exports import OPEN_STATES, Export, ExportState
from apps.analytics.models.rollups import Rebuild
from apps.tenants.console.formats import number
from apps.tenants.console.work import SHOWN, Work, work_source

_COLOURS = {ExportState.DONE.value: "success", ExportState.FAILED.value: "danger"}


def _within(rows: Any, applications: Sequence[UUID] | None) -> Any:
    return rows if applications is None else rows.filter(application_id__in=applications)


def _count_exports(applications: Sequence[UUID] | None) -> int:
    """Index: `export_open`."""
    return int(_within(Export.objects.filter(state__in=OPEN_STATES), applications).count())


@work_source("exports", label=gettext_lazy("Export"), icon="download", scope=services.WRITE, count=_count_exports)
def exports(applications: Sequence[UUID] | None, is_running: bool) -> list[Work]:
    rows = _within(Export.objects.all(), applications)
    rows = rows.filter(state__in=OPEN_STATES) if is_running else rows
    names = dict(kind_choices())
    return [_export(row, str(names.get(row.kind, row.kind))) for row in rows.order_by("-pk")[:SHOWN]]


def _export(row: Export, name: str) -> Work:
    page = reverse("admin:analytics_export_change", args=[row.pk])
    is_running, has_file = row.state in OPEN_STATES, services.download_link(row) is not None
    return Work(
        title=name,
        application_id=row.application_id,
        by=row.requested_by,
        started_at=row.created_at,
        finished_at=row.finished_at,
        is_running=is_running,
        state=ExportState(row.state).label,
        colour=_COLOURS.get(row.state, "info" if is_running else "default"),
        percent=int(row.progress * 100) if is_running else None,
        line=_("%(rows)s rows") % {"rows": number(row.rows_written)},
        problem=row.last_error,
        address=page,
        result=page if has_file else "",
        result_label=_("The file"),
        cancel=reverse("admin:analytics_export_do", args=[row.pk, "cancel"]) if is_running else "",
    )


def _count_rebuilds(applications: Sequence[UUID] | None) -> int:
    return Rebuild.objects.count() if applications is None else 0


@work_source("rebuilds", label=gettext_lazy("Statistics"), icon="monitoring", scope="", count=_count_rebuilds)
def rebuilds(applications: Sequence[UUID] | None, is_running: bool) -> list[Work]:
    """The one that goes on, if there is one: it is over when its row is gone. The platform's alone."""
    if applications is not None:
        return []
    return [
        Work(
            title=_("Counting anew from the events"),
            application_id=None,
            by="",
            started_at=row.created_at,
            is_running=True,
            state=_("Running"),
            colour="info",
            line=_("%(events)s events counted") % {"events": number(row.events)},
        )
        for row in Rebuild.objects.order_by("-pk")[:SHOWN]
    ]
