"""The last step: asking a second person where the application wants it, and the launch."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import OperationalError
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns.approvals.digest import approval_digest, approval_holds
from apps.campaigns.approvals.models import CURRENT, ApprovalState
from apps.campaigns.approvals.selectors import approvals_of, approvers_of, is_author, rule_of
from apps.campaigns.console.flow import DONE, MISSING, OPEN, WARNING, Flow, StepState, flow_step
from apps.campaigns.console.schedules import schedule_in_words
from apps.campaigns.console.words import content_in_words, in_words, quick_statements
from apps.campaigns.experiments.planning import experiment_of, variants_of
from apps.campaigns.experiments.words import plan_in_words
from apps.campaigns.forecast import recipients_of
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services.approval import approval_is_needed
from apps.campaigns.services.rows import EDITABLE
from apps.tenants.console import formats
from automata_signal.errors import SignalError, ValidationFailed

CONFIRMED_ABOVE = 10_000
"""Recipients from which on somebody has to type how many they are."""
NEAR = 0.1
"""A typed number may differ by so much: people come and go while somebody types."""


class LaunchForm(forms.Form):
    """Of a large audience, the number of its recipients typed; the campaign's name if they could not be counted."""

    confirmation = forms.CharField(
        label=gettext_lazy("Type the number of recipients"),
        required=False,
        max_length=200,
        widget=forms.TextInput({"class": "as-input", "autocomplete": "off", "inputmode": "numeric"}),
    )


def recipients_now(campaign: MessageCampaign) -> int | None:
    """Who would get it, without those who do not want it; None if that takes longer than a page waits."""
    try:
        with quick_statements():
            return recipients_of(campaign).total
    except (OperationalError, SignalError):
        return None


def expected_confirmation(campaign: MessageCampaign, count: int | None) -> str:
    """What has to be typed for an audience of so many, None if they could not be counted; empty for a small one."""
    if count is None:
        return campaign.name
    return str(count) if count > CONFIRMED_ABOVE else ""


def refuse_unconfirmed(campaign: MessageCampaign, typed: str) -> None:
    """Raise `ValidationFailed` (`confirmation`) unless what has to be typed was typed."""
    expected = expected_confirmation(campaign, recipients_now(campaign))
    if not expected:
        return
    typed = typed.strip()
    if expected == campaign.name:
        if typed != expected:
            raise ValidationFailed.of(
                "confirmation", _("Type the campaign's name: its recipients are too many to be counted in a moment.")
            )
        return
    digits = "".join(character for character in typed if character.isdigit())
    if not digits or abs(int(digits) - int(expected)) > NEAR * int(expected):
        text = _("The audience is large: type the number of recipients, %(count)s.")
        raise ValidationFailed.of("confirmation", text % {"count": formats.number(int(expected))})


def asks_for_approval(campaign: MessageCampaign) -> bool:
    """Whether its application wants a second person, and it is not launched yet."""
    return campaign.status in EDITABLE and rule_of(campaign.application).is_required


def launch_state(flow: Flow) -> StepState:
    campaign = flow.campaign
    if campaign.status == CampaignStatus.SCHEDULED:
        return StepState(DONE, _("Scheduled"))
    approval = approvals_of(campaign).first() if rule_of(campaign.application).is_required else None
    if approval is None:
        return StepState(OPEN, "")
    if approval.state in CURRENT and not approval_holds(approval, campaign):
        return StepState(MISSING, _("Something was changed"))
    if approval.state == ApprovalState.APPROVED:
        return StepState(DONE, approval.get_state_display())
    return StepState(WARNING if approval.state == ApprovalState.ASKED else MISSING, approval.get_state_display())


def approval_context(flow: Flow) -> dict[str, Any]:
    """What the page says of the approval; nothing where the application asks for none."""
    campaign = flow.campaign
    if not rule_of(campaign.application).is_required:
        return {}
    history = list(approvals_of(campaign)[:10])
    last = history[0] if history else None
    try:
        digest = approval_digest(campaign)
    except SignalError:
        digest = ""
    try:
        with quick_statements():
            is_needed = approval_is_needed(campaign)
    except (OperationalError, SignalError):  # the count took too long: it is not a small audience
        is_needed = True
    holds = last is not None and last.state == ApprovalState.APPROVED and last.digest == digest
    is_asked = last is not None and last.state == ApprovalState.ASKED and last.digest == digest
    is_own = is_author(campaign, flow.request.user, last)  # type: ignore[arg-type]
    return {
        "is_needed": is_needed,
        "above": rule_of(campaign.application).above,
        "last": last,
        "history": history,
        "digest": digest,
        "holds": holds,
        "is_asked": is_asked,
        "is_outdated": last is not None and last.digest != digest and last.state in CURRENT,
        "is_own": is_own,
        "may_decide": flow.may_approve and is_asked and not is_own,
        "may_ask": flow.may_write and not holds and not is_asked,
        "approvers": [str(operator.name or operator.email) for operator in approvers_of(campaign.application)[:5]],
    }


def launch_facts(campaign: MessageCampaign, count: int | None) -> list[tuple[str, str]]:
    """What is launched, and what is asked for or approved, to `count` recipients."""
    facts = [
        (
            _("Recipients, as of now"),
            formats.number(count) if count is not None else _("too many to count in a moment"),
        ),
        (
            _("Audience"),
            in_words(campaign.application, campaign.targeting_criteria) if campaign.is_audience_chosen else "–",
        ),
        (_("Channel"), str(campaign.get_channel_type_display())),
        (_("Content"), content_in_words(campaign)),
        (_("Start"), schedule_in_words(campaign)),
    ]
    if (plan := experiment_of(campaign)) is not None:
        facts.insert(4, (_("A/B test"), plan_in_words(plan, variants_of(plan))))
    return facts


@flow_step("launch", title=gettext_lazy("Launch"), position=50, icon="rocket_launch", state=launch_state)
def launch(flow: Flow) -> HttpResponse:
    campaign = flow.campaign
    approval = approval_context(flow)
    is_ready = campaign.is_audience_chosen and flow.content_problem is None
    count = recipients_now(campaign) if is_ready else 0
    expected = expected_confirmation(campaign, count)
    facts = launch_facts(campaign, count)
    waits = bool(approval) and approval["is_needed"] and not approval["holds"]
    context = {
        "facts": facts,
        "form": LaunchForm(),
        "expected": expected,
        "is_name": expected == campaign.name,
        "expected_text": formats.number(int(expected)) if expected and expected != campaign.name else expected,
        "approval": approval,
        "is_ready": is_ready,
        "waits_for_approval": waits,
        "may_launch_now": flow.may_launch and is_ready and not waits,
        "planned": campaign.scheduled_at,
        "planned_text": f"{campaign.scheduled_at.isoformat()}" if campaign.scheduled_at else "",
        **{f"{name}_address": flow.admin.action_address(campaign, name) for name in _ACTIONS},
    }
    return flow.page("launch", "admin/campaigns/launch.html", context)


_ACTIONS = ("launch", "schedule", "unschedule", "ask_approval", "approve", "reject")
