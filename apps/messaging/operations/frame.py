"""What the pages of operations share: their tabs, a page that asks before it does, and which applications are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from apps.tenants.console.access import grants_of
from apps.tenants.console.forms import add_refusal
from automata_signal.errors import SignalError

AREA = _("Operations")
PLATFORM = "platform"
"""A scope that no role has: superusers only."""


class Tab(NamedTuple):
    name: str
    title: Any
    scope: str


TABS = (
    Tab("operations", _("Health"), PLATFORM),
    Tab("operations_queues", _("Queues and workers"), PLATFORM),
    Tab("operations_schedules", _("Schedules"), PLATFORM),
    Tab("operations_breakers", _("Breakers and rates"), "settings:read"),
    Tab("operations_failed", _("Failed messages"), "messages:read"),
    Tab("operations_storage", _("Storage"), PLATFORM),
    Tab("operations_switches", _("Switches"), PLATFORM),
)


def render(request: HttpRequest, name: str, template: str, context: Mapping[str, Any]) -> HttpResponse:
    """A page of operations, below its tabs; only its live part, for htmx."""
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, f"admin/console/operations/{template}_live.html", dict(context))
    grants = grants_of(request)
    tabs = [
        {"title": tab.title, "address": reverse(f"admin:{tab.name}"), "is_current": tab.name == name}
        for tab in TABS
        if grants.has(tab.scope, None)
    ]
    title = next((tab.title for tab in TABS if tab.name == name), "")
    whole = {
        **admin.site.each_context(request),
        "title": title,
        "tabs": tabs,
        "here": reverse(f"admin:{name}"),
        **context,
    }
    return TemplateResponse(request, f"admin/console/operations/{template}.html", whole)


class Asked(NamedTuple):
    """What a page asks before it does it."""

    title: Any
    subtitle: str
    explain: Any
    label: Any
    """Of the button."""
    back: str
    tone: str = "primary"
    """primary or danger."""
    facts: Sequence[tuple[Any, Any]] = ()


def ask(
    request: HttpRequest,
    asked: Asked,
    form_class: type[forms.Form],
    run: Callable[[dict[str, Any]], Any],
    **initial: Any,
) -> HttpResponse:
    """Ask; on POST do it, say so and go back. What the service refuses is shown at the field that it names."""
    is_post = request.method == "POST"
    form = form_class(request.POST) if is_post else form_class(initial=initial)
    if is_post and form.is_valid():
        try:
            answer = run(form.cleaned_data)
        except SignalError as error:
            add_refusal(form, error, {})
        else:
            if isinstance(answer, HttpResponse):
                return answer
            messages.success(request, answer)
            return HttpResponseRedirect(asked.back)
    context = {
        **admin.site.each_context(request),
        "title": asked.title,
        "subtitle": asked.subtitle,
        "asked": asked,
        "form": form,
    }
    return TemplateResponse(request, "admin/console/operations/ask.html", context)
