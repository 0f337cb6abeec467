"""What campaigns tell on the console's home: those that run, and those to come; the last step of getting started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.tenants.console.formats import moment, number, share
from apps.tenants.console.home import (
    Cell,
    PlatformFigures,
    Shown,
    Step,
    StepState,
    home_section,
    platform_figures,
    started_step,
)
from apps.tenants.console.panels import list_address
from apps.tenants.models import Application

READ = "campaigns:read"
SHOWN = 6
LIVE = (CampaignStatus.RUNNING, CampaignStatus.PAUSED)


@home_section("campaigns", gettext_lazy("Campaigns"), scope=READ, order=40, width="half")
def campaigns_section(request: HttpRequest, application: Application) -> Shown:
    """Those that run first, then those that are scheduled, the next one first. Few of an application's are either."""
    rows = MessageCampaign.objects.for_application(application)
    rows = rows.only("name", "status", "channel_type", "scheduled_at", "sent_at", *_COUNTS)
    running = list(rows.filter(status__in=LIVE).order_by("-status", "-id")[:SHOWN])  # "running", then "paused"
    scheduled = rows.filter(status=CampaignStatus.SCHEDULED).order_by("scheduled_at", "-id")[:SHOWN]
    entries = [_entry(row) for row in [*running, *scheduled]]
    more = list_address("campaigns.MessageCampaign", application=application.pk)
    is_live = any(row.status == CampaignStatus.RUNNING for row in running)
    context = {"entries": entries, "add": _add(application)}
    return Shown(
        "admin/console/home/campaigns.html", context, is_live=is_live, more=more, more_label=_("All campaigns")
    )


def _add(application: Application) -> str:
    return f"{reverse('admin:campaigns_messagecampaign_add')}?{urlencode({'application': str(application.pk)})}"


_COUNTS = ("total_recipients", "successful_count", "failed_count", "received_count", "converted_count")


def _entry(row: MessageCampaign) -> dict[str, Any]:
    """Name, state, and how far it is."""
    settled = row.successful_count + row.failed_count
    percent = round(100 * settled / row.total_recipients) if row.total_recipients else 0
    return {
        "name": row.name,
        "channel": row.get_channel_type_display(),
        "address": reverse("admin:campaigns_messagecampaign_change", args=[row.pk]),
        "state": CampaignStatus(row.status).label,
        "is_paused": row.status == CampaignStatus.PAUSED,
        "is_scheduled": row.status == CampaignStatus.SCHEDULED,
        "when": moment(row.scheduled_at),
        "percent": min(100, percent),
        "told": _("%(done)s of %(all)s") % {"done": number(settled), "all": number(row.total_recipients)},
        "opened": share(row.converted_count, row.received_count),
        "failed": number(row.failed_count),
        "has_failed": row.failed_count > 0,
    }


# --- Getting started -----------------------------------------------------------------------------------------------


def _first_campaign(application: Application) -> StepState:
    launched = MessageCampaign.objects.for_application(application).filter(sent_at__isnull=False)
    return StepState.PAST if launched.exists() else StepState.OPEN


started_step(
    "campaign",
    Step(
        gettext_lazy("Launch the first campaign"),
        gettext_lazy("Choose who gets it, write it, check it, and send it: to a few people first."),
        "campaigns:write",
        50,
        lambda application: _add(application),
        _first_campaign,
    ),
)

# --- The platform --------------------------------------------------------------------------------------------------


def _of_applications(ids: Sequence[UUID]) -> dict[UUID, list[Cell]]:
    """Campaigns that run. Index: `campaign_running`."""
    running = MessageCampaign.objects.filter(status=CampaignStatus.RUNNING, application_id__in=ids)
    counts = Counter(running.values_list("application_id", flat=True))
    return {
        key: [Cell(number(count), 0.0, list_address("campaigns.MessageCampaign", application=key))]
        for key, count in counts.items()
    }


platform_figures(PlatformFigures("campaigns", (gettext_lazy("Running campaigns"),), 60, _of_applications))
