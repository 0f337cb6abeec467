"""The buttons of a campaign: each calls one service.

Which are offered follows from the campaign's state; whoever may, and what a POST in another state meets, is the
service's (`apps.tenants.console.actions`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_fsm import can_proceed

from apps.campaigns import moments, services
from apps.campaigns.approvals.digest import approval_digest
from apps.campaigns.console.flow import operator_of
from apps.campaigns.console.forms import (
    ApproveForm,
    AskForm,
    ProbeForm,
    RejectForm,
    RequeueForm,
    ScheduleForm,
    TimingForm,
)
from apps.campaigns.console.launch import (
    LaunchForm,
    asks_for_approval,
    launch_facts,
    recipients_now,
    refuse_unconfirmed,
)
from apps.campaigns.console.schedules import local_text
from apps.campaigns.console.words import APPROVE, LAUNCH, WRITE, quick_statements
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services.lifecycle import REQUEUED_IN
from apps.campaigns.services.rows import EDITABLE
from apps.campaigns.services.timing import timing_of
from apps.messaging.requeue import ONLY_BY_NAME, FailedFilter, dead_letters
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedHistoryAdmin
from apps.tenants.console.formats import number
from apps.tenants.console.panels import admin_link
from automata_signal.errors import Conflict, SignalError

PRESSED_TWICE = timedelta(minutes=1)
"""A launch of a campaign that was launched so short a time ago is the same button again."""


def _may(step: str) -> Any:
    return lambda campaign: can_proceed(getattr(campaign, step))


def _step(name: str, label: Any, said: Any, **how: Any) -> Any:
    """The button of a step of the campaign's life that needs nothing but to be pressed: the service `campaign_<name>`,
    and what is `said` when it is done."""

    def step(self: Any, request: HttpRequest, row: MessageCampaign, cleaned: dict[str, Any]) -> str:
        getattr(services, f"campaign_{name}")(campaign=row, by=str(request.user))
        return str(said)

    step.__name__ = name
    return row_action(label, scope=LAUNCH, is_offered=_may(name), **how)(step)


class CampaignButtons(ScopedHistoryAdmin):
    """What the admin of campaigns has beside its pages."""

    row_actions = (
        *("launch", "schedule", "unschedule", "timing", "pause", "resume", "requeue_failed", "test", "cancel"),
        *("duplicate", "ask_approval", "approve", "reject"),
    )

    def action_view(self, request: HttpRequest, object_id: UUID, name: str) -> HttpResponseBase:
        """What is approved is what the page has shown, whatever was changed and asked for meanwhile."""
        answer = super().action_view(request, object_id, name)
        if name == "approve" and request.method != "POST" and isinstance(answer, TemplateResponse):
            context: Any = answer.context_data
            try:
                context["form"].initial["digest"] = approval_digest(context["row"])
            except SignalError as error:
                messages.error(request, error.message)
        return answer

    # --- Its life --------------------------------------------------------------------------------------------------

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
        return [*launch_facts(row, recipients_now(row))]

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

    unschedule = _step(
        "unschedule",
        gettext_lazy("Unschedule"),
        gettext_lazy("The campaign is a draft again."),
        icon="event_busy",
        is_direct=True,
    )
    pause = _step(
        "pause",
        gettext_lazy("Pause"),
        gettext_lazy("The campaign is paused: nothing more leaves."),
        icon="pause",
        is_direct=True,
    )
    resume = _step(
        "resume",
        gettext_lazy("Resume"),
        gettext_lazy("The campaign goes on."),
        icon="play_arrow",
        variant="primary",
        is_direct=True,
    )
    cancel = _step(
        "cancel",
        gettext_lazy("Cancel"),
        gettext_lazy("The campaign is canceled."),
        icon="cancel",
        variant="danger",
        explain=gettext_lazy("For good. What has not left yet is failed as canceled."),
    )

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
        return HttpResponseRedirect(reverse("admin:campaigns_messagecampaign_step", args=[row.pk, "launch"]))


def _was_just_launched(campaign: MessageCampaign) -> bool:
    """Whether a button was pressed twice: the first time was taken."""
    row = MessageCampaign.objects.get(pk=campaign.pk)
    is_new = row.sent_at is not None and timezone.now() - row.sent_at < PRESSED_TWICE
    return is_new and row.status == CampaignStatus.RUNNING
