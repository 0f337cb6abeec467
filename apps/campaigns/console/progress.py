"""How far a launched campaign is: of its own row, and of its batches while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from apps.campaigns.breakdowns import Pace, pace_of
from apps.campaigns.console.schedules import duration_text
from apps.campaigns.console.words import STATUS_COLOURS
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.subscriptions.models import SubscriptionType
from apps.tenants.console import formats
from apps.tenants.console.panels import badge, list_address

LIVE = (CampaignStatus.RUNNING, CampaignStatus.PAUSED)


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
        if campaign.sent_at:
            seconds = ((campaign.completed_at or timezone.now()) - campaign.sent_at).total_seconds()
        percent = 100.0 * settled / campaign.total_recipients if campaign.total_recipients else 0.0
        if campaign.status == CampaignStatus.COMPLETED:
            percent = 100.0
        elif campaign.fanout_done_at is None:
            percent = min(percent, 99.0)
        elif campaign.awaits_winner:  # the recipients so far are those of the test
            percent *= campaign.experiment.test_percent / 100
        return cls(
            total=campaign.total_recipients,
            successful=campaign.successful_count,
            failed=campaign.failed_count,
            received=campaign.received_count,
            converted=campaign.converted_count,
            waiting=max(0, campaign.total_recipients - settled),
            percent=round(min(percent, 100.0), 1),
            rate=round(settled / seconds, 1) if seconds >= 1 else None,
        )

    @property
    def cards(self) -> list[dict[str, Any]]:
        settled = self.successful + self.failed
        return [
            {"label": label, "value": formats.number(value), "share": formats.share(value, of) if of else ""}
            for label, value, of in (
                (_("recipients"), self.total, 0),
                (_("waiting"), self.waiting, 0),
                (_("sent"), self.successful, settled),
                (_("received"), self.received, self.successful),
                (_("opened"), self.converted, self.received),
                (_("failed"), self.failed, settled),
            )
        ]


def progress_context(row: MessageCampaign) -> dict[str, Any]:
    """For `admin/campaigns/parts/progress.html`, which asks again while the campaign runs."""
    figures = Figures.of(row)
    is_live = row.status in LIVE
    pace = pace_of(row) if is_live else None
    address = reverse("admin:campaigns_messagecampaign_progress", args=[row.pk])
    return {
        "campaign": row,
        "figures": figures,
        "badge": badge(STATUS_COLOURS[row.status], CampaignStatus(row.status).label),
        "address": f"{address}?{urlencode({'state': row.status})}",
        "is_live": is_live,
        "is_growing": is_live and row.sent_at is not None and row.fanout_done_at is None,
        "messages": list_address("messaging.Message", campaign=row.pk),
        "percent": f"{figures.percent:.1f}",
        "failed_percent": f"{100 * figures.failed / figures.total:.2f}" if figures.total else "0",
        "lasted": _lasted(row),
        **_speed(row, figures, pace),
        "providers": _providers(pace) if pace else [],
    }


def _speed(row: MessageCampaign, figures: Figures, pace: Pace | None) -> dict[str, str]:
    rate = (pace.recent_per_s if pace else None) or figures.rate
    if not rate:
        return {"rate": "", "ends_in": ""}
    text = _("%(rate)s messages a second") % {"rate": formats.number(round(rate) if rate >= 10 else round(rate, 1))}
    is_running = row.status == CampaignStatus.RUNNING and figures.waiting and row.fanout_done_at is not None
    return {"rate": text, "ends_in": duration_text(figures.waiting / rate) if is_running else ""}


def _lasted(row: MessageCampaign) -> str:
    if row.sent_at is None or row.completed_at is None:
        return ""
    return duration_text((row.completed_at - row.sent_at).total_seconds())


def _providers(pace: Pace) -> list[dict[str, str]]:
    names = dict(SubscriptionType.choices)
    return [
        {
            "name": str(names.get(kind, kind)),
            "text": _("%(done)s of %(all)s") % {"done": formats.number(done), "all": formats.number(total)},
            "width": f"{100 * done / total if total else 0:.1f}",
        }
        for kind, total, done in pace.by_type
    ]
