"""The console's pages of campaigns, with their progress and buttons, and of segments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_fsm import can_proceed
from unfold import widgets

from apps.analytics.exports.admin import offer
from apps.analytics.panels import statistics_panel
from apps.campaigns import moments, services
from apps.campaigns.models import CampaignFailure, CampaignStatus, MessageCampaign, Segment
from apps.campaigns.selectors import audience_count
from apps.campaigns.services.lifecycle import REQUEUED_IN
from apps.campaigns.services.rows import EDITABLE
from apps.campaigns.services.timing import timing_of
from apps.messaging.requeue import ONLY_BY_NAME, FailedFilter, dead_letters
from apps.messaging.sweeps import TIMED_OUT
from apps.subscriptions.targeting import TargetingError, describe
from apps.tenants.channels import ChannelType
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.forms import JSONObjectField, JSONTextarea
from apps.tenants.console.lists import ApplicationFilter, as_uuid, link_filter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, table_panel
from apps.tenants.models import Application
from automata_signal.errors import SignalError

LAUNCH, WRITE = "campaigns:launch", "campaigns:write"
COUNT_TIMEOUT_MS = 3_000
CRITERIA_HELP = gettext_lazy(
    "A JSON object: {} is everybody who can be reached; or conditions such as "
    '{"all": [{"field": "country", "op": "eq", "value": "KR"}, {"segment": "…"}]}.'
)
STATUS_COLOURS = {
    CampaignStatus.DRAFT.value: "default",
    CampaignStatus.SCHEDULED.value: "info",
    CampaignStatus.RUNNING.value: "primary",
    CampaignStatus.PAUSED.value: "warning",
    CampaignStatus.COMPLETED.value: "success",
    CampaignStatus.CANCELED.value: "warning",
    CampaignStatus.FAILED.value: "danger",
}


class TimingForm(forms.Form):
    local_time = forms.TimeField(
        label=gettext_lazy("At this time of their clock"),
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget({"placeholder": "10:00"}),
        input_formats=["%H:%M"],
    )
    at_active_hours = forms.BooleanField(
        label=gettext_lazy("When they are usually active"), required=False, widget=widgets.UnfoldBooleanWidget
    )


# --- Audiences in words --------------------------------------------------------------------------------------------


def in_words(application: Application, criteria: object) -> str:
    """The criteria in a sentence; what is wrong with them, if they cannot be read."""
    names = dict(Segment.objects.for_application(application).values_list("pk", "name")[:1_000])
    try:
        return describe(criteria, segment_name=lambda key: f"“{names.get(key, key)}”")
    except TargetingError as error:
        return f"{error.path}: {error.message}" if error.path else error.message


@contextmanager
def quick_statements() -> Iterator[None]:
    """A transaction whose statements end after `COUNT_TIMEOUT_MS`, by `OperationalError`: a page does not wait."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {COUNT_TIMEOUT_MS:d}")
        yield
        cursor.execute("SET LOCAL statement_timeout TO DEFAULT")


def reach(application: Application, criteria: object, channel_type: str) -> str:
    """How many can be reached now; a page does not wait for more than `COUNT_TIMEOUT_MS` to know it."""
    try:
        with quick_statements():
            count = audience_count(application=application, criteria=criteria, channel_type=channel_type)
    except OperationalError:
        return _("more than can be counted in a moment")
    except SignalError as error:
        return error.message
    return f"{count:,}"


# --- Segments ------------------------------------------------------------------------------------------------------


@admin.register(Segment)
class SegmentAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = "segments:read", "segments:write"
    list_display = ("name", "application", "description", "updated_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    fields = ("application", "name", "description", "criteria", "updated_at", "id")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else self.fields[:-2]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", "updated_at", "id") if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "criteria":
            field.help_text = CRITERIA_HELP
        return field

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Segment:
        return services.segment_create(**cleaned, by=str(request.user))

    def update(self, request: HttpRequest, row: Segment, changes: dict[str, Any]) -> Segment:
        return services.segment_update(segment=row, **changes, by=str(request.user))

    def remove(self, request: HttpRequest, row: Segment) -> None:
        services.segment_delete(segment=row, by=str(request.user))

    def panels(self, request: HttpRequest, row: Segment) -> list[Panel]:
        facts = [
            (_("who"), in_words(row.application, row.criteria)),
            (_("reachable by push now"), reach(row.application, row.criteria, ChannelType.PUSH)),
        ]
        return [Panel(_("Audience"), "admin/console/facts.html", {"facts": facts}, before=True)]


