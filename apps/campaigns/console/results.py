"""The page of a campaign that was launched: progress, funnel, figures, and what to do next.

A section is a function registered with `result_section` (flow → `Panel`, or None for nothing to show); other modules
add theirs with a position between the others. `panel_for(MessageCampaign)` works as on every page: below all of them.
Figures come from the campaign's own counters and from rollups; who got it on what is read of a bounded sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import OperationalError
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from djmoney.money import Money

from apps.analytics import answers, asking, sections
from apps.analytics.exports.services import WRITE as EXPORT
from apps.billing.selectors import prices_of
from apps.campaigns.breakdowns import Breakdown, Group, breakdown_of
from apps.campaigns.console.builder import countries
from apps.campaigns.console.flow import Flow, flow_part
from apps.campaigns.console.progress import progress_context
from apps.campaigns.console.schedules import schedule_in_words
from apps.campaigns.console.words import STATUS_COLOURS, content_in_words, in_words, quick_statements
from apps.campaigns.models import CampaignFailure, CampaignStatus, MessageCampaign
from apps.messaging.next_steps import next_step
from apps.subscriptions.models import SubscriptionType
from apps.tenants.console import formats
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.panels import Panel, badge, list_address, registered_panels
from automata_signal.errors import SignalError

SectionMaker = Callable[[Flow], Panel | None]
READ_STATISTICS = "analytics:read"
HOURLY_FOR = timedelta(days=1)
"""Most answers come in the first hours: those are shown by the hour, and a campaign that goes on for longer by day."""
SHOWN_FOR = timedelta(days=30)
COMPARED_MAX = 3
OFFERED_MAX = 50
ROWS_MAX = 12


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
        "export_address": _export_address(flow),
        **flow.links(),
    }
    return TemplateResponse(request, "admin/campaigns/result.html", context)


def _export_address(flow: Flow) -> str:
    """Of its messages, for who may export them."""
    if not (flow.may(EXPORT) and flow.may("messages:read")):
        return ""
    query = {"application": str(flow.campaign.application_id), "campaign_id": str(flow.campaign.pk)}
    return f"{reverse('admin:analytics_export_new', args=['messages'])}?{urlencode(query)}"


# --- How far it is -------------------------------------------------------------------------------------------------


@result_section(0)
def progress(flow: Flow) -> Panel:
    return Panel(_("Progress"), "admin/campaigns/parts/progress.html", progress_context(flow.campaign))


@result_section(10)
def funnel(flow: Flow) -> Panel | None:
    campaign = flow.campaign
    if not campaign.total_recipients:
        return None
    stages = (
        (_("recipients"), campaign.total_recipients, campaign.total_recipients, "group"),
        (_("sent"), campaign.successful_count, campaign.total_recipients, "send"),
        (_("received"), campaign.received_count, campaign.successful_count, "mark_email_read"),
        (_("opened"), campaign.converted_count, campaign.received_count, "ads_click"),
    )
    rows = [
        {
            "label": label,
            "count": formats.number(count),
            "share": formats.share(count, before) if place else "",
            "of_all": formats.share(count, campaign.total_recipients),
            "width": f"{max(0.5, 100 * count / campaign.total_recipients):.2f}",
            "icon": icon,
            "place": place,
        }
        for place, (label, count, before, icon) in enumerate(stages)
    ]
    context = {
        "rows": rows,
        "is_first": True,
        "open_of_sent": formats.share(campaign.converted_count, campaign.successful_count),
    }
    return Panel(_("From recipients to opened"), "admin/campaigns/parts/funnel.html", context)


# --- When ----------------------------------------------------------------------------------------------------------


@result_section(20)
def over_time(flow: Flow) -> Panel | None:
    """By hour for the first days, then by day; of the rollups."""
    campaign = flow.campaign
    if campaign.sent_at is None or not flow.may(READ_STATISTICS) or not asking.may_ask(campaign.application, "filters"):
        return None
    is_hourly = _is_short(campaign) and asking.may_ask(campaign.application, "hours")
    since, until = _whole_hours(campaign.sent_at, HOURLY_FOR if is_hourly else SHOWN_FOR)
    interval = "hour" if is_hourly else "day"
    try:
        asked = asking.asked(
            campaign.application, since=since.isoformat(), until=until.isoformat(), campaign_id=campaign.pk
        )
        section = sections.series(answers.series(asked, interval))
    except SignalError:
        return None
    days = {"from": str(since.date()), "to": str(until.date())}
    query = urlencode({"application": str(campaign.application_id), **days})
    context = {"section": section, "more": f"{reverse('admin:statistics')}?{query}"}
    return Panel(_("Over time"), "admin/campaigns/parts/over_time.html", context)


def _is_short(campaign: MessageCampaign) -> bool:
    assert campaign.sent_at is not None
    return (campaign.completed_at or timezone.now()) - campaign.sent_at <= HOURLY_FOR


def _whole_hours(launched: datetime, longest: timedelta) -> tuple[datetime, datetime]:
    """From the hour of the launch to now, at most so long as answers are likely to come."""
    since = launched.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    now = timezone.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return since, min(now, since + longest)


# --- Who -----------------------------------------------------------------------------------------------------------


@result_section(30)
def by_platform(flow: Flow) -> Panel | None:
    if flow.campaign.dispatch_id is None:
        return None
    context = {"address": flow.part_address("breakdown")}
    return Panel(_("By platform and country"), "admin/campaigns/parts/breakdown_place.html", context)


@flow_part("breakdown")
def breakdown(flow: Flow) -> HttpResponse:
    try:
        with quick_statements():
            found = breakdown_of(flow.campaign)
    except OperationalError:
        return flow.part("admin/campaigns/parts/breakdown.html", {"is_too_long": True})
    types, places = dict(SubscriptionType.choices), dict(countries())
    headers = (_("messages"), _("sent"), _("received"), _("opened"), _("failed"))
    return flow.part(
        "admin/campaigns/parts/breakdown.html",
        {
            "note": _sample_note(flow.campaign, found),
            "headers": headers,
            "tables": [
                {"title": _("Platform"), "rows": [_group(row, types) for row in found.by_type]},
                {"title": _("Country"), "rows": [_group(row, places) for row in found.by_country[:ROWS_MAX]]},
            ],
        },
    )


def _sample_note(campaign: MessageCampaign, found: Breakdown) -> str:
    if not found.messages and campaign.successful_count + campaign.failed_count:
        return _("Its messages are not kept any more.")
    if not found.messages:
        return _("No message was made yet.")
    if found.is_whole:
        return ""
    text = _("Of %(count)s messages, taken evenly from the first to the last: shares, not totals.")
    return text % {"count": formats.number(found.messages)}


def _group(row: Group, names: dict[Any, Any]) -> dict[str, Any]:
    return {
        "name": names.get(row.key, row.key) if row.key else _("not known"),
        "cells": (
            formats.number(row.messages),
            formats.share(row.sent, row.messages),
            formats.share(row.received, row.sent),
            formats.share(row.converted, row.received),
            formats.share(row.failed, row.messages),
        ),
        "width": f"{100 * row.converted / row.received if row.received else 0:.1f}",
    }


# --- Why not -------------------------------------------------------------------------------------------------------


@result_section(40)
def failures(flow: Flow) -> Panel | None:
    """Why messages failed, and what to do about each; by `one_row_per_failure_reason`."""
    campaign = flow.campaign
    found = CampaignFailure.objects.filter(
        application_id=campaign.application_id, campaign=campaign, count__gt=0
    ).order_by("-count", "reason")[:20]
    may_read = flow.may("messages:read")
    rows = []
    for one in found:
        step = next_step(one.reason)
        rows.append(
            {
                "reason": one.reason or "–",
                "count": formats.number(one.count),
                "share": formats.share(one.count, campaign.failed_count),
                "text": step.text,
                "page": list_address(step.page) if step.page else "",
                "link": step.link,
                "messages": list_address("messaging.Message", campaign=campaign.pk, reason=one.reason)
                if may_read
                else "",
            }
        )
    if not rows and not campaign.failed_count:
        return None
    context = {
        "rows": rows,
        "messages": list_address("messaging.Message", campaign=campaign.pk, status="failed") if may_read else "",
        "retry": flow.admin.action_address(campaign, "requeue_failed")
        if flow.may("messages:send") and campaign.status in ("running", "completed") and campaign.failed_count
        else "",
    }
    return Panel(_("Failures by reason"), "admin/campaigns/parts/failures.html", context)


# --- Beside others -------------------------------------------------------------------------------------------------


@result_section(50)
def comparison(flow: Flow) -> Panel:
    """Rates side by side, of the campaigns' own counters."""
    campaign = flow.campaign
    chosen = [key for key in map(as_uuid, flow.request.GET.getlist("with")) if key is not None]
    launched = MessageCampaign.objects.for_application(campaign.application).filter(sent_at__isnull=False)
    newest = list(launched.exclude(pk=campaign.pk).order_by("-id")[:OFFERED_MAX])
    known = {row.pk: row for row in newest}
    missing = [key for key in chosen if key not in known and key != campaign.pk]
    if missing:
        known |= {row.pk: row for row in launched.filter(pk__in=missing[:COMPARED_MAX])}
    others = [known[key] for key in dict.fromkeys(chosen) if key in known][:COMPARED_MAX]
    context = {
        "offered": [(row.pk, row.name, row.pk in {other.pk for other in others}) for row in newest],
        "rows": _side_by_side([campaign, *others], campaign.pk) if others else [],
        "maximum": COMPARED_MAX,
    }
    return Panel(_("Beside other campaigns"), "admin/campaigns/parts/compare.html", context)


