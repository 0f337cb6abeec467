"""How far a launched campaign is, of its own row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from apps.campaigns.console.words import STATUS_COLOURS
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.tenants.console.panels import list_address


@dataclass(frozen=True)
class Figures:
    """A campaign's counters as a page shows them. Nothing but its row is read, so it costs the same at any size."""

    total: int
    successful: int
    failed: int
    received: int
    converted: int
    waiting: int
    percent: float
    rate: float | None
    """Messages per second since the launch, pauses included."""

    @classmethod
    def of(cls, campaign: MessageCampaign) -> Figures:
        settled = campaign.successful_count + campaign.failed_count
        seconds = 0.0
        if campaign.sent_at and campaign.completed_at:
            seconds = (campaign.completed_at - campaign.sent_at).total_seconds()
        percent = 100.0 * settled / campaign.total_recipients if campaign.total_recipients else 0.0
        if campaign.status == CampaignStatus.COMPLETED:
            percent = 100.0
        elif campaign.fanout_done_at is None:
            percent = min(percent, 99.0)
        return cls(
            total=campaign.total_recipients,
            successful=campaign.successful_count,
            failed=campaign.failed_count,
            received=campaign.received_count,
            converted=campaign.converted_count,
            waiting=max(0, campaign.total_recipients - settled),
            percent=round(min(percent, 100.0), 1),
            rate=round(settled / seconds, 1) if seconds else None,
        )

    @property
    def cards(self) -> list[dict[str, Any]]:
        settled = self.successful + self.failed
        return [
            {"label": _("recipients"), "value": f"{self.total:,}", "share": ""},
            {"label": _("waiting"), "value": f"{self.waiting:,}", "share": ""},
            {"label": _("successful"), "value": f"{self.successful:,}", "share": share_text(self.successful, settled)},
            {
                "label": _("received"),
                "value": f"{self.received:,}",
                "share": share_text(self.received, self.successful),
            },
            {
                "label": _("converted"),
                "value": f"{self.converted:,}",
                "share": share_text(self.converted, self.received),
            },
            {"label": _("failed"), "value": f"{self.failed:,}", "share": share_text(self.failed, settled)},
        ]


def share_text(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def progress_context(row: MessageCampaign) -> dict[str, Any]:
    return {
        "campaign": row,
        "figures": Figures.of(row),
        "colour": STATUS_COLOURS[row.status],
        "label": CampaignStatus(row.status).label,
        "address": reverse("admin:campaigns_messagecampaign_progress", args=[row.pk]),
        "is_live": row.status in (CampaignStatus.RUNNING, CampaignStatus.PAUSED),
        "messages": list_address("messaging.Message", campaign=row.pk),
    }
