"""How the console says what became of a message."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest

from apps.messaging.models import MessageStatus
from apps.tenants.console.access import grants_of
from apps.tenants.console.panels import admin_link, list_address, short_id

STATUS_COLOURS = {
    MessageStatus.PENDING.value: "info",
    MessageStatus.SUCCESSFUL.value: "success",
    MessageStatus.ERRORED.value: "warning",
    MessageStatus.FAILED.value: "danger",
    MessageStatus.RECEIVED.value: "success",
    MessageStatus.CONVERTED.value: "primary",
}
TONES = {
    MessageStatus.PENDING.value: "quiet",
    MessageStatus.SUCCESSFUL.value: "",
    MessageStatus.ERRORED.value: "warning",
    MessageStatus.FAILED.value: "bad",
    MessageStatus.RECEIVED.value: "good",
    MessageStatus.CONVERTED.value: "good",
}
"""Of the dots of a timeline."""
OPEN = (MessageStatus.PENDING, MessageStatus.ERRORED)


def campaign_link(campaign_id: UUID | None) -> Any:
    """By its address alone: campaigns stand above this app."""
    if campaign_id is None:
        return "–"
    return admin_link("campaigns.MessageCampaign", campaign_id, short_id(campaign_id))


def page_of_step(request: HttpRequest, label: str, application_id: UUID) -> str:
    """The list on which a next step (`next_step(…).page`) is taken; empty for who may not see it."""
    for model, model_admin in admin.site._registry.items():
        if model._meta.label == label:
            scope = getattr(model_admin, "read_scope", "")
            return (
                list_address(label, application=application_id) if grants_of(request).has(scope, application_id) else ""
            )
    return ""
