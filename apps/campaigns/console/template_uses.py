"""On the page of a template: where it is used. Templates know nothing of campaigns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Max, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.analytics.models import MessageHour
from apps.analytics.models.rollups import NOBODY
from apps.campaigns.console.words import STATUS_COLOURS
from apps.campaigns.models import MessageCampaign
from apps.messaging.models import MessageTemplate
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, number
from apps.tenants.console.panels import Panel, admin_link, badge, panel_for, table_panel

SHOWN = 20
DAYS = 30


@panel_for(MessageTemplate)
def uses_panel(request: HttpRequest, row: Any) -> Panel | None:
    """The newest campaigns with it, those whose chain goes on with it among them, and what the API sent with it."""
    if not grants_of(request).has("campaigns:read", row.application_id):
        return None
    campaigns = (
        MessageCampaign.objects.for_application(row.application)
        .filter(template=row)
        .only("pk", "name", "status", "channel_type", "chain", "sent_at", "application_id")
        .order_by("-pk")[:SHOWN]
    )
    rows: list[tuple[Any, ...]] = []
    for campaign in campaigns:
        steps = campaign.chain.get("steps") if isinstance(campaign.chain, dict) else None
        channels = [campaign.channel_type, *(step.get("channel_type", "") for step in steps or [])]
        labels = dict(ChannelType.choices)
        where = " → ".join(str(labels.get(channel, channel)) for channel in channels)
        state = badge(STATUS_COLOURS[campaign.status], campaign.get_status_display())
        name = admin_link("campaigns.MessageCampaign", campaign.pk, campaign.name)
        rows.append((name, where, state, moment(campaign.sent_at)))
    for channel, sent, last in api_use(row):
        label = str(dict(ChannelType.choices).get(channel, channel))
        amount = _("%(count)s messages in the last %(days)s days") % {"count": number(sent), "days": DAYS}
        rows.append((_("By the API"), label, amount, moment(last)))
    if not rows:
        return Panel(_("Where it is used"), "admin/console/note.html", {"note": _("Nothing uses it yet.")})
    return table_panel(_("Where it is used"), (_("by"), _("channel"), _("state"), _("last sent")), rows)


def api_use(template: MessageTemplate) -> list[tuple[str, int, Any]]:
    """Channel, messages and the last hour of what was sent with it without a campaign. From the rollups: the primary
    key begins with application and hour."""
    since = timezone.now() - timedelta(days=DAYS)
    rows = MessageHour.objects.filter(
        sent__gt=0,
        application_id=template.application_id,
        hour__gte=since,
        template_id=template.pk,
        campaign_id=NOBODY,
    )
    found = rows.order_by().values_list("channel_type").annotate(messages=Sum("sent"), last=Max("hour"))
    return [(channel, int(messages), last) for channel, messages, last in found]
