"""The steps of what it is, who gets it and when. What it says is `content`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns import services
from apps.campaigns.console.flow import DONE, MISSING, OPEN, WARNING, Flow, StepState, flow_part, flow_step
from apps.campaigns.console.schedules import Planned, schedule_in_words, schedule_words
from apps.campaigns.console.step_forms import (
    AudienceForm,
    BasicsForm,
    ScheduleForm,
    zone_names,
)
from apps.campaigns.console.words import in_words
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.tenants.console.forms import add_refusal
from automata_signal.errors import SignalError

ALIASES = {"template_id": "template", "targeting_criteria": "criteria", "at": "planned_at"}


# --- What it is ----------------------------------------------------------------------------------------------------


@flow_step("basics", title=gettext_lazy("Name and channel"), position=0, icon="edit", is_in_bar=False)
def basics(flow: Flow) -> HttpResponse:
    campaign = flow.campaign
    form = BasicsForm(flow.request.POST if flow.is_post else None, initial=BasicsForm.initial_of(campaign))
    if flow.is_post and form.is_valid():
        before = BasicsForm.initial_of(campaign)
        answer = _written(flow, "basics", form, form.cleaned_data, before)
        if answer is not None:
            return answer
    return flow.page("basics", "admin/campaigns/basics.html", {"form": form})


def _written(
    flow: Flow,
    name: str,
    form: Any,
    fields: Mapping[str, Any],
    before: Mapping[str, Any],
    *,
    plan: Callable[[], MessageCampaign] | None = None,
) -> HttpResponse | None:
    """Call the service with what is new, after `plan`, both or neither; the next page, or None with the refusal on the
    form."""
    changed = {field: value for field, value in fields.items() if before.get(field) != value}
    campaign = flow.campaign
    try:
        with transaction.atomic():
            if plan is not None:
                campaign = plan()
            if changed:
                campaign = services.campaign_update(campaign=campaign, by=flow.by, **changed)
    except SignalError as error:
        add_refusal(form, error, ALIASES)
        return None
    flow.campaign = campaign
    flow.forget()
    return flow.saved(name, before, {**changed, **(_start_of(campaign) if plan is not None else {})})


def _start_of(campaign: MessageCampaign) -> dict[str, Any]:
    """When it starts, as the audit log tells it."""
    return {"scheduled_at": campaign.scheduled_at, "scheduled_time_zone": campaign.scheduled_time_zone}


# --- Who -----------------------------------------------------------------------------------------------------------


def audience_state(flow: Flow) -> StepState:
    if not flow.campaign.is_audience_chosen:
        return StepState(MISSING, _("Nobody is chosen yet"))
    if not flow.campaign.targeting_criteria:
        return StepState(WARNING, _("Everybody"))
    return StepState(DONE, in_words(flow.campaign.application, flow.campaign.targeting_criteria))


@flow_step("audience", title=gettext_lazy("Audience"), position=10, icon="group", state=audience_state)
def audience(flow: Flow) -> HttpResponse:
    campaign = flow.campaign
    given = flow.request.POST if flow.is_post else None
    form = AudienceForm(given, campaign=campaign, initial=AudienceForm.initial_of(campaign))
    if flow.is_post and form.is_valid():
        before = {"targeting_criteria": campaign.targeting_criteria if campaign.is_audience_chosen else None}
        answer = _written(flow, "audience", form, {"targeting_criteria": form.criteria}, before)
        if answer is not None:
            return answer
    return flow.page("audience", "admin/campaigns/audience.html", {"form": form})


# --- When ----------------------------------------------------------------------------------------------------------


def schedule_state(flow: Flow) -> StepState:
    campaign = flow.campaign
    note = schedule_in_words(campaign)
    is_planned = campaign.status == CampaignStatus.DRAFT and campaign.scheduled_at is not None
    if is_planned and campaign.scheduled_at <= timezone.now():  # type: ignore[operator]
        return StepState(MISSING, _("The time is over: choose another"))
    return StepState(DONE if note else OPEN, note)


@flow_step("schedule", title=gettext_lazy("Schedule"), position=30, icon="schedule", state=schedule_state)
def schedule(flow: Flow) -> HttpResponse:
    campaign = flow.campaign
    given = flow.request.POST if flow.is_post else None
    form = ScheduleForm(given, campaign=campaign, initial=ScheduleForm.initial_of(campaign))
    if flow.is_post and form.is_valid():
        before = {**ScheduleForm.fields_of(campaign), **_start_of(campaign)}
        fields = form.service_fields()
        answer = _written(flow, "schedule", form, fields, before, plan=lambda: form.plan(by=flow.by))
        if answer is not None:
            return answer
    context = {
        "form": form,
        "zones": zone_names(),
        "words_address": flow.part_address("schedule-words"),
        **schedule_words(campaign, Planned.of(campaign)),
    }
    return flow.page("schedule", "admin/campaigns/schedule.html", context)


@flow_part("schedule-words")
def schedule_words_part(flow: Flow) -> HttpResponse:
    """What the form says now, in words."""
    campaign = flow.campaign
    planned, problem = Planned.of(campaign), ""
    if flow.request.method == "POST":
        form = ScheduleForm(flow.request.POST, campaign=campaign)
        try:
            planned = form.as_planned() if form.is_valid() else planned
        except SignalError as error:
            problem = error.message
        problem = problem or " ".join(str(error) for errors in form.errors.values() for error in errors)
    return flow.part(
        "admin/campaigns/parts/schedule_words.html", {"problem": problem, **schedule_words(campaign, planned)}
    )
