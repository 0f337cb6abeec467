"""The console's pages of what stands behind messages: dispatches, their batches, and orders to send again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.console.words import campaign_link
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, MessageRequeue
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, rare_filter
from apps.tenants.console.panels import Panel, admin_link, json_text, list_address, short_id, table_panel


@admin.register(Dispatch)
class DispatchAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a dispatch or of a campaign")
    list_display = ("key", "application", "channel_type", "priority", "state", "campaign", "created_at")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("campaign"), "campaign", lambda rows, key: rows.filter(campaign_id=key)),
        AddedFilter,
        rare_filter(gettext_lazy("state"), "state", DispatchState.choices, lambda rows, v: rows.filter(state=v)),
    )
    fields = (
        "application",
        "campaign",
        "channel_type",
        "priority",
        "state",
        "ttl_s",
        "is_personalised",
        "template_version_link",
        "title",
        "body",
        "data_text",
        "options_text",
        "variables_text",
        "audience_text",
        "created_at",
        "id",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "template_version")

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, row: Dispatch) -> Any:
        return campaign_link(row.campaign_id)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: Dispatch) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("template version"))
    def template_version_link(self, row: Dispatch) -> Any:
        version = row.template_version
        return admin_link("messaging.MessageTemplateVersion", version.pk, version) if version else "–"

    @admin.display(description=gettext_lazy("data"))
    def data_text(self, row: Dispatch) -> Any:
        return json_text(row.data)

    @admin.display(description=gettext_lazy("options"))
    def options_text(self, row: Dispatch) -> Any:
        return json_text(row.options)

    @admin.display(description=gettext_lazy("variables"))
    def variables_text(self, row: Dispatch) -> Any:
        return json_text(row.variables)

    @admin.display(description=gettext_lazy("audience"))
    def audience_text(self, row: Dispatch) -> Any:
        return (
            _("named recipients")
            if row.audience is None
            else json_text(row.audience)
            if row.audience
            else _("everybody")
        )

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        found = queryset.filter(pk=key)
        return found if found.exists() else queryset.filter(campaign_id=key)

    def panels(self, request: HttpRequest, row: Dispatch) -> list[Panel]:
        rows = [
            (
                admin_link("messaging.DispatchBatch", batch.pk, batch.pk),
                batch.get_state_display(),
                batch.recipient_count,
                batch.due_at,
                batch.claims,
                batch.finished_at,
            )
            for batch in DispatchBatch.objects.filter(dispatch=row).order_by("-pk")[:20]
        ]
        headers = (_("batch"), _("state"), _("recipients"), _("due"), _("claims"), _("finished"))
        return [table_panel(_("Batches"), headers, rows, more=list_address("messaging.DispatchBatch", dispatch=row.pk))]


@admin.register(DispatchBatch)
class DispatchBatchAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a batch or of its dispatch")
    list_display = (
        "key",
        "application",
        "subscription_type",
        "priority",
        "state",
        "recipient_count",
        "due_at",
        "claims",
        "finished_at",
    )
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("dispatch"), "dispatch", lambda rows, key: rows.filter(dispatch_id=key)),
        AddedFilter,
        rare_filter(gettext_lazy("state"), "state", BatchState.choices, lambda rows, v: rows.filter(state=v)),
    )
    fields = (
        "application",
        "dispatch_link",
        "messages_link",
        "subscription_type",
        "priority",
        "state",
        "recipient_count",
        "due_at",
        "expires_at",
        "queued_at",
        "lease_until",
        "claims",
        "first_subscription_id",
        "last_subscription_id",
        "first_id",
        "created_at",
        "finished_at",
        "receipts_closed",
        "has_failed",
        "id",
    )

    @admin.display(description=gettext_lazy("dispatch"))
    def dispatch_link(self, row: DispatchBatch) -> Any:
        return admin_link("messaging.Dispatch", row.dispatch_id, row.dispatch_id)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: DispatchBatch) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("messages"))
    def messages_link(self, row: DispatchBatch) -> Any:
        if row.first_id is None:
            return _("made when it is claimed")
        address = f"{reverse('admin:messaging_message_changelist')}?range={row.first_id}"
        return format_html('<a href="{}" class="text-link">{}</a>', address, _("Show them"))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        found = queryset.filter(pk=key)
        return found if found.exists() else queryset.filter(dispatch_id=key)


@admin.register(MessageRequeue)
class MessageRequeueAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    list_display = ("key", "application", "campaign", "error_reason", "requeued", "requested_by", "finished_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = (
        "application",
        "campaign",
        "error_reason",
        "error_class",
        "since",
        "until",
        "requeued",
        "skipped_text",
        "requested_by",
        "created_at",
        "updated_at",
        "finished_at",
        "id",
    )

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: MessageRequeue) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, row: MessageRequeue) -> Any:
        return campaign_link(row.campaign_id)

    @admin.display(description=gettext_lazy("skipped"))
    def skipped_text(self, row: MessageRequeue) -> Any:
        return json_text(row.skipped)
