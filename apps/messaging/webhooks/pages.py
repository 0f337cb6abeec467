"""The webhooks of an application at a glance: who is told, whether it arrives, and what to do where it does not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from apps.messaging.webhooks.selectors import backlog_of, endpoints_of
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, number
from apps.tenants.console.pages import console_page
from apps.tenants.console.panels import badge, list_address
from apps.tenants.console_pages.hub import application_or_404, hub_of, hub_tab
from apps.tenants.models import Application
from automata_signal.masking import masked

READ, WRITE = "webhooks:read", "webhooks:write"
SHOWN = 5
"""More have their figures on their own pages: each takes a question for what waits."""
LATEST = 15

hub_tab(
    "webhooks",
    gettext_lazy("Webhooks"),
    icon="webhook",
    scope=READ,
    address=lambda key: reverse("admin:application_webhooks", args=[key]),
    place=50,
)


def state_of(row: WebhookEndpoint) -> tuple[str, Any]:
    """Colour and word."""
    if row.is_active:
        return ("warning", _("failing")) if row.consecutive_failures else ("success", _("active"))
    return ("danger", _("disabled")) if row.disabled_at else ("default", _("not active"))


@console_page("application_webhooks", "applications/<uuid:application_id>/webhooks/", scope=READ)
def webhooks_page(request: HttpRequest, application_id: UUID) -> HttpResponse:
    application = application_or_404(request, application_id, READ)
    endpoints = list(endpoints_of(application).order_by("-pk")[:50])
    latest = WebhookDelivery.objects.for_application(application).select_related("endpoint")
    latest = latest.defer("endpoint__secret", "endpoint__previous_secret").order_by("-pk")[:LATEST]
    context = {
        **admin.site.each_context(request),
        "opts": Application._meta,
        "original": application,
        "application": application,
        "hub": hub_of(request, application, "webhooks"),
        "title": _("Webhooks"),
        "subtitle": str(application),
        "may_write": grants_of(request).has(WRITE, application.pk),
        "endpoints": [_card(row, with_backlog=place < SHOWN) for place, row in enumerate(endpoints)],
        "deliveries": [_delivery(row) for row in latest],
        "deliveries_address": list_address("messaging.WebhookDelivery", application=application.pk),
        "add_address": f"{reverse('admin:messaging_webhookendpoint_add')}?application={application.pk}",
    }
    return TemplateResponse(request, "admin/messaging/webhooks.html", context)


def _card(row: WebhookEndpoint, *, with_backlog: bool) -> dict[str, Any]:
    backlog = backlog_of(row) if with_backlog else None
    return {
        "endpoint": row,
        "url": masked(row.url),
        "address": reverse("admin:messaging_webhookendpoint_change", args=[row.pk]),
        "state": badge(*state_of(row)),
        "told": ", ".join([*row.event_types, *row.channels]) or _("everything"),
        "waiting": None if backlog is None else number(backlog.deliveries),
        "oldest": moment(backlog.oldest_at) if backlog and backlog.oldest_at else "",
        "last_success": moment(row.last_success_at),
        "lost": number(row.lost_events) if row.lost_events else "",
        "log": list_address("messaging.WebhookDelivery", webhook=row.pk),
        "test": reverse("admin:messaging_webhookendpoint_do", args=[row.pk, "test"]),
        "enable": reverse("admin:messaging_webhookendpoint_do", args=[row.pk, "enable"]),
    }


_COLOURS = {DeliveryState.WAITING: "info", DeliveryState.DELIVERED: "success", DeliveryState.PARKED: "danger"}


def _delivery(row: WebhookDelivery) -> dict[str, Any]:
    state = DeliveryState(row.state)
    return {
        "delivery": row,
        "address": reverse("admin:messaging_webhookdelivery_change", args=[row.pk]),
        "at": moment(row.created_at),
        "state": badge(_COLOURS[state], state.label),
        "events": len(row.event_ids),
    }
