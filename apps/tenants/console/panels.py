"""What a page shows beside its form: tables of related rows, a timeline, a progress bar.

An app adds a panel to another app's page with `panel_for`, so that a user's page can show messages although users
know nothing of messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


@dataclass(frozen=True)
class Panel:
    title: str
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    before: bool = False
    """Above the form instead of below it."""
    is_aside: bool = False
    """Narrow enough to stand at the side, on pages that have one."""


PanelMaker = Callable[[HttpRequest, Any], Panel | None]
_makers: dict[type[Model], list[PanelMaker]] = {}


def panel_for(model: type[Model]) -> Callable[[PanelMaker], PanelMaker]:
    """Register a function that makes a panel for the page of each row of `model`, or None for no panel.

    It answers for the rights itself: whoever sees the row does not see all that hangs on it.
    """

    def register(maker: PanelMaker) -> PanelMaker:
        _makers.setdefault(model, []).append(maker)
        return maker

    return register


def registered_panels(request: HttpRequest, row: Model) -> list[Panel]:
    made = (maker(request, row) for maker in _makers.get(type(row), ()))
    return [panel for panel in made if panel is not None]


def table_panel(
    title: str,
    headers: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    *,
    more: str = "",
    more_label: Any = "",
    note: Any = "",
    before: bool = False,
) -> Panel:
    """A table; `more` is the address of the full list."""
    table = {"headers": [str(header) for header in headers], "rows": [[_cell(c) for c in row] for row in rows]}
    context = {"table": table, "more": more, "more_label": more_label, "note": note}
    return Panel(title, "admin/console/table.html", context, before)


def _cell(value: Any) -> Any:
    return "–" if value is None or value == "" else value


def admin_link(label: str, key: Any, text: Any) -> SafeString:
    """A link to the page of a row; `label` is `app.Model`."""
    address = reverse(f"admin:{label.replace('.', '_').lower()}_change", args=[key])
    return format_html('<a href="{}" class="text-link">{}</a>', address, text)


_COLOURS = {
    "info": "bg-blue-100 text-blue-700 dark:bg-blue-500/20 dark:text-blue-400",
    "danger": "bg-red-100 text-red-700 dark:bg-red-500/20 dark:text-red-400",
    "warning": "bg-orange-100 text-orange-700 dark:bg-orange-500/20 dark:text-orange-400",
    "success": "bg-green-100 text-green-700 dark:bg-green-500/20 dark:text-green-400",
    "primary": "bg-primary-100 text-primary-700 dark:bg-primary-500/20 dark:text-primary-400",
    "default": "bg-base-500/8 text-base-700 dark:bg-base-500/20 dark:text-base-200",
}
"""Those of unfold's own labels: its stylesheet is built, and knows no others."""


def badge(colour: str, text: Any) -> SafeString:
    """A state in a word; `colour` is info, danger, warning, success, primary or default."""
    return format_html(
        '<span class="inline-block font-semibold h-6 leading-6 px-2 rounded-default text-[11px] uppercase '
        'whitespace-nowrap {}">{}</span>',
        _COLOURS[colour],
        text,
    )


def short_id(key: Any) -> SafeString | str:
    """An id for a list: the parts that tell rows apart. The whole one is the tooltip."""
    if key is None:
        return "–"
    text = str(key)
    return format_html('<span title="{}" style="white-space: nowrap">{}…{}</span>', text, text[:6], text[-8:])


def list_address(label: str, **filters: Any) -> str:
    """The address of a list, filtered."""
    address = reverse(f"admin:{label.replace('.', '_').lower()}_changelist")
    return f"{address}?{urlencode(filters)}" if filters else address


def json_text(value: Any) -> SafeString | str:
    """A JSON value to be read by people."""
    if value in (None, {}, [], ""):
        return "–"
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px">{}</pre>', text)
