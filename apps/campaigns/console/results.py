"""The page of a campaign that was launched: progress, figures and what to do next.

A section is a function registered with `result_section` (flow → `Panel`, or None for nothing to show); other modules
add theirs with a position between the others. `panel_for(MessageCampaign)` works as on every page: below all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from apps.analytics.panels import statistics_panel
from apps.campaigns.console.flow import Flow
from apps.campaigns.console.progress import progress_context, share_text
from apps.campaigns.console.words import STATUS_COLOURS, in_words
from apps.campaigns.models import CampaignFailure, CampaignStatus
from apps.tenants.console import formats
from apps.tenants.console.panels import Panel, badge, list_address, registered_panels, table_panel

SectionMaker = Callable[[Flow], Panel | None]


@dataclass(frozen=True)
class Section:
    position: int
    make: SectionMaker


_sections: list[Section] = []


def result_section(position: int) -> Callable[[SectionMaker], SectionMaker]:
    """Register a maker of a section of the result page; lower positions stand further up."""

    def register(maker: SectionMaker) -> SectionMaker:
        _sections.append(Section(position, maker))
        return maker

    return register


def result_page(flow: Flow) -> HttpResponse:
    campaign, request = flow.campaign, flow.request
    made = (section.make(flow) for section in sorted(_sections, key=lambda s: s.position))
    panels = [*(panel for panel in made if panel is not None), *registered_panels(request, campaign)]
    context: dict[str, Any] = {
        **flow.admin.admin_site.each_context(request),
        "opts": flow.admin.model._meta,
        "title": str(campaign),
        "original": campaign,
        "flow": flow,
        "campaign": campaign,
        "status_badge": badge(STATUS_COLOURS[campaign.status], CampaignStatus(campaign.status).label),
        "panels": panels,
        "row_actions": flow.admin.offered_actions(request, campaign),
        **flow.links(),
    }
    return TemplateResponse(request, "admin/campaigns/result.html", context)


@result_section(0)
def progress(flow: Flow) -> Panel:
    return Panel(_("Progress"), "admin/console/progress.html", progress_context(flow.campaign))


@result_section(40)
def failures(flow: Flow) -> Panel | None:
    campaign = flow.campaign
    found = CampaignFailure.objects.filter(
        application_id=campaign.application_id, campaign=campaign, count__gt=0
    ).order_by("-count", "reason")[:20]
    rows = [(f.reason, formats.number(f.count), share_text(f.count, campaign.failed_count)) for f in found]
    failed = list_address("messaging.Message", campaign=campaign.pk, status="failed")
    headers = (_("reason"), _("messages"), _("of the failed"))
    return table_panel(_("Failures by reason"), headers, rows, more=failed, more_label=_("Failed messages"))


@result_section(60)
def audience(flow: Flow) -> Panel:
    facts = [(_("who"), in_words(flow.campaign.application, flow.campaign.targeting_criteria))]
    return Panel(_("Audience"), "admin/console/facts.html", {"facts": facts})


@result_section(70)
def statistics(flow: Flow) -> Panel | None:
    campaign = flow.campaign
    since = campaign.sent_at or campaign.created_at
    return statistics_panel(flow.request, campaign.application, since=since, campaign_id=campaign.pk)
