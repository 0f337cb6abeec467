"""The console's pages of what changed about subscriptions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from apps.subscriptions.models import SubscriptionEvent, SubscriptionEventType
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, rare_filter
from apps.tenants.console.panels import admin_link, short_id


def status_change(event: SubscriptionEvent) -> str:
    if event.old_status == event.new_status:
        return "" if event.new_status is None else str(event.new_status)
    return f"{'–' if event.old_status is None else event.old_status} → {event.new_status}"


@admin.register(SubscriptionEvent)
class SubscriptionEventAdmin(ReadOnlyAdmin):
    read_scope = "subscriptions:read"
    search_help_text = gettext_lazy("Id of a subscription or of an event")
    list_display = (
        "occurred_at",
        "application",
        "event_type",
        "channel",
        "status_text",
        "source",
        "reason",
        "subscription_link",
    )
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("subscription"), "subscription", lambda rows, key: rows.filter(subscription_id=key)),
        AddedFilter,
        rare_filter(
            gettext_lazy("event"),
            "event",
            SubscriptionEventType.choices,
            lambda rows, value: rows.filter(event_type=value),
        ),
    )
    fields = (
        "occurred_at",
        "application",
        "event_type",
        "channel",
        "status_text",
        "source",
        "reason",
        "subscription_link",
        "user_link",
        "id",
    )

    @admin.display(description=gettext_lazy("status"))
    def status_text(self, row: SubscriptionEvent) -> str:
        return status_change(row)

    @admin.display(description=gettext_lazy("subscription"))
    def subscription_link(self, row: SubscriptionEvent) -> Any:
        return admin_link("subscriptions.Subscription", row.subscription_id, short_id(row.subscription_id))

    @admin.display(description=gettext_lazy("user"))
    def user_link(self, row: SubscriptionEvent) -> Any:
        return admin_link("subscriptions.AppUser", row.user_id, row.user_id) if row.user_id else "–"

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        if queryset.filter(pk=key).exists():
            return queryset.filter(pk=key)
        return queryset.filter(subscription_id=key)
