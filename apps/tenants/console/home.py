"""The console's first page: how an application is, at a glance; for who runs the platform, how all of them are.

Each app registers what it has to tell: a section (`home_section`), a step of getting started (`started_step`), a notice
above everything (`home_notice`), columns of the platform's table (`platform_figures`). A section is shown to who has
its scope in the application, and asks for no row that it does not need: the page reads rollups, counters and indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from apps.tenants.console.access import grants_of
from apps.tenants.console.choosing import REMEMBERED, chosen_application
from apps.tenants.console.formats import NOTHING
from apps.tenants.console.lists import APPLICATIONS_SHOWN, as_uuid
from apps.tenants.models import Application

PLATFORM_READ = 500
"""Applications whose figures the platform's view reads, by name."""
ALL = "all"
"""As the application in the address: the platform's view."""

# --- What apps register --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What a section shows now."""

    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    is_live: bool = False
    """Something goes on: the section is asked for again every few seconds."""
    more: str = ""
    """Where there is all of it."""
    more_label: Any = ""
    note: Any = ""
    """Beside the title: of when it is, or of what days."""


Make = Callable[[HttpRequest, Application], Shown | None]


@dataclass(frozen=True)
class Section:
    name: str
    title: Any
    scope: str
    order: int
    width: str
    """full, wide (two thirds), half or narrow (one third)."""
    make: Make


class StepState(Enum):
    OPEN = "open"
    DONE = "done"
    PAST = "past"
    """So much is done that nobody needs to be shown how to begin."""


@dataclass(frozen=True)
class Step:
    """One thing that a new application needs."""

    title: Any
    explain: Any
    scope: str
    order: int
    address: Callable[[Application], str]
    state: Callable[[Application], StepState]


@dataclass(frozen=True)
class Notice:
    tone: str
    """bad, warning or info."""
    text: Any
    address: str = ""
    link: Any = ""


class Cell(NamedTuple):
    """One figure of one application in the platform's table."""

    text: Any
    trouble: float = 0.0
    """What puts the application higher: 0 for none, about 1 for what needs somebody today, 10 for what stands still."""
    address: str = ""


@dataclass(frozen=True)
class PlatformFigures:
    """Columns of the platform's table that one question answers."""

    name: str
    titles: Sequence[Any]
    order: int
    read: Callable[[Sequence[UUID]], Mapping[UUID, Sequence[Cell]]]
    """A cell for each title, of each of these applications; those that it leaves out have none."""


MakeNotices = Callable[[HttpRequest, Application | None], Sequence[Notice]]
_sections: dict[str, Section] = {}
_steps: dict[str, Step] = {}
_notices: dict[str, MakeNotices] = {}
_figures: dict[str, PlatformFigures] = {}


def home_section(name: str, title: Any, *, scope: str, order: int, width: str = "full") -> Callable[[Make], Make]:
    """Register a function that makes a section of the home page, or None where it has nothing to tell."""

    def register(make: Make) -> Make:
        _sections[name] = Section(name, title, scope, order, width, make)
        return make

    return register


def started_step(name: str, step: Step) -> None:
    """Register a step of getting started."""
    _steps[name] = step


def home_notice(name: str) -> Callable[[MakeNotices], MakeNotices]:
    """Register what is told above everything; the application is None in the platform's view."""

    def register(make: MakeNotices) -> MakeNotices:
        _notices[name] = make
        return make

    return register


def platform_figures(figures: PlatformFigures) -> None:
    """Register columns of the platform's table."""
    _figures[figures.name] = figures


# --- Which application ---------------------------------------------------------------------------------------------


def own_applications(request: HttpRequest) -> list[Application]:
    """Those of the operator, whatever the role: the first hundred by name, and the one that is meant. Read once."""
    known: list[Application] | None = getattr(request, "_console_own_applications", None)
    if known is None:
        known = _read_applications(request)
        request._console_own_applications = known  # type: ignore[attr-defined]
    return known


def _read_applications(request: HttpRequest) -> list[Application]:
    grants = grants_of(request)
    rows = Application.objects.order_by("name", "pk")
    if grants.by_application is not None:
        if not grants.by_application:
            return []
        rows = rows.filter(pk__in=grants.by_application)
    shown = list(rows[:APPLICATIONS_SHOWN])
    named = as_uuid(request.GET.get("application", "")) or as_uuid(request.session.get(REMEMBERED, ""))
    if len(shown) == APPLICATIONS_SHOWN and named and named not in {row.pk for row in shown}:
        shown += list(rows.filter(pk=named))
    return shown


def _chosen(request: HttpRequest) -> Application | None:
    """The application that the page is about; None for the platform's view, and for who has none.

    A superuser sees the platform until an application is chosen, and again by `?application=all`.
    """
    applications = own_applications(request)
    if grants_of(request).is_platform:
        if request.GET.get("application") == ALL:
            request.session.pop(REMEMBERED, None)
            return None
        if not request.GET.get("application") and not request.session.get(REMEMBERED):
            return None
    return chosen_application(request, applications)


