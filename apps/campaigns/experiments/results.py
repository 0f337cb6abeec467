"""The result of a test on its campaign's page: figures by variant, what they say, and the choice of the winner. And on
the page of a message, which variant it is."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from apps.analytics.charts import interval_bar
from apps.campaigns.console.flow import Flow, flow_part
from apps.campaigns.console.results import result_section
from apps.campaigns.console.words import LAUNCH
from apps.campaigns.experiments.models import LETTERS, VariantTally
from apps.campaigns.experiments.running import WINNER_IN, winner_choose
from apps.campaigns.experiments.selectors import Activity, Result, VariantResult, experiment_result
from apps.campaigns.experiments.statistics import Interval
from apps.campaigns.experiments.step import COLOURS
from apps.campaigns.experiments.words import (
    confidence,
    decision_in_words,
    metric_name,
    peeking,
    plan_in_words,
    verdict_in_words,
)
from apps.campaigns.models import CampaignStatus
from apps.messaging.models import Message
from apps.tenants.audit.services import audit
from apps.tenants.console import formats
from apps.tenants.console.access import grants_of
from apps.tenants.console.panels import Panel, admin_link
from automata_signal.errors import SignalError

LIVE = (CampaignStatus.RUNNING, CampaignStatus.PAUSED)


@result_section(15)
def experiment(flow: Flow) -> Panel | None:
    result = experiment_result(flow.campaign)
    if result is None:
        return None
    return Panel(_("A/B test"), "admin/campaigns/parts/experiment.html", _context(flow, result) | _choice(flow, result))


@flow_part("experiment")
def experiment_part(flow: Flow) -> HttpResponse:
    """The figures alone, for a page that asks every few seconds."""
    result = experiment_result(flow.campaign)
    if result is None:
        raise Http404
    return flow.part("admin/campaigns/parts/experiment_figures.html", {"panel": _context(flow, result)})


@flow_part("winner")
def winner(flow: Flow) -> HttpResponse:
    """Choose it; by POST only."""
    if not flow.may(LAUNCH):
        raise PermissionDenied
    if flow.request.method == "POST":
        letter = flow.request.POST.get("variant", "")
        try:
            winner_choose(campaign=flow.campaign, letter=letter, decided_by=flow.by, by=flow.by)
        except SignalError as error:
            messages.error(flow.request, error.message)
        else:
            audit(
                "campaign.winner",
                request=flow.request,
                application_id=flow.campaign.application_id,
                row=flow.campaign,
                details={"variant": letter},
            )
            messages.success(flow.request, _("%(letter)s is the winner.") % {"letter": letter})
    return HttpResponseRedirect(flow.admin.address_of(flow.campaign.pk))


def _context(flow: Flow, result: Result) -> dict[str, Any]:
    campaign, plan = flow.campaign, result.experiment
    top = max([row.interval.high for row in result.variants if row.counted.of] or [1.0])
    awaits = campaign.awaits_winner and campaign.status in LIVE
    return {
        "rows": [_row(result, row, top) for row in result.variants],
        "metric": metric_name(plan.metric),
        "verdict": verdict_in_words(result),
        "is_enough": result.is_enough,
        "decision": decision_in_words(result),
        "awaits": awaits,
        "decide_at": plan.decide_at,
        "held_out": formats.number(plan.held_out) if plan.holdout_percent else "",
        "has_rest": any(row.rest for row in result.variants),
        "activity": _activities(result),
        "measured_at": plan.measured_at,
        "plan": plan_in_words(plan, [row.variant for row in result.variants]),
        "peeking": peeking(),
        "is_live": campaign.status in LIVE,
        "address": flow.part_address("experiment"),
    }


def _row(result: Result, row: VariantResult, top: float) -> dict[str, Any]:
    figures, letter = row.figures, row.variant.letter
    colour = COLOURS[LETTERS.index(letter)]
    share = formats.share(row.counted.hits, row.counted.of)
    between = {"low": formats.percent(row.interval.low), "high": formats.percent(row.interval.high)}
    interval = _("%(low)s to %(high)s") % between if row.counted.of else ""
    return {
        "letter": letter,
        "name": row.variant.name,
        "colour": colour,
        "is_winner": row.variant.pk == result.experiment.winner_id,
        "is_control": letter == LETTERS[0],
        "figures": [
            formats.number(value)
            for value in (figures.total, figures.successful, figures.failed, figures.received, figures.converted)
        ],
        "share": share,
        "interval": interval,
        "bar": interval_bar(
            f"{letter}: {share}, {interval}", row.counted.share or 0.0, *row.interval, top=top, colour=colour
        )
        if row.counted.of
        else "",
        "difference": _points(row.difference),
        "difference_interval": _between(row.difference_interval) if row.difference is not None else "",
        "best": confidence(row.best) if result.is_enough else "–",
        "rest": [
            formats.number(value)
            for value in (row.rest.total, row.rest.successful, row.rest.failed, row.rest.received, row.rest.converted)
        ]
        if row.rest
        else [],
    }


def _points(difference: float | None) -> str:
    """A difference of two rates."""
    return "" if difference is None else _("%(points)s points") % {"points": _signed(difference)}


def _between(interval: Interval | None) -> str:
    """Where the true difference lies."""
    if interval is None:
        return ""
    facts = {name: _signed(value) for name, value in zip(("low", "high"), interval, strict=True)}
    return _("%(low)s to %(high)s") % facts


def _signed(difference: float) -> str:
    """In points, with its sign; what rounds to nothing has none."""
    points = round(100 * difference, 1)
    return f"{points:+.1f}" if points else "0.0"


def _activities(result: Result) -> list[dict[str, str]]:
    """Who has used the app since, also of those who got nothing."""
    if result.held_out is None:
        return []
    rows: list[tuple[str, Activity | None]] = [(row.variant.letter, row.activity) for row in result.variants]
    return [
        {
            "who": who,
            "people": formats.number(activity.counted.of),
            "share": formats.share(activity.counted.hits, activity.counted.of),
            "difference": _points(activity.difference),
            "difference_interval": _between(activity.difference_interval),
        }
        for who, activity in [*rows, (_("Nothing"), result.held_out)]
        if activity is not None
    ]


def _choice(flow: Flow, result: Result) -> dict[str, Any]:
    """The buttons, for who may, while there is something to choose."""
    plan, campaign = result.experiment, flow.campaign
    if plan.winner_id is not None or not flow.may(LAUNCH):
        return {}
    can = campaign.status == CampaignStatus.RUNNING and campaign.awaits_winner
    if not plan.has_rest:
        can = campaign.status in WINNER_IN
    if not can:
        return {}
    return {
        "choices": [
            {"letter": row.variant.letter, "name": row.variant.name, "is_leader": row is result.leader}
            for row in result.variants
        ],
        "winner_address": flow.part_address("winner"),
        "choice_text": _("The rest of the audience gets it at once. This cannot be undone.")
        if plan.has_rest
        else _("It is written down as the winner; nothing more is sent."),
    }


def message_variant(request: HttpRequest, message: Message) -> Panel | None:
    """On the page of a message: which variant it is."""
    try:
        order = message.dispatch
    except ObjectDoesNotExist:
        return None
    if not order.variant or not grants_of(request).has("campaigns:read", message.application_id):
        return None
    rows = VariantTally.objects.filter(application_id=message.application_id).select_related("variant")
    tally = rows.filter(pk=order.tally_id).first() if order.tally_id else None
    name = str(tally.variant) if tally is not None else order.variant
    facts = [(_("Variant"), name)]
    if tally is not None:
        facts.append((_("Part"), str(tally.get_part_display())))
    if message.campaign_id is not None:
        link = admin_link("campaigns.MessageCampaign", message.campaign_id, _("See the figures of the test"))
        facts.append((_("Campaign"), link))
    return Panel(_("A/B test"), "admin/console/facts.html", {"facts": facts})
