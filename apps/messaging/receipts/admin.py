"""The console's page of requests to gateways: which messages each carried, and whether reports are still asked for."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy

from apps.messaging.models import GatewayRequest
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter
from apps.tenants.console.panels import admin_link, short_id


@admin.register(GatewayRequest)
class GatewayRequestAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    list_display = ("request_id", "application", "provider", "carried", "sent_at", "ask_at", "asked")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = ("application", "provider", "credential", "request_id", "carried", "sent_at", "ask_at", "asked", "id")

    @admin.display(description=gettext_lazy("messages"))
    def carried(self, row: GatewayRequest) -> int:
        return len(row.message_ids)

    @admin.display(description=gettext_lazy("credential"))
    def credential(self, row: GatewayRequest) -> Any:
        return admin_link("tenants.ChannelCredential", row.credential_id, short_id(row.credential_id))
