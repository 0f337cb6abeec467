"""The page of long work, and the small sign in the frame that says how much of it runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.tenants.console.access import Grants, grants_of
from apps.tenants.console.choosing import applications_with
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.console.work import Source, Work, work_sources
from apps.tenants.models import Application

SCOPE = "messages:read"
"""Every role has it; each kind of work asks for its own besides."""
COUNT_SHOWN_MAX = 99


def seen_by(grants: Grants) -> list[tuple[Source, list[UUID] | None]]:
    """The kinds of work that somebody may see, each with the applications where; None: everywhere."""
    if grants.is_platform:
        return [(source, None) for source in work_sources()]
    seen = [(source, grants.applications(source.scope)) for source in work_sources() if source.scope]
    return [(source, applications) for source, applications in seen if applications]


@console_page(
    "work",
    "work/",
    scope=SCOPE,
    title=gettext_lazy("Running work"),
    icon="pending_actions",
    area=gettext_lazy("Operations"),
)
def work_page(request: HttpRequest) -> HttpResponse:
    """All that runs in the background, and what ran lately; by kind and application, if the address says so."""
    sources = seen_by(grants_of(request))
    kind, named = request.GET.get("kind", ""), as_uuid(request.GET.get("application", ""))
    found: list[tuple[Source, Work]] = []
    for source, applications in sources:
        if kind and source.name != kind:
            continue
        if named is not None:
            if applications is not None and named not in applications:
                continue
            applications = [named]
        found += [(source, one) for one in source.find(applications, False)]
    found.sort(key=lambda pair: (not pair[1].is_running, -pair[1].started_at.timestamp()))
    offered = applications_with(request, "") if grants_of(request).is_platform else _own(sources)
    names = _names(offered, {one.application_id for _source, one in found if one.application_id})
    rows: list[dict[str, Any]] = [
        {
            "source": source,
            "work": one,
            "application": names.get(one.application_id),
            "cancel": one.cancel if _may_cancel(grants_of(request), source, one) else "",
        }
        for source, one in found
    ]
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": _("Running work"),
        "running": [row for row in rows if row["work"].is_running],
        "over": [row for row in rows if not row["work"].is_running][:100],
        "sources": [source for source, _applications in sources],
        "kind": kind,
        "named": str(named or ""),
        "applications": offered,
    }
    is_part = request.headers.get("HX-Request") == "true"
    return TemplateResponse(request, f"admin/console/{'work_rows' if is_part else 'work'}.html", context)


def _may_cancel(grants: Grants, source: Source, one: Work) -> bool:
    return grants.has(source.cancel_scope or source.scope, one.application_id)


def _own(sources: list[tuple[Source, list[UUID] | None]]) -> list[Application]:
    keys = {key for _source, applications in sources for key in applications or ()}
    return list(Application.objects.filter(pk__in=keys).order_by("name"))


def _names(known: list[Application], keys: set[UUID]) -> dict[UUID | None, str]:
    """Of these applications; the database is asked only for those that are not known."""
    names: dict[UUID | None, str] = {one.pk: one.name for one in known}
    if missing := keys - names.keys():
        names |= dict(Application.objects.filter(pk__in=missing).values_list("pk", "name"))
    return names


@console_page("work_count", "work/count/", scope=SCOPE)
def work_count(request: HttpRequest) -> HttpResponse:
    """How much runs, for the sign in the frame."""
    count = sum(source.count(applications) for source, applications in seen_by(grants_of(request)))
    shown = f"{COUNT_SHOWN_MAX}+" if count > COUNT_SHOWN_MAX else str(count)
    return TemplateResponse(request, "admin/console/work_sign.html", {"count": count, "shown": shown, "is_asked": True})
