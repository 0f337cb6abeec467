"""The page of why messages of campaigns failed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from apps.campaigns.models import CampaignFailure
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import ApplicationFilter, as_uuid, link_filter
from apps.tenants.console.panels import admin_link


@admin.register(CampaignFailure)
class CampaignFailureAdmin(ReadOnlyAdmin):
    read_scope = "campaigns:read"
    application_path = "campaign__application"
    search_help_text = gettext_lazy("Id of a campaign, or a whole reason")
    list_display = ("campaign_name", "reason", "count")
    list_display_links = ("reason",)  # the first column is a link itself
    list_select_related = ("campaign",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("campaign"), "campaign", lambda rows, key: rows.filter(campaign_id=key)),
    )
    fields = ("campaign_name", "reason", "count")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("campaign")

    @admin.display(description=gettext_lazy("campaign"))
    def campaign_name(self, row: CampaignFailure) -> Any:
        return admin_link("campaigns.MessageCampaign", row.campaign_id, row.campaign.name)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        return queryset.filter(campaign_id=key) if key else queryset.filter(reason=term)
