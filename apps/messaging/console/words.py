"""How the console says what became of a message."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apps.messaging.models import MessageStatus
from apps.tenants.console.panels import admin_link, short_id

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
