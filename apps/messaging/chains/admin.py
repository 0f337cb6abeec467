"""The console's page of who went on to the next step of a chain, and why."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy

from apps.messaging.models import FollowUp
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter
from apps.tenants.console.panels import admin_link, short_id


@admin.register(FollowUp)
class FollowUpAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    list_display = ("user", "application", "because", "messages", "problem", "created_at")
    list_display_links = ("because",)  # the first column is a link itself
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = ("application", "user", "step", "after", "because", "messages", "problem", "created_at", "id")

    @admin.display(description=gettext_lazy("user"))
    def user(self, row: FollowUp) -> Any:
        return admin_link("subscriptions.AppUser", row.user_id, short_id(row.user_id))

    @admin.display(description=gettext_lazy("step"))
    def step(self, row: FollowUp) -> Any:
        return admin_link("messaging.Dispatch", row.dispatch_id, short_id(row.dispatch_id))

    @admin.display(description=gettext_lazy("after"))
    def after(self, row: FollowUp) -> Any:
        message_id = row.after_message_id
        return admin_link("messaging.Message", message_id, short_id(message_id)) if message_id else "–"
