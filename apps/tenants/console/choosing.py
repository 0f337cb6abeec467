"""Which application a page is about, where it is about one: as the address says, else the one chosen last."""

from __future__ import annotations

from django.http import Http404, HttpRequest

from apps.tenants.console.access import grants_of
from apps.tenants.console.lists import APPLICATIONS_SHOWN, as_uuid
from apps.tenants.models import Application

REMEMBERED = "console_application"
"""In the session."""


def applications_with(request: HttpRequest, scope: str) -> list[Application]:
    """Where the operator has `scope`: the first hundred by name, and the one that the address names or was chosen."""
    grants = grants_of(request)
    rows = Application.objects.order_by("name", "pk")
    if not grants.is_platform:
        rows = rows.filter(pk__in=grants.applications(scope))
    shown = list(rows[:APPLICATIONS_SHOWN])
    named = as_uuid(request.GET.get("application", "")) or as_uuid(request.session.get(REMEMBERED, ""))
    if len(shown) == APPLICATIONS_SHOWN and named and named not in {row.pk for row in shown}:
        shown += list(rows.filter(pk=named))
    return shown


def chosen_application(request: HttpRequest, applications: list[Application]) -> Application | None:
    """One of `applications`, and it is remembered; 404 if the address names another; None if there are none."""
    by_id = {row.pk: row for row in applications}
    if given := request.GET.get("application", ""):
        named = as_uuid(given)
        if named not in by_id:
            raise Http404
        if request.session.get(REMEMBERED) != str(named):
            request.session[REMEMBERED] = str(named)
        return by_id[named]
    remembered = as_uuid(request.session.get(REMEMBERED, ""))
    if remembered in by_id:
        return by_id[remembered]
    return applications[0] if applications else None
