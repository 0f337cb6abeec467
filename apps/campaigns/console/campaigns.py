"""The page of campaigns: the list, the guided flow of a draft, the result of what was launched, and the buttons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext
from django_fsm import can_proceed

from apps.analytics.exports.admin import offer
from apps.campaigns import moments, services
from apps.campaigns.console.flow import Flow, is_advanced, operator_of, part_named, step_named
from apps.campaigns.console.forms import (
    ApproveForm,
    AskForm,
    CampaignForm,
    NewCampaignForm,
    ProbeForm,
    RejectForm,
    RequeueForm,
    ScheduleForm,
    TimingForm,
)
from apps.campaigns.console.launch import LaunchForm, asks_for_approval, refuse_unconfirmed
from apps.campaigns.console.listing import duplicate_cell, name_cell, progress_cell, state_cell, tabs_of, when_cell
from apps.campaigns.console.progress import progress_context
from apps.campaigns.console.results import result_page
from apps.campaigns.console.schedules import local_text
from apps.campaigns.console.words import (
    APPROVE,
    LAUNCH,
    WRITE,
    in_words,
    quick_statements,
    reach,
)
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services.lifecycle import REQUEUED_IN
from apps.campaigns.services.rows import EDITABLE
from apps.campaigns.services.timing import timing_of
from apps.messaging.requeue import ONLY_BY_NAME, FailedFilter, dead_letters
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.console import formats
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedHistoryAdmin, search_by_name
from apps.tenants.console.choosing import applications_with, chosen_application
from apps.tenants.console.formats import number
from apps.tenants.console.lists import ApplicationFilter, as_uuid
from apps.tenants.console.panels import Panel, admin_link
from automata_signal.errors import Conflict


def _may(step: str) -> Any:
    return lambda campaign: can_proceed(getattr(campaign, step))


PRESSED_TWICE = timedelta(minutes=1)
"""A launch of a campaign that was launched so short a time ago is the same button again."""


@admin.register(MessageCampaign)
class MessageCampaignAdmin(ScopedHistoryAdmin):
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
    row_actions = (
        *("launch", "schedule", "unschedule", "timing", "pause", "resume", "requeue_failed", "test", "cancel"),
        *("duplicate", "ask_approval", "approve", "reject"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "template")

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
        """The application that was looked at last, and advertising: the careful one of the two purposes."""
        applications = applications_with(request, WRITE)
        chosen = chosen_application(request, applications) if not request.GET.get("application") else None
        first = {"application": chosen.pk if chosen else "", "purpose": "marketing"}
        return {**({} if is_advanced(request) else first), **super().get_changeform_initial_data(request)}

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

    # --- Buttons -------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Launch"),
        scope=LAUNCH,
        icon="rocket_launch",
        variant="primary",
        form=LaunchForm,
        explain=gettext_lazy("Sending starts now. Content and audience stay as they are at this moment."),
        facts="launch_facts",
        is_offered=_may("launch"),
    )
    def launch(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        refuse_unconfirmed(row, cleaned.get("confirmation", ""))
        try:
            services.campaign_launch(campaign=row, by=str(request.user))
        except Conflict as error:
            if error.code != "CAMPAIGN_STATE" or not _was_just_launched(row):
                raise
        return _("The campaign is launched.")

    def launch_facts(self, request: HttpRequest, row: MessageCampaign) -> list[tuple[str, Any]]:
        return [
            (_("recipients now"), reach(row.application, row.targeting_criteria, row.channel_type)),
            (_("audience"), in_words(row.application, row.targeting_criteria)),
            (_("channel"), f"{row.get_channel_type_display()} · {row.get_priority_display()}"),
            (_("content"), str(row.template) if row.template else f"{row.title} — {row.body}"[:300]),
        ]

    @row_action(
        gettext_lazy("Schedule"),
        scope=LAUNCH,
        icon="schedule_send",
        form=ScheduleForm,
        explain=gettext_lazy("Who is in the audience is found out at that time."),
        is_offered=_may("schedule"),
    )
    def schedule(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        refuse_unconfirmed(row, cleaned.get("confirmation", ""))
        at = moments.parsed(cleaned["at"])
        row = services.campaign_schedule(
            campaign=row, at=at, time_zone=cleaned["time_zone"].strip(), by=str(request.user)
        )
        assert row.scheduled_at is not None
        when = local_text(row.scheduled_at, row.scheduled_time_zone, row.application.time_zone)
        return _("The campaign is scheduled for %(when)s.") % {"when": when}

    @row_action(
        gettext_lazy("Unschedule"), scope=LAUNCH, icon="event_busy", is_direct=True, is_offered=_may("unschedule")
    )
    def unschedule(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        services.campaign_unschedule(campaign=row, by=str(request.user))
        return _("The campaign is a draft again.")

    @row_action(
        gettext_lazy("Local time"),
        scope=WRITE,
        icon="schedule",
        form=TimingForm,
        explain=gettext_lazy("When after the launch each recipient gets it; with neither, at once."),
        facts="timing_facts",
        is_offered=lambda campaign: campaign.status in EDITABLE,
    )
    def timing(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        services.campaign_update(campaign=row, by=str(request.user), **cleaned)
        return _("The time of each recipient is set.")

    def timing_facts(self, request: HttpRequest, row: MessageCampaign) -> list[tuple[str, Any]]:
        local_time, at_active_hours = timing_of(row)
        return [
            (_("At this time of their clock"), local_time.strftime("%H:%M") if local_time else "–"),
            (_("When they are usually active"), _("yes") if at_active_hours else _("no")),
        ]

    @row_action(gettext_lazy("Pause"), scope=LAUNCH, icon="pause", is_direct=True, is_offered=_may("pause"))
    def pause(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        services.campaign_pause(campaign=row, by=str(request.user))
        return _("The campaign is paused: nothing more leaves.")

    @row_action(
        gettext_lazy("Resume"),
        scope=LAUNCH,
        icon="play_arrow",
        variant="primary",
        is_direct=True,
        is_offered=_may("resume"),
    )
    def resume(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        services.campaign_resume(campaign=row, by=str(request.user))
        return _("The campaign goes on.")

    @row_action(
        gettext_lazy("Cancel"),
        scope=LAUNCH,
        icon="cancel",
        variant="danger",
        explain=gettext_lazy("For good. What has not left yet is failed as canceled."),
        is_offered=_may("cancel"),
    )
    def cancel(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        services.campaign_cancel(campaign=row, by=str(request.user))
        return _("The campaign is canceled.")

    @row_action(
        gettext_lazy("Send failed again"),
        scope="messages:send",
        icon="replay",
        form=RequeueForm,
        explain=gettext_lazy(
            "As new messages of this campaign, each once; the failed ones stay counted as failed. What the provider "
            "took and who cannot be reached any more are left out."
        ),
        facts="requeue_facts",
        is_offered=lambda campaign: campaign.status in REQUEUED_IN and campaign.failed_count > 0,
    )
    def requeue_failed(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> SafeString:
        reason = cleaned["error_reason"].strip()
        order = services.campaign_requeue_failed(campaign=row, error_reason=reason, by=str(request.user))
        text = _("%(count)s messages are sent again.") if order.finished_at else _("%(count)s so far, more follow.")
        link = admin_link("messaging.MessageRequeue", order.pk, _("Details"))
        return format_html("{} {}", text % {"count": number(order.requeued)}, link)

    def requeue_facts(self, request: HttpRequest, row: MessageCampaign) -> list[tuple[str, Any]]:
        """How many it would be, all told and by reason."""
        try:
            with quick_statements():
                found = dead_letters(application=row.application, which=FailedFilter(campaign_id=row.pk))
        except OperationalError:
            return [(_("messages"), _("more than can be counted in a moment"))]
        left = [(f.error_reason, f.messages - f.requeued) for f in found if f.messages > f.requeued]
        usual = sum(count for reason, count in left if reason not in (*ONLY_BY_NAME, TIMED_OUT))
        by_reason = [(reason or "–", number(count)) for reason, count in left[:20]]
        return [(_("messages, at most"), number(usual)), *by_reason]

    @row_action(
        gettext_lazy("Test"),
        scope=WRITE,
        icon="send_to_mobile",
        form=ProbeForm,
        explain=gettext_lazy("Sends what the campaign would send to up to 20 recipients, at once. Its figures stay."),
    )
    def test(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        result = services.campaign_test(campaign=row, **cleaned)
        count = len(result.messages)
        text = ngettext("%(count)d test message is on its way.", "%(count)d test messages are on their way.", count) % {
            "count": count
        }
        skipped = ", ".join(f"{skipped.value} ({skipped.reason})" for skipped in result.skipped)
        return f"{text} {_('Skipped')}: {skipped}" if skipped else text

    @row_action(
        gettext_lazy("Duplicate"),
        scope=WRITE,
        icon="content_copy",
        is_direct=True,
    )
    def duplicate(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> HttpResponse:
        by = str(request.user)
        copy = services.campaign_duplicate(campaign=row, created_by=by, by=by)
        messages.success(request, _("This is a draft with the same content and audience."))
        return HttpResponseRedirect(self.address_of(copy.pk))

    # --- The second person -----------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Ask for approval"),
        scope=WRITE,
        icon="how_to_reg",
        form=AskForm,
        explain=gettext_lazy("Whoever may approve is told by e-mail. What you change afterwards asks for it anew."),
        is_offered=asks_for_approval,
    )
    def ask_approval(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> HttpResponse:
        by = str(request.user)
        services.approval_ask(campaign=row, asked_by=by, operator=operator_of(request), note=cleaned["note"])
        return self._to_launch(request, row, _("You have asked for approval."))

    @row_action(
        gettext_lazy("Approve"),
        scope=APPROVE,
        icon="verified",
        variant="primary",
        form=ApproveForm,
        explain=gettext_lazy("Exactly as it stands now: any change afterwards asks for it anew."),
        facts="launch_facts",
        is_offered=asks_for_approval,
    )
    def approve(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> HttpResponse:
        services.approval_approve(
            campaign=row, operator=operator_of(request), comment=cleaned["comment"], digest=cleaned["digest"]
        )
        return self._to_launch(request, row, _("The launch is approved."))

    @row_action(
        gettext_lazy("Reject"),
        scope=APPROVE,
        icon="block",
        variant="danger",
        form=RejectForm,
        explain=gettext_lazy("Say what has to be changed; whoever asked sees it."),
        is_offered=asks_for_approval,
    )
    def reject(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> HttpResponse:
        services.approval_reject(campaign=row, operator=operator_of(request), comment=cleaned["comment"])
        return self._to_launch(request, row, _("The launch is rejected."))

    def _to_launch(self, request: HttpRequest, row: MessageCampaign, text: str) -> HttpResponse:
        """To the step where the approval stands."""
        messages.success(request, text)
        return HttpResponseRedirect(Flow(self, request, row).address_of("launch"))

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


def _was_just_launched(campaign: MessageCampaign) -> bool:
    """Whether a button was pressed twice: the first time was taken."""
    row = MessageCampaign.objects.get(pk=campaign.pk)
    is_new = row.sent_at is not None and timezone.now() - row.sent_at < PRESSED_TWICE
    return is_new and row.status == CampaignStatus.RUNNING


def _service_fields(cleaned: dict[str, Any]) -> dict[str, Any]:
    """As the services name them."""
    fields = dict(cleaned)
    if "template" in fields:
        template = fields.pop("template")
        fields["template_id"] = template.pk if template else None
    return fields


offer(MessageCampaign, "campaigns", {"status__exact": "status", "channel_type__exact": "channel_type"})