def _side_by_side(campaigns: Sequence[MessageCampaign], own: UUID) -> list[dict[str, Any]]:
    rates: list[tuple[str, Callable[[MessageCampaign], tuple[int, int]]]] = [
        (_("sent"), lambda c: (c.successful_count, c.total_recipients)),
        (_("received"), lambda c: (c.received_count, c.successful_count)),
        (_("opened of received"), lambda c: (c.converted_count, c.received_count)),
        (_("opened of sent"), lambda c: (c.converted_count, c.successful_count)),
        (_("failed"), lambda c: (c.failed_count, c.total_recipients)),
    ]
    best = {
        label: max((part / whole for part, whole in map(of, campaigns) if whole), default=0.0) for label, of in rates
    }
    return [
        {
            "campaign": campaign,
            "is_own": campaign.pk == own,
            "address": reverse("admin:campaigns_messagecampaign_change", args=[campaign.pk]),
            "launched": campaign.sent_at,
            "recipients": formats.number(campaign.total_recipients),
            "cells": [
                _rate_cell(label, *of(campaign), best[label], is_good=place < len(rates) - 1)
                for place, (label, of) in enumerate(rates)
            ],
        }
        for campaign in campaigns
    ]


def _rate_cell(label: str, part: int, whole: int, best: float, *, is_good: bool) -> dict[str, Any]:
    """`is_good`: whether more of it is better."""
    rate = part / whole if whole else 0.0
    return {
        "label": label,
        "share": formats.share(part, whole),
        "width": f"{100 * rate / best if best else 0:.1f}",
        "is_best": is_good and bool(best) and rate == best,
    }


# --- What it was ---------------------------------------------------------------------------------------------------


@result_section(60)
def what_it_was(flow: Flow) -> Panel:
    campaign = flow.campaign
    facts = [
        (_("Audience"), in_words(campaign.application, campaign.targeting_criteria)),
        (_("Content"), content_in_words(campaign)),
        (_("Start"), schedule_in_words(campaign)),
        (_("Priority"), campaign.get_priority_display()),
        (_("Made by"), campaign.created_by or "–"),
    ]
    if campaign.category:
        facts.append((_("Category"), campaign.category))
    if flow.may("billing:read"):
        facts.append((_("Cost, about"), _cost(campaign)))
    return Panel(_("What was sent"), "admin/campaigns/parts/facts.html", {"facts": facts})


def _cost(campaign: MessageCampaign) -> str:
    """By the price of today: what was charged stands in the ledger."""
    prices = prices_of(campaign.application)
    if not prices.currency:
        return "–"
    price = prices.of(campaign.channel_type)
    whole = formats.money(Money(price * campaign.successful_count, prices.currency))
    text = _("%(whole)s: %(count)s sent, at today's price")
    return text % {"whole": whole, "count": formats.number(campaign.successful_count)}
