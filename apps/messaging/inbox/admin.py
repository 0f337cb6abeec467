"""The console's page of what lies in inboxes: found by the id of the message, of the user or of the subscription."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from apps.messaging.inbox.models import InboxItem
from apps.tenants.console.access import grants_of
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, newest
from apps.tenants.console.panels import admin_link, short_id


@admin.register(InboxItem)
class InboxItemAdmin(ReadOnlyAdmin):
    """Items have no index by application: without a search, an operator sees those among the newest."""

    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a message, of a user, or of a subscription without a user")
    list_display = ("message", "application", "owner_id", "arrived_at", "expires_at", "read_at", "archived_at", "shown")
    list_display_links = ("arrived_at",)  # the first column is a link itself
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = (
        *("message", "application", "owner_id", "dispatch", "arrived_at", "starts_at", "expires_at"),
        *("read_at", "archived_at", "shown", "last_shown_at", "id"),
    )

    @admin.display(description=gettext_lazy("message"))
    def message(self, row: InboxItem) -> Any:
        return admin_link("messaging.Message", row.pk, short_id(row.pk))

    @admin.display(description=gettext_lazy("dispatch"))
    def dispatch(self, row: InboxItem) -> Any:
        return admin_link("messaging.Dispatch", row.dispatch_id, short_id(row.dispatch_id))

    @admin.display(description=gettext_lazy("shown"))
    def shown(self, row: InboxItem) -> int:
        return row.shown_count

    def unsearched(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if grants_of(request).is_platform:
            return queryset
        return self.within(request, newest(InboxItem.objects.all()).order_by(*self.ordering), self.read_scope)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        return queryset.filter(Q(pk=key) | Q(owner_id=key)) if key else queryset.none()
