"""When a campaign's messages are for each recipient: at a time of their own clock, or when they are usually active.

Kept beside the people's other wishes (`subscriptions.SendTiming`) and honoured when batches are claimed
(`messaging.courtesy.waiting`). It can be changed until the launch.
"""

from __future__ import annotations

from datetime import time
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery

from apps.campaigns.models import MessageCampaign
from apps.subscriptions.models import SendTiming

TIMING = ("local_time", "at_active_hours")


def timing_set(campaign: MessageCampaign, given: dict[str, Any]) -> None:
    """Write down what of `TIMING` is given; in the transaction that changes the campaign, which is its draft."""
    if not given:
        return
    row = SendTiming.objects.filter(pk=campaign.pk).first() or SendTiming(
        campaign_id=campaign.pk, application=campaign.application
    )
    for name, value in given.items():
        setattr(row, name, value)
    if row.local_time is None and not row.at_active_hours:
        SendTiming.objects.filter(pk=campaign.pk).delete()
    else:
        row.save()


def timing_of(campaign: MessageCampaign) -> tuple[time | None, bool]:
    """The local time and whether active hours count, from the row itself if it was read `with_timing`."""
    if hasattr(campaign, "timing_local_time"):
        return campaign.timing_local_time, bool(campaign.timing_at_active_hours)  # type: ignore[attr-defined]
    row = SendTiming.objects.filter(application_id=campaign.application_id, pk=campaign.pk).first()
    return (row.local_time, row.at_active_hours) if row else (None, False)


def with_timing(campaigns: QuerySet[MessageCampaign]) -> QuerySet[MessageCampaign]:
    """The campaigns with their timing, in the same query."""
    rows = SendTiming.objects.filter(campaign_id=OuterRef("pk"))
    return campaigns.annotate(
        timing_local_time=Subquery(rows.values("local_time")),
        timing_at_active_hours=Subquery(rows.values("at_active_hours")),
    )
