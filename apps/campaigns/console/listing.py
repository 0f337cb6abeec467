"""The list of campaigns: tabs by state, and what its columns show."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from apps.campaigns.console.progress import Figures
from apps.campaigns.console.words import STATUS_COLOURS
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.tenants.console import formats
from apps.tenants.console.base import search_by_name
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.panels import badge

TABBED = (
    CampaignStatus.DRAFT,
    CampaignStatus.SCHEDULED,
    CampaignStatus.RUNNING,
    CampaignStatus.PAUSED,
    CampaignStatus.COMPLETED,
    CampaignStatus.CANCELED,
    CampaignStatus.FAILED,
)


def tabs_of(request: HttpRequest, campaigns: QuerySet[MessageCampaign]) -> dict[str, Any]:
    """The states with how many campaigns are in them, of those that the list is narrowed to. An application has
    hundreds, not millions."""
    given = {name: request.GET.get(name, "").replace("\0", "") for name in ("application", "q", "channel_type__exact")}
    kept = {name: value for name, value in given.items() if value}
    if "application" in kept:
        application = as_uuid(kept["application"])
        campaigns = campaigns.filter(application_id=application) if application else campaigns.none()
    if "channel_type__exact" in kept:
        campaigns = campaigns.filter(channel_type=kept["channel_type__exact"])
    if "q" in kept:
        campaigns = search_by_name(campaigns, kept["q"], "name")
    counts = dict(campaigns.order_by().values_list("status").annotate(Count("pk")))
    chosen = request.GET.get("status__exact", "")
    tabs = [{"label": _("All"), "count": sum(counts.values()), "address": _query(kept), "is_current": not chosen}]
    for status in TABBED:
        if counts.get(status) or chosen == status:
            tabs.append(
                {
                    "label": status.label,
                    "count": counts.get(status, 0),
                    "address": _query(kept | {"status__exact": status.value}),
                    "is_current": chosen == status.value,
                }
            )
    return {"campaign_tabs": tabs, "has_campaigns": bool(counts or kept)}


def _query(given: dict[str, str]) -> str:
    return f"?{urlencode(given)}" if given else "?"


def name_cell(row: MessageCampaign) -> SafeString:
    """The name, what it says below it."""
    text = row.title or row.body
    below = f"{row.get_channel_type_display()} · {text}" if text else str(row.get_channel_type_display())
    return format_html('<span class="ca-cell-name">{}</span><span class="ca-cell-note">{}</span>', row.name, below[:90])


def state_cell(row: MessageCampaign) -> SafeString:
    return badge(STATUS_COLOURS[str(row.status)], CampaignStatus(row.status).label)


def progress_cell(row: MessageCampaign) -> SafeString | str:
    if not row.sent_at:
        return formats.NOTHING
    figures = Figures.of(row)
    return format_html(
        '<span class="ca-cell-bar"><span class="as-bar" aria-hidden="true"><span style="width: {}%"></span></span>'
        "{} %</span>",
        f"{figures.percent:.1f}",
        f"{figures.percent:g}",
    )


def when_cell(row: MessageCampaign) -> SafeString | str:
    """When it was launched, or will be."""
    if row.sent_at is not None:
        return formats.moment(row.sent_at)
    if row.scheduled_at is not None and row.status == CampaignStatus.SCHEDULED:
        return format_html("{} {}", _("planned:"), formats.moment(row.scheduled_at))
    return formats.NOTHING


def duplicate_cell(row: MessageCampaign, address: str) -> SafeString:
    """A button of the list's own form, which has the token."""
    return format_html(
        '<button type="submit" class="as-button ca-cell-button" formmethod="post" formaction="{}" aria-label="{}" '
        'title="{}"><span class="material-symbols-outlined" aria-hidden="true">content_copy</span></button>',
        address,
        _("Duplicate %(name)s") % {"name": row.name},
        _("Duplicate"),
    )
