"""The page of campaigns: the list, the guided flow of a draft, the result of what was launched."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from apps.analytics.exports.admin import offer
from apps.campaigns import services
from apps.campaigns.console.buttons import CampaignButtons
from apps.campaigns.console.flow import Flow, is_advanced, part_named, step_named
from apps.campaigns.console.forms import CampaignForm, NewCampaignForm
from apps.campaigns.console.listing import duplicate_cell, name_cell, progress_cell, state_cell, tabs_of, when_cell
from apps.campaigns.console.progress import progress_context
from apps.campaigns.console.results import result_page
from apps.campaigns.console.words import WRITE, in_words, reach
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.tenants.console import formats
from apps.tenants.console.access import grants_of
from apps.tenants.console.base import search_by_name
from apps.tenants.console.lists import ApplicationFilter, as_uuid
from apps.tenants.console.panels import Panel


@admin.register(MessageCampaign)
class MessageCampaignAdmin(CampaignButtons):
    """A draft's page is the guided flow, every other campaign's the result. The plain form of everything stands behind
    `?advanced=1`, and so do its buttons."""

    read_scope, write_scope = "campaigns:read", WRITE
    form = CampaignForm
    autocomplete_fields = ("template",)
    list_display = ("what", "application", "state", "progress", "recipients", "opened", "when", "again")
    list_display_links = ("what",)
    list_before_template = "admin/campaigns/list_before.html"
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "status", "channel_type")
    fieldsets = (
        (None, {"fields": ("application", "name", "state", "failure_reason")}),
        (
            gettext_lazy("Content"),
            {"fields": ("channel_type", "template", "title", "body", "data", "options", "variables")},
        ),
        (
            gettext_lazy("Audience"),
            {
                "fields": (
                    *("targeting_criteria", "purpose", "category"),
                    *("priority", "ttl_s", "messages_per_minute", "when_over_quota"),
                )
            },
        ),
        (
            gettext_lazy("Times"),
            {
                "fields": (
                    "scheduled_at",
                    "scheduled_time_zone",
                    "sent_at",
                    "completed_at",
                    "created_by",
                    "created_at",
                    "updated_at",
                    "id",
                )
            },
        ),
    )
    refusal_aliases = {"template_id": "template", "recipients": "external_ids"}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "template", "experiment")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None and not is_advanced(request):
            kwargs["form"] = NewCampaignForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            return self.fieldsets
        if not is_advanced(request):
            return ((None, {"fields": ("application", "name", "channel_type", "purpose")}),)
        return ((None, {"fields": ("application", "name")}), *self.fieldsets[1:3])

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        return ("application", "state", "failure_reason", *self.fieldsets[3][1]["fields"])

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_open = not isinstance(obj, MessageCampaign) or obj.status in (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED)
        return is_open and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_draft = not isinstance(obj, MessageCampaign) or obj.status == CampaignStatus.DRAFT
        return is_draft and super().has_delete_permission(request, obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Advertising: the careful one of the two purposes."""
        first = {} if is_advanced(request) else {"purpose": "marketing"}
        return {**first, **super().get_changeform_initial_data(request)}

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        if is_advanced(request):
            return super().response_post_save_add(request, obj)
        return HttpResponseRedirect(Flow(self, request, obj).address_of("audience"))

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        """The flow of a draft, the result of what was launched; the plain form for who asks for it."""
        if request.method in ("GET", "HEAD") and not is_advanced(request) and as_uuid(object_id):
            row = self.get_object(request, object_id)
            if row is not None and self.has_view_permission(request, row):
                return self._own_page(request, row)
        return super().change_view(request, object_id, form_url, extra_context)

    def _own_page(self, request: HttpRequest, row: MessageCampaign) -> HttpResponse:
        flow = Flow(self, request, row)
        if row.status == CampaignStatus.SCHEDULED:
            return HttpResponseRedirect(flow.address_of("launch"))
        if row.status == CampaignStatus.DRAFT:
            return HttpResponseRedirect(flow.first_open())
        return result_page(flow)

    # --- The list ------------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> Any:
        """Whose it is, for who has several applications."""
        is_one = len(grants_of(request).applications(self.read_scope)) == 1
        return tuple(name for name in self.list_display if not (is_one and name == "application"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        tabs = tabs_of(request, super().get_queryset(request))
        return super().changelist_view(request, {**tabs, **(extra_context or {})})

    @admin.display(description=gettext_lazy("campaign"))
    def what(self, row: MessageCampaign) -> SafeString:
        return name_cell(row)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: MessageCampaign) -> SafeString:
        return state_cell(row)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, row: MessageCampaign) -> SafeString | str:
        return progress_cell(row)

    @admin.display(description=gettext_lazy("recipients"))
    def recipients(self, row: MessageCampaign) -> str:
        return formats.number(row.total_recipients) if row.sent_at else formats.NOTHING

    @admin.display(description=gettext_lazy("opened"))
    def opened(self, row: MessageCampaign) -> str:
        return formats.share(row.converted_count, row.received_count)

    @admin.display(description=gettext_lazy("launched"))
    def when(self, row: MessageCampaign) -> SafeString | str:
        return when_cell(row)

    @admin.display(description=gettext_lazy("duplicate"))
    def again(self, row: MessageCampaign) -> SafeString:
        return duplicate_cell(row, self.action_address(row, "duplicate"))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name")

    # --- Changes -------------------------------------------------------------------------------------------------

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> MessageCampaign:
        fields = _service_fields(cleaned)
        application = fields.pop("application")
        by = str(request.user)
        return services.campaign_create(application=application, created_by=by, by=by, **fields)

    def update(self, request: HttpRequest, row: MessageCampaign, changes: dict[str, Any]) -> MessageCampaign:
        return services.campaign_update(campaign=row, by=str(request.user), **_service_fields(changes))

    def remove(self, request: HttpRequest, row: MessageCampaign) -> None:
        services.campaign_delete(campaign=row, by=str(request.user))

    # --- The pages -----------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: MessageCampaign) -> list[Panel]:
        """Of the plain form."""
        facts = [(pgettext("audience", "who"), in_words(row.application, row.targeting_criteria))]
        if row.status in (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED):
            facts.append((_("reachable now"), reach(row.application, row.targeting_criteria, row.channel_type)))
        return [Panel(_("Audience"), "admin/console/facts.html", {"facts": facts}, before=True)]

    def get_urls(self) -> list[Any]:
        routes = (
            ("<uuid:object_id>/progress/", self.progress_view, "progress"),
            ("<uuid:object_id>/step/<slug:name>/", self.step_view, "step"),
            ("<uuid:object_id>/part/<slug:name>/", self.part_view, "part"),
        )
        own = [
            path(route, self.admin_site.admin_view(view), name=f"campaigns_messagecampaign_{name}")
            for route, view, name in routes
        ]
        return [*own, *super().get_urls()]

    def _row(self, request: HttpRequest, object_id: UUID) -> MessageCampaign:
        """404 for what is not there or another application's, 403 for what the role has not."""
        row: MessageCampaign | None = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row

    def offered_actions(self, request: HttpRequest, row: MessageCampaign) -> list[dict[str, Any]]:
        """The buttons of the page of what was launched."""
        return [
            {"action": action, "address": self.action_address(row, action.name)}
            for action in self._declared_actions()
            if action.name != "test" and action.is_offered(row) and self.is_allowed(request, action.scope, row)
        ]

    def step_view(self, request: HttpRequest, object_id: UUID, name: str) -> HttpResponse:
        """A step of the flow; of a campaign that was launched, its page."""
        flow = Flow(self, request, self._row(request, object_id))
        step = step_named(name)
        if step is None or not step.is_offered(flow):
            raise Http404
        if not flow.is_editable:
            return HttpResponseRedirect(self.address_of(object_id))
        return step.view(flow)

    def part_view(self, request: HttpRequest, object_id: UUID, name: str) -> HttpResponse:
        flow = Flow(self, request, self._row(request, object_id))
        part = part_named(name)
        if part is None:
            raise Http404
        return part(flow)

    def progress_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The progress alone, for a page that asks every few seconds."""
        row = self._row(request, object_id)
        answer = TemplateResponse(request, "admin/campaigns/parts/progress.html", {"panel": progress_context(row)})
        if request.headers.get("HX-Request") and request.GET.get("state", row.status) != row.status:
            answer["HX-Refresh"] = "true"  # another state has other buttons, and an end has more figures
        return answer


def _service_fields(cleaned: dict[str, Any]) -> dict[str, Any]:
    """As the services name them."""
    fields = dict(cleaned)
    if "template" in fields:
        template = fields.pop("template")
        fields["template_id"] = template.pk if template else None
    return fields


offer(MessageCampaign, "campaigns", {"status__exact": "status", "channel_type__exact": "channel_type"})
