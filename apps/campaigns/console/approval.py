"""The page of approvals: who asked, who answered."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from apps.campaigns.approvals.models import ApprovalState, CampaignApproval
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import ApplicationFilter, as_uuid, link_filter
from apps.tenants.console.panels import admin_link, badge

COLOURS = {
    ApprovalState.ASKED.value: "info",
    ApprovalState.APPROVED.value: "success",
    ApprovalState.REJECTED.value: "danger",
    ApprovalState.WITHDRAWN.value: "default",
}


@admin.register(CampaignApproval)
class CampaignApprovalAdmin(ReadOnlyAdmin):
    read_scope = "campaigns:read"
    may_add = may_change = may_delete = False
    search_help_text = gettext_lazy("Id of a campaign")
    list_display = ("campaign_name", "application", "status", "asked_by", "asked_at", "decided_by", "decided_at")
    list_display_links = ("status",)  # the first column is a link itself
    list_select_related = ("campaign", "application")
    list_filter = (
        ApplicationFilter,
        "state",
        link_filter(gettext_lazy("campaign"), "campaign", lambda rows, key: rows.filter(campaign_id=key)),
    )
    fields = (
        *("application", "campaign_name", "status", "recipients", "asked_by", "asked_at", "note"),
        *("decided_by", "decided_at", "comment", "told_at", "id"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("campaign", "application")

    @admin.display(description=gettext_lazy("campaign"))
    def campaign_name(self, row: CampaignApproval) -> Any:
        return admin_link("campaigns.MessageCampaign", row.campaign_id, row.campaign.name)

    @admin.display(description=gettext_lazy("state"))
    def status(self, row: CampaignApproval) -> SafeString:
        return badge(COLOURS[row.state], row.get_state_display())

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        return queryset.filter(campaign_id=key) if key else queryset.none()