def switcher(request: HttpRequest) -> list[dict[str, Any]]:
    """`SITE_DROPDOWN`: the operator's applications, each with the way to its home; nothing for who has only one."""
    if not _is_inside(request) or len(own_applications(request)) < 2:
        return []
    home, chosen = reverse("admin:index"), str(request.session.get(REMEMBERED, ""))
    items = [
        {
            "title": row.name,
            "icon": "check" if str(row.pk) == chosen else "apps",
            "link": f"{home}?{urlencode({'application': str(row.pk)})}",
            "attrs": {"aria-current": "true"} if str(row.pk) == chosen else {},
        }
        for row in own_applications(request)
    ]
    if grants_of(request).is_platform:
        items.insert(0, {"title": _("All applications"), "icon": "public", "link": f"{home}?application={ALL}"})
    return items


def chosen_name(request: HttpRequest) -> str:
    """`SITE_SUBHEADER`: the application that was chosen last."""
    if not _is_inside(request):
        return ""
    chosen = str(request.session.get(REMEMBERED, ""))
    return next((row.name for row in own_applications(request) if str(row.pk) == chosen), "")


def _is_inside(request: HttpRequest) -> bool:
    return bool(getattr(getattr(request, "user", None), "is_staff", False)) and hasattr(request, "session")


# --- The page ------------------------------------------------------------------------------------------------------


def home_page(request: HttpRequest) -> HttpResponse:
    """The home of the chosen application, or the platform's; 404 for an application that is not theirs."""
    chosen = _chosen(request)
    is_platform = grants_of(request).is_platform
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": chosen.name if chosen else (_("All applications") if is_platform else _("Home")),
        "subtitle": None,
        "index": True,
        "application": chosen,
        "applications": own_applications(request),
        "all_address": f"{reverse('admin:index')}?application={ALL}" if is_platform else "",
        "all_value": ALL,
        "notices": [notice for make in _notices.values() for notice in make(request, chosen)],
    }
    if chosen is not None:
        context |= {"started": _started(request, chosen), "sections": _shown(request, chosen)}
    elif is_platform:
        context |= {"platform": _platform()}
    request.current_app = admin.site.name
    return TemplateResponse(request, "admin/console/home/index.html", context)


def home_section_page(request: HttpRequest, name: str) -> HttpResponse:
    """One section alone, for a page that asks again; 404 for what there is not, 403 for what the role has not."""
    section = _sections.get(name)
    application = chosen_application(request, own_applications(request))
    if section is None or application is None:
        raise Http404
    if not grants_of(request).has(section.scope, application.pk):
        raise PermissionDenied
    shown = section.make(request, application)
    if shown is None:
        return HttpResponse()
    return TemplateResponse(request, "admin/console/home/section.html", {"entry": _entry(section, shown, application)})


def _shown(request: HttpRequest, application: Application) -> list[dict[str, Any]]:
    grants, found = grants_of(request), []
    for section in sorted(_sections.values(), key=lambda section: section.order):
        if grants.has(section.scope, application.pk):
            shown = section.make(request, application)
            if shown is not None:
                found.append(_entry(section, shown, application))
    return found


def _entry(section: Section, shown: Shown, application: Application) -> dict[str, Any]:
    address = reverse("admin:home_section", args=[section.name])
    return {
        "section": section,
        "shown": shown,
        "address": f"{address}?{urlencode({'application': str(application.pk)})}",
    }


def _started(request: HttpRequest, application: Application) -> list[dict[str, Any]]:
    """What is to be done before the first campaign; nothing once the application is under way, or all is done."""
    grants, entries = grants_of(request), []
    for step in sorted(_steps.values(), key=lambda step: -step.order):  # the last first: it says whether all is past
        state = step.state(application)
        if state is StepState.PAST:
            return []
        may = grants.has(step.scope, application.pk)
        entries.append(
            {"step": step, "is_done": state is StepState.DONE, "address": step.address(application) if may else ""}
        )
    entries.reverse()
    if all(entry["is_done"] for entry in entries):
        return []
    current = next(entry for entry in entries if not entry["is_done"])
    current["is_current"] = True
    return entries


def _platform() -> dict[str, Any]:
    """Applications with their figures, those with most trouble first: `APPLICATIONS_SHOWN` of `PLATFORM_READ`."""
    applications = list(Application.objects.only("name").order_by("name", "pk")[:PLATFORM_READ])
    ids = [row.pk for row in applications]
    groups = sorted(_figures.values(), key=lambda group: group.order)
    answers = [group.read(ids) if ids else {} for group in groups]
    rows: list[dict[str, Any]] = []
    for row in applications:
        cells = [
            cell
            for group, answer in zip(groups, answers, strict=True)
            for cell in answer.get(row.pk, [Cell(NOTHING)] * len(group.titles))
        ]
        address = f"{reverse('admin:index')}?{urlencode({'application': str(row.pk)})}"
        trouble = sum(cell.trouble for cell in cells)
        rows.append({"application": row, "address": address, "cells": cells, "trouble": trouble})
    rows.sort(key=lambda entry: (-entry["trouble"], entry["application"].name.lower()))
    headers = [title for group in groups for title in group.titles]
    return {"headers": headers, "rows": rows[:APPLICATIONS_SHOWN], "is_cut": len(rows) > APPLICATIONS_SHOWN}
