"""Sending a test: to the test group or to named users, and what became of it while one looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apps.campaigns import services
from apps.campaigns.console.flow import Flow, flow_part
from apps.campaigns.models import MessageCampaign, Variant
from apps.campaigns.services import TEST_RECIPIENTS_MAX
from apps.messaging.models import Message, MessageStatus
from apps.subscriptions.models import AppUser
from apps.subscriptions.selectors import test_users
from apps.tenants.audit.services import audit
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.panels import badge
from automata_signal.errors import SignalError

STATE_COLOURS = {
    MessageStatus.PENDING.value: "default",
    MessageStatus.SUCCESSFUL.value: "info",
    MessageStatus.RECEIVED.value: "success",
    MessageStatus.CONVERTED.value: "success",
    MessageStatus.ERRORED.value: "warning",
    MessageStatus.FAILED.value: "danger",
}
LIVE = frozenset({MessageStatus.PENDING.value, MessageStatus.ERRORED.value})
SKIPPED = {
    "not_found": gettext_lazy("there is no such user"),
    "not_reachable": gettext_lazy("cannot be reached on this channel"),
}


class ProbeForm(forms.Form):
    testers = forms.MultipleChoiceField(
        label=gettext_lazy("Test group"), required=False, widget=forms.CheckboxSelectMultiple
    )
    external_ids = forms.CharField(
        label=gettext_lazy("Or external ids of users, one in a line"),
        required=False,
        max_length=10_000,
        widget=forms.Textarea({"class": "as-input", "rows": 2}),
    )

    def __init__(self, *args: Any, campaign: MessageCampaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = "probe_%s"
        users: Sequence[AppUser] = list(test_users(campaign.application)[:TEST_RECIPIENTS_MAX])
        self.fields["testers"].choices = [(user.external_id, user.external_id) for user in users]  # type: ignore[attr-defined]
        self.has_testers = bool(users)
        if campaign.has_variants:
            letters = Variant.objects.filter(experiment__campaign_id=campaign.pk).order_by("letter")
            self.fields["variant"] = forms.ChoiceField(
                label=_("Variant"),
                choices=[(variant.letter, str(variant)) for variant in letters],
                widget=forms.Select({"class": "as-input"}),
            )

    def recipients(self) -> list[str]:
        typed = [line.strip() for line in self.cleaned_data["external_ids"].splitlines() if line.strip()]
        return list(dict.fromkeys([*self.cleaned_data["testers"], *typed]))


def probe_context(flow: Flow) -> dict[str, Any]:
    """For a page that offers it; nothing for who may not."""
    if not flow.may_write:
        return {}
    return {"probe": ProbeForm(campaign=flow.campaign), "probe_address": flow.part_address("test-send")}


@flow_part("test-send")
def test_send(flow: Flow) -> HttpResponse:
    """Send, and show what is known; by GET the form alone."""
    if not flow.may_write:
        raise PermissionDenied
    form = ProbeForm(flow.request.POST if flow.request.method == "POST" else None, campaign=flow.campaign)
    context: dict[str, Any] = {"probe": form, "probe_address": flow.part_address("test-send")}
    if flow.request.method == "POST" and form.is_valid():
        try:
            result = services.campaign_test(
                campaign=flow.campaign,
                external_ids=form.recipients(),
                variant=form.cleaned_data.get("variant", ""),
            )
        except SignalError as error:
            return flow.part("admin/campaigns/parts/probe.html", {**context, "problem": error.message})
        audit(
            "campaign.test",
            request=flow.request,
            application_id=flow.campaign.application_id,
            row=flow.campaign,
            details={"messages": len(result.messages), "skipped": len(result.skipped)},
        )
        names = {message.id: message.external_id or str(message.subscription_id) for message in result.messages}
        context |= _states(flow, names)
        context["skipped"] = [(one.value, SKIPPED.get(one.reason, one.reason)) for one in result.skipped]
    return flow.part("admin/campaigns/parts/probe.html", context)


@flow_part("test-state")
def test_state(flow: Flow) -> HttpResponse:
    """What became of the test messages that the address names, of this application."""
    if not flow.may_write:
        raise PermissionDenied
    return flow.part("admin/campaigns/parts/probe_states.html", _states(flow, _named(flow.request)))


def _named(request: HttpRequest) -> dict[UUID, str]:
    """`?m=<id>~<who>`, at most as many as a test has."""
    found = {}
    for text in request.GET.getlist("m")[:100]:
        key, _sep, who = text.partition("~")
        if (message_id := as_uuid(key)) is not None:
            found[message_id] = who[:255]
    return found


def _states(flow: Flow, names: dict[UUID, str]) -> dict[str, Any]:
    """By the primary key."""
    rows = Message.objects.for_application(flow.campaign.application).filter(pk__in=list(names))
    found = list(rows.only("id", "status", "error_reason").order_by("pk"))
    labels = dict(MessageStatus.choices)
    states = [
        {
            "who": names[row.pk],
            "badge": badge(STATE_COLOURS[row.status], labels[row.status]),
            "reason": row.error_reason or "",
            "id": row.pk,
        }
        for row in found
    ]
    query = urlencode([("m", f"{key}~{who}") for key, who in names.items()])
    return {
        "states": states,
        "is_live": any(row.status in LIVE for row in found) or len(found) < len(names),
        "states_address": f"{flow.part_address('test-state')}?{query}",
        "may_read": flow.may("messages:read"),
        "sent_text": ngettext(
            "%(count)d test message is on its way.", "%(count)d test messages are on their way.", len(names)
        )
        % {"count": len(names)},
    }