# --- Campaigns -----------------------------------------------------------------------------------------------------


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    targeting_criteria = JSONObjectField(
        label=gettext_lazy("Audience"), help_text=CRITERIA_HELP, widget=JSONTextarea(10)
    )

    class Meta:
        model = MessageCampaign
        fields = (
            "application",
            "name",
            "channel_type",
            "template",
            "title",
            "body",
            "data",
            "options",
            "variables",
            "targeting_criteria",
            "priority",
            "ttl_s",
            "messages_per_minute",
            "purpose",
            "category",
            "when_over_quota",
        )
        help_texts = {
            "template": gettext_lazy("A template, or title, body and data below; not both."),
            "variables": gettext_lazy("For the template; a user's own property comes first."),
            "options": gettext_lazy('The channel\'s own fields, such as {"badge": 1, "collapse_key": "spring"}.'),
            "ttl_s": gettext_lazy("Seconds; the application's unless told."),
            "messages_per_minute": gettext_lazy("As fast as it goes unless told."),
            "when_over_quota": gettext_lazy(
                "Whoever is beyond the quota or the credit is failed, and the reason said."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.initial["targeting_criteria"] = ""  # nobody sends to everybody by an oversight


class LocalTimeInput(widgets.UnfoldAdminTextInputWidget):  # type: ignore[misc]
    input_type = "datetime-local"


class ScheduleForm(forms.Form):
    at = forms.CharField(label=gettext_lazy("At"), max_length=64, widget=LocalTimeInput)
    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        required=False,
        max_length=64,
        widget=widgets.UnfoldAdminTextInputWidget({"placeholder": "Asia/Seoul"}),
        help_text=gettext_lazy("The application's unless told."),
    )


class RequeueForm(forms.Form):
    error_reason = forms.CharField(
        label=gettext_lazy("Only those of the reason"),
        required=False,
        max_length=100,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("All unless told. What was canceled, or may have arrived, goes only by its reason."),
    )


class ProbeForm(forms.Form):
    """Whom a test goes to."""

    external_ids = forms.CharField(
        label=gettext_lazy("External ids of users, one in a line"),
        required=False,
        max_length=10_000,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 4}),
    )
    subscription_ids = forms.CharField(
        label=gettext_lazy("Or ids of subscriptions, one in a line"),
        required=False,
        max_length=2_000,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 4}),
    )

    def clean_external_ids(self) -> list[str]:
        return _lines(self.cleaned_data["external_ids"])

    def clean_subscription_ids(self) -> list[UUID]:
        keys = [(line, as_uuid(line)) for line in _lines(self.cleaned_data["subscription_ids"])]
        if wrong := [line for line, key in keys if key is None]:
            raise forms.ValidationError(_("%(text)s is not an id.") % {"text": wrong[0][:60]})
        return [key for _line, key in keys if key is not None]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Figures:
    """A campaign's counters as a page shows them. Nothing but its row is read, so it costs the same at any size."""

    total: int
    successful: int
    failed: int
    received: int
    converted: int
    waiting: int
    percent: float
    rate: float | None
    """Messages per second since the launch, pauses included."""

    @classmethod
    def of(cls, campaign: MessageCampaign) -> Figures:
        settled = campaign.successful_count + campaign.failed_count
        seconds = 0.0
        if campaign.sent_at and campaign.completed_at:
            seconds = (campaign.completed_at - campaign.sent_at).total_seconds()
        percent = 100.0 * settled / campaign.total_recipients if campaign.total_recipients else 0.0
        if campaign.status == CampaignStatus.COMPLETED:
            percent = 100.0
        elif campaign.fanout_done_at is None:
            percent = min(percent, 99.0)
        return cls(
            total=campaign.total_recipients,
            successful=campaign.successful_count,
            failed=campaign.failed_count,
            received=campaign.received_count,
            converted=campaign.converted_count,
            waiting=max(0, campaign.total_recipients - settled),
            percent=round(min(percent, 100.0), 1),
            rate=round(settled / seconds, 1) if seconds else None,
        )

    @property
    def cards(self) -> list[dict[str, Any]]:
        settled = self.successful + self.failed
        return [
            {"label": _("recipients"), "value": f"{self.total:,}", "share": ""},
            {"label": _("waiting"), "value": f"{self.waiting:,}", "share": ""},
            {"label": _("successful"), "value": f"{self.successful:,}", "share": _share(self.successful, settled)},
            {"label": _("received"), "value": f"{self.received:,}", "share": _share(self.received, self.successful)},
            {"label": _("converted"), "value": f"{self.converted:,}", "share": _share(self.converted, self.received)},
            {"label": _("failed"), "value": f"{self.failed:,}", "share": _share(self.failed, settled)},
        ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _may(step: str) -> Any:
    return lambda campaign: can_proceed(getattr(campaign, step))


@admin.register(MessageCampaign)
class MessageCampaignAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = "campaigns:read", WRITE
    form = CampaignForm
    autocomplete_fields = ("template",)
    list_display = ("name", "application", "state", "progress", "recipients", "failures", "scheduled_at", "sent_at")
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
    row_actions = ("launch", "schedule", "unschedule", "timing", "pause", "resume", "requeue_failed", "test", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "template")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            return self.fieldsets
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

    # --- The list ------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: MessageCampaign) -> SafeString:
        return badge(STATUS_COLOURS[str(row.status)], CampaignStatus(row.status).label)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, row: MessageCampaign) -> str:
        return f"{Figures.of(row).percent:g} %" if row.sent_at else "–"

    @admin.display(description=gettext_lazy("recipients"))
    def recipients(self, row: MessageCampaign) -> str:
        return f"{row.total_recipients:,}"

    @admin.display(description=gettext_lazy("failed"))
    def failures(self, row: MessageCampaign) -> str:
        return f"{row.failed_count:,}"

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
        explain=gettext_lazy("Sending starts now. Content and audience stay as they are at this moment."),
        facts="launch_facts",
        is_offered=_may("launch"),
    )
    def launch(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        services.campaign_launch(campaign=row, by=str(request.user))
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
        at = moments.parsed(cleaned["at"])
        row = services.campaign_schedule(
            campaign=row, at=at, time_zone=cleaned["time_zone"].strip(), by=str(request.user)
        )
        return _("The campaign is scheduled for %(when)s.") % {"when": f"{row.scheduled_at:%Y-%m-%d %H:%M} UTC"}

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
        return format_html("{} {}", text % {"count": f"{order.requeued:,}"}, link)

    def requeue_facts(self, request: HttpRequest, row: MessageCampaign) -> list[tuple[str, Any]]:
        """How many it would be, all told and by reason."""
        try:
            with quick_statements():
                found = dead_letters(application=row.application, which=FailedFilter(campaign_id=row.pk))
        except OperationalError:
            return [(_("messages"), _("more than can be counted in a moment"))]
        left = [(f.error_reason, f.messages - f.requeued) for f in found if f.messages > f.requeued]
        usual = sum(count for reason, count in left if reason not in (*ONLY_BY_NAME, TIMED_OUT))
        by_reason = [(reason or "–", f"{count:,}") for reason, count in left[:20]]
        return [(_("messages, at most"), f"{usual:,}"), *by_reason]

    @row_action(
        gettext_lazy("Test"),
        scope=WRITE,
        icon="send_to_mobile",
        form=ProbeForm,
        explain=gettext_lazy("Sends what the campaign would send to up to 20 recipients, at once. Its figures stay."),
    )
    def test(self, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        result = services.campaign_test(campaign=row, **cleaned)
        text = _("%(count)d test messages are on their way.") % {"count": len(result.messages)}
        skipped = ", ".join(f"{skipped.value} ({skipped.reason})" for skipped in result.skipped)
        return f"{text} {_('Skipped')}: {skipped}" if skipped else text

    # --- The page ------------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: MessageCampaign) -> list[Panel]:
        facts = [(_("who"), in_words(row.application, row.targeting_criteria))]
        if row.status in (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED):
            facts.append((_("reachable now"), reach(row.application, row.targeting_criteria, row.channel_type)))
            return [Panel(_("Audience"), "admin/console/facts.html", {"facts": facts}, before=True)]
        failures = CampaignFailure.objects.filter(campaign=row, count__gt=0).order_by("-count", "reason")[:20]
        failed = list_address("messaging.Message", campaign=row.pk, status="failed")
        rows = [(f.reason, f"{f.count:,}", _share(f.count, row.failed_count)) for f in failures]
        headers = (_("reason"), _("messages"), _("of the failed"))
        figures = statistics_panel(request, row.application, since=row.sent_at or row.created_at, campaign_id=row.pk)
        return [
            Panel(_("Progress"), "admin/console/progress.html", self._progress_context(row), before=True),
            table_panel(
                _("Failures by reason"), headers, rows, more=failed, more_label=_("Failed messages"), before=True
            ),
            Panel(_("Audience"), "admin/console/facts.html", {"facts": facts}, before=True),
            *([figures] if figures else []),
        ]

    def _progress_context(self, row: MessageCampaign) -> dict[str, Any]:
        return {
            "campaign": row,
            "figures": Figures.of(row),
            "colour": STATUS_COLOURS[row.status],
            "label": CampaignStatus(row.status).label,
            "address": reverse("admin:campaigns_messagecampaign_progress", args=[row.pk]),
            "is_live": row.status in (CampaignStatus.RUNNING, CampaignStatus.PAUSED),
            "messages": list_address("messaging.Message", campaign=row.pk),
        }

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.progress_view)
        return [
            path("<uuid:object_id>/progress/", view, name="campaigns_messagecampaign_progress"),
            *super().get_urls(),
        ]

    def progress_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The progress alone, for a page that asks every few seconds."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return TemplateResponse(request, "admin/console/progress.html", {"panel": self._progress_context(row)})


def _service_fields(cleaned: dict[str, Any]) -> dict[str, Any]:
    """As the services name them."""
    fields = dict(cleaned)
    if "template" in fields:
        template = fields.pop("template")
        fields["template_id"] = template.pk if template else None
    return fields


@admin.register(CampaignFailure)
class CampaignFailureAdmin(ReadOnlyAdmin):
    read_scope = "campaigns:read"
    application_path = "campaign__application"
    search_help_text = gettext_lazy("Id of a campaign, or a whole reason")
    list_display = ("campaign_name", "reason", "count")
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


offer(MessageCampaign, "campaigns", {"status__exact": "status", "channel_type__exact": "channel_type"})
