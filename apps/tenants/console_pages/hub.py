"""The tabs of an application: one strip above all pages that are about it, whichever app they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest

from apps.tenants.console.access import grants_of
from apps.tenants.console.lists import as_uuid
from apps.tenants.models import Application

Address = Callable[[UUID], str]


@dataclass(frozen=True)
class Tab:
    name: str
    label: Any
    icon: str
    scope: str
    address: Address
    place: int
    """Lower comes first."""


_tabs: dict[str, Tab] = {}


def hub_tab(name: str, label: Any, *, icon: str, scope: str, address: Address, place: int) -> None:
    """Add a tab for who has `scope` in the application. The last call wins."""
    _tabs[name] = Tab(name, label, icon, scope, address, place)


def hub_of(request: HttpRequest, application: Application, current: str) -> dict[str, Any]:
    """What `admin/tenants/hub.html` shows: the application, and the tabs that the operator may open."""
    grants = grants_of(request)
    tabs = [
        {
            "label": tab.label,
            "icon": tab.icon,
            "address": tab.address(application.pk),
            "is_current": tab.name == current,
        }
        for tab in sorted(_tabs.values(), key=lambda tab: tab.place)
        if grants.has(tab.scope, application.pk)
    ]
    return {"application": application, "tabs": tabs}


def hub_of_add(request: HttpRequest, current: str) -> dict[str, Any] | None:
    """The tabs of the application that the address of an add form names, if the operator may see it."""
    key = as_uuid(request.GET.get("application", ""))
    if key is None or not grants_of(request).has("settings:read", key):
        return None
    application = Application.objects.filter(pk=key).first()
    return hub_of(request, application, current) if application else None


def application_or_404(request: HttpRequest, application_id: UUID, scope: str) -> Application:
    """The application, for who has `scope` in it; for anybody else it does not exist."""
    if not grants_of(request).has(scope, application_id):
        raise Http404
    row = Application.objects.filter(pk=application_id).first()
    if row is None:
        raise Http404
    return row
