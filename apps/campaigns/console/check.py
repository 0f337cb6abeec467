"""The check: everything that would refuse the launch, or surprise whoever launches.

What has to be counted comes in parts of its own (`check-…`), each within `COUNT_TIMEOUT_MS`, so that the page is there
at once on any number of rows. Without a script a link counts them all.
"""

from __future__ import annotations

from typing import Any

from django.db import OperationalError
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns.console.checks import BLOCKING, COUNTED, WARNING, CheckLine, check_lines, worst
from apps.campaigns.console.flow import DONE, MISSING, OPEN, Flow, StepState, flow_part, flow_step
from apps.campaigns.console.probe import probe_context
from apps.messaging.console.editor import editor_media
from apps.messaging.console.previews import drawn, made_up
from automata_signal.errors import SignalError


def check_state(flow: Flow) -> StepState:
    campaign = flow.campaign
    if not campaign.is_audience_chosen or flow.content_problem is not None:
        return StepState(MISSING, _("Something is missing"))
    return StepState(OPEN if campaign.status == "draft" else DONE, "")


@flow_step("check", title=gettext_lazy("Check"), position=40, icon="fact_check", state=check_state)
def check(flow: Flow) -> HttpResponse:
    lines = check_lines(flow)
    is_countable = flow.campaign.is_audience_chosen
    is_whole = "count" in flow.request.GET
    parts: list[dict[str, Any]] = []
    if is_countable:
        for name in COUNTED:
            counted = _counted(flow, name) if is_whole else []
            lines += counted
            parts.append({"name": name, "address": flow.part_address(f"check-{name}")})
    context = {
        "lines": [line for line in lines if line.level in (BLOCKING, WARNING)]
        + [line for line in lines if line.level not in (BLOCKING, WARNING)],
        "worst": worst(lines),
        "parts": [] if is_whole else parts,
        **_arrives(flow),
        **probe_context(flow),
    }
    return flow.page("check", "admin/campaigns/check.html", context)


def _arrives(flow: Flow) -> dict[str, Any]:
    """What a recipient gets, with all that is added on the way (such as the mark of advertising), for somebody made
    up."""
    content = flow.content
    if isinstance(content, SignalError):
        return {}
    try:
        names = sorted(content.compiled().variables) if content.is_personalised else []
        shown = content.render(made_up(names))
    except (ValueError, SignalError):
        return {}
    channel = flow.campaign.channel_type
    return {"arrives": drawn(flow.campaign.application, channel, shown), "editor_media": editor_media}


def _counted(flow: Flow, name: str) -> list[CheckLine]:
    try:
        return list(COUNTED[name](flow))
    except OperationalError:
        text = _("It is more than can be counted in a moment: the launch counts for itself.")
        return [CheckLine("note", _("Not counted"), text)]
    except SignalError as error:
        return [CheckLine(BLOCKING, _("Audience"), error.message, "audience")]


def _part(name: str) -> None:
    @flow_part(f"check-{name}")
    def part(flow: Flow) -> HttpResponse:
        lines = _counted(flow, name) if flow.campaign.is_audience_chosen else []
        return flow.part("admin/campaigns/parts/check_lines.html", {"lines": lines})


for _name in COUNTED:
    _part(_name)
