"""The export of campaigns, registered with the others of `apps.analytics.exports`."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from apps.analytics.exports.columns import Column, ExportResource, Filter, Moment, Plain
from apps.analytics.exports.resources import channel_filter
from apps.campaigns.models import CampaignStatus


class CampaignsExport(ExportResource):
    """By `campaign_by_application`. The content of a campaign is one for all, and so not personal."""

    kind, label, scope = "campaigns", _("Campaigns"), "campaigns:read"
    table, application, key = "campaigns_messagecampaign c", "c.application_id", "c.id"
    needs_period = False
    period_label = _("when they were made")
    filters = (
        Filter(
            "status",
            serializers.ChoiceField(CampaignStatus.choices, required=False),
            "c.status = %(status)s",
            label=_("status"),
        ),
        channel_filter("c.channel_type"),
    )

    id = Plain("c.id")
    name = Column("c.name")
    status = Plain("c.status")
    campaign_type = Plain("c.campaign_type")
    channel_type = Plain("c.channel_type")
    priority = Plain("c.priority")
    template_id = Plain("c.template_id")
    created_at = Moment("c.created_at")
    created_by = Column("c.created_by")
    scheduled_at = Moment("c.scheduled_at")
    sent_at = Moment("c.sent_at")
    completed_at = Moment("c.completed_at")
    total_recipients = Plain("c.total_recipients")
    successful_count = Plain("c.successful_count")
    failed_count = Plain("c.failed_count")
    received_count = Plain("c.received_count")
    converted_count = Plain("c.converted_count")
    failure_reason = Column("c.failure_reason")
    title = Column("c.title", is_default=False)
    body = Column("c.body", is_default=False)
    data = Column("c.data::text", is_default=False)
    targeting_criteria = Column("c.targeting_criteria::text", is_default=False)
