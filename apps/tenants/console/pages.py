"""Pages of the console that are about no model, such as statistics. An app registers its own in its `admin` module.

The site gives each an address and the sidebar an entry, for who has the page's scope in any application; in which,
the page asks itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from apps.tenants.console.access import grants_of

View = Callable[..., HttpResponse]


@dataclass(frozen=True)
class Page:
    name: str
    """Of the address: `admin:<name>`."""
    path: str
    title: Any
    icon: str
    area: Any
    """The title of the sidebar's area; empty for a page that no entry leads to."""
    scope: str
    view: View

    def __call__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not grants_of(request).has(self.scope, None):
            raise PermissionDenied
        return self.view(request, *args, **kwargs)


_pages: dict[str, Page] = {}


def console_page(
    name: str, path: str, *, scope: str, title: Any = "", icon: str = "", area: Any = ""
) -> Callable[[View], View]:
    """Register a view as a page of the console."""

    def register(view: View) -> View:
        _pages[name] = Page(name, path, title, icon, area, scope, view)
        return view

    return register


def pages() -> list[Page]:
    return list(_pages.values())
