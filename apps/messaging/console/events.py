"""The console's page of message events."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from apps.messaging.console.words import STATUS_COLOURS
from apps.messaging.models import MessageEvent, MessageStatus
from apps.tenants.console.access import grants_of
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, newest, rare_filter
from apps.tenants.console.panels import admin_link, badge, json_text, short_id
from automata_signal.ids import event_id


@admin.register(MessageEvent)
class MessageEventAdmin(ReadOnlyAdmin):
    """Events have no index by application: without a search, an operator sees those among the newest."""

    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a message or of an event")
    list_display = ("occurred_at", "application", "state", "message_link", "metadata_line")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        AddedFilter,
        rare_filter(
            gettext_lazy("event"), "event", MessageStatus.choices, lambda rows, value: rows.filter(event_type=value)
        ),
    )
    fields = ("occurred_at", "application", "state", "message_link", "metadata_text", "id")

    @admin.display(description=gettext_lazy("event"))
    def state(self, row: MessageEvent) -> SafeString:
        return badge(STATUS_COLOURS[row.event_type], row.get_event_type_display())

    @admin.display(description=gettext_lazy("message"))
    def message_link(self, row: MessageEvent) -> Any:
        return admin_link("messaging.Message", row.message_id, short_id(row.message_id))

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_line(self, row: MessageEvent) -> str:
        details = row.metadata if isinstance(row.metadata, dict) else {}
        return ", ".join(f"{name}: {value}" for name, value in details.items())[:120] or "–"

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_text(self, row: MessageEvent) -> Any:
        return json_text(row.metadata)

    def unsearched(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if grants_of(request).is_platform:
            return queryset
        floor = newest(MessageEvent.objects.all())
        return self.within(request, floor.order_by(*self.ordering), self.read_scope)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The events of a message are a range of the primary key, and so is an event by itself."""
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        if key.int & 0xFF:
            return queryset.filter(pk=key)
        return queryset.filter(pk__range=(event_id(key, 1), event_id(key, 255)))
