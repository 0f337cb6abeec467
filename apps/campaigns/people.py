"""Which campaigns a user got, on the user's page."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext as _

from apps.campaigns.models import MessageCampaign
from apps.messaging.console.people import sums_of
from apps.messaging.models import MessageStatus
from apps.subscriptions.models import AppUser
from apps.tenants.console.access import grants_of
from apps.tenants.console.panels import Panel, panel_for

SHOWN = 10


@panel_for(AppUser)
def campaigns_panel(request: HttpRequest, user: AppUser) -> Panel | None:
    """The newest ones, with what became of the last message of each."""
    grants = grants_of(request)
    if not all(grants.has(scope, user.application_id) for scope in ("messages:read", "campaigns:read")):
        return None
    found = sums_of(user).by_campaign
    rows = MessageCampaign.objects.filter(pk__in=[key for key, _count, _state in found[:SHOWN]])
    names = dict(rows.filter(application_id=user.application_id).values_list("pk", "name"))
    shown = [
        (key, names[key], count, MessageStatus(state).label) for key, count, state in found[:SHOWN] if key in names
    ]
    return Panel(
        _("Campaigns"),
        "admin/campaigns/person_campaigns.html",
        {"rows": shown, "more": max(0, len(found) - SHOWN)},
        is_aside=True,
    )
