"""Campaigns under way, on the page of running work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.tenants.console.formats import number
from apps.tenants.console.work import SHOWN, Work, work_source

UNDER_WAY = (CampaignStatus.RUNNING, CampaignStatus.PAUSED)
_COLOURS = {
    CampaignStatus.RUNNING.value: "info",
    CampaignStatus.PAUSED.value: "warning",
    CampaignStatus.COMPLETED.value: "success",
    CampaignStatus.FAILED.value: "danger",
}


def _launched(applications: Sequence[UUID] | None) -> Any:
    rows = MessageCampaign.objects.filter(sent_at__isnull=False)
    return rows if applications is None else rows.filter(application_id__in=applications)


def _count(applications: Sequence[UUID] | None) -> int:
    return int(_launched(applications).filter(status=CampaignStatus.RUNNING).count())


@work_source("campaigns", label=gettext_lazy("Campaign"), icon="campaign", scope="campaigns:read", count=_count)
def campaigns(applications: Sequence[UUID] | None, is_running: bool) -> list[Work]:
    rows = _launched(applications)
    rows = rows.filter(status=CampaignStatus.RUNNING) if is_running else rows
    return [_work(row) for row in rows.order_by("-pk")[:SHOWN]]


def _work(row: MessageCampaign) -> Work:
    status = CampaignStatus(row.status)
    assert row.sent_at is not None
    answered = row.successful_count + row.failed_count
    is_cut = row.fanout_done_at is not None
    line = _("%(done)s of %(total)s messages") % {
        "done": number(answered),
        "total": number(row.total_recipients),
    }
    if not is_cut and status in UNDER_WAY:
        line = _("%(done)s messages; recipients are still being added") % {"done": number(answered)}
    return Work(
        title=row.name,
        application_id=row.application_id,
        by=row.created_by,
        started_at=row.sent_at,
        finished_at=row.completed_at,
        is_running=status == CampaignStatus.RUNNING,
        state=status.label,
        colour=_COLOURS.get(status.value, "default"),
        percent=min(100, int(100 * answered / row.total_recipients)) if is_cut and row.total_recipients else None,
        line=line,
        problem=row.failure_reason,
        address=reverse("admin:campaigns_messagecampaign_change", args=[row.pk]),
    )
