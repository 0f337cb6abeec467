"""A test in an operator's words: what is planned, and what its figures say."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from apps.campaigns.experiments.models import Experiment, Fallback, Metric, Variant, WinnerBy
from apps.campaigns.experiments.selectors import Result, VariantResult
from apps.campaigns.experiments.statistics import ENOUGH_HITS, ENOUGH_OF
from apps.tenants.console import formats

SURE_TO = 0.999
"""Nothing is ever said to be certain."""


def confidence(probability: float) -> str:
    if probability > SURE_TO:
        return _("more than %(share)s") % {"share": formats.percent(SURE_TO)}
    if probability < 1 - SURE_TO:
        return _("less than %(share)s") % {"share": formats.percent(1 - SURE_TO)}
    return formats.percent(probability)


def plan_in_words(experiment: Experiment, variants: Sequence[Variant]) -> str:
    """Who gets what, and how the winner is found: two to four sentences."""
    shares = ", ".join(f"{variant.letter} {variant.share_percent} %" for variant in variants)
    sentences = []
    if experiment.has_rest:
        facts = {"test": experiment.test_percent, "shares": shares, "rest": 100 - experiment.test_percent}
        sentences.append(
            _("The test goes to %(test)d %% of the recipients (%(shares)s); the other %(rest)d %% wait for the winner.")
            % facts
        )
    else:
        sentences.append(_("All recipients are shared among the variants: %(shares)s.") % {"shares": shares})
    if experiment.holdout_percent:
        sentences.append(
            _("%(share)d %% of the audience get nothing, for comparison.") % {"share": experiment.holdout_percent}
        )
    if experiment.winner_by == WinnerBy.HAND:
        sentences.append(_("A person chooses the winner."))
    else:
        sentences.append(rule_in_words(experiment))
    return " ".join(sentences)


def rule_in_words(experiment: Experiment) -> str:
    facts = {"hours": experiment.decide_after_h, "confidence": experiment.confidence_percent}
    if experiment.metric == Metric.CONVERTED:
        rule = _("After %(hours)d h the variant that is opened most wins, if it is the best with %(confidence)d %%.")
    else:
        rule = _("After %(hours)d h the variant that is received most wins, if it is the best with %(confidence)d %%.")
    otherwise = {
        Fallback.BEST: _("If that is not sure, the best so far is taken."),
        Fallback.CONTROL: _("If that is not sure, variant A is taken."),
        Fallback.WAIT: _("If that is not sure, it waits for a person."),
    }
    return f"{rule % facts} {otherwise[Fallback(experiment.fallback)]}"


def metric_name(metric: str) -> str:
    return _("open rate") if metric == Metric.CONVERTED else _("rate of receipts")


def verdict_in_words(result: Result) -> str:
    """What can be said now of which is best."""
    if not result.is_enough:
        if result.experiment.metric == Metric.CONVERTED:
            text = _(
                "There is not enough data yet: %(sent)d sent of each variant, and %(hits)d opened of all together, is "
                "the least that says anything."
            )
        else:
            text = _(
                "There is not enough data yet: %(sent)d sent of each variant, and %(hits)d received of all together, "
                "is the least that says anything."
            )
        return text % {"sent": ENOUGH_OF, "hits": ENOUGH_HITS}
    leader = result.leader
    others = [row for row in result.variants if row is not leader]
    second = max(others, key=_share)
    facts = {
        "best": leader.variant.letter,
        "other": second.variant.letter,
        "confidence": confidence(leader.best),
        "metric": metric_name(result.experiment.metric),
        "share": formats.share(leader.counted.hits, leader.counted.of),
        "other_share": formats.share(second.counted.hits, second.counted.of),
        "count": len(result.variants),
    }
    if len(result.variants) == 2:
        return (
            _(
                "%(best)s is better than %(other)s with %(confidence)s confidence: "
                "%(metric)s %(share)s against %(other_share)s."
            )
            % facts
        )
    return (
        _(
            "%(best)s is the best of %(count)d with %(confidence)s confidence: "
            "%(metric)s %(share)s, the next %(other_share)s."
        )
        % facts
    )


def _share(row: VariantResult) -> float:
    return row.counted.share or 0.0


def decision_in_words(result: Result) -> str:
    """Who chose the winner, and why; or what it waits for."""
    experiment = result.experiment
    winner = next((row.variant for row in result.variants if row.variant.pk == experiment.winner_id), None)
    facts = {
        "letter": winner.letter if winner else "",
        "who": experiment.decided_by,
        "confidence": confidence(experiment.decided_confidence or 0.0),
    }
    if winner is not None:
        return {
            "person": _("%(who)s has chosen %(letter)s.") % facts,
            "confidence": _("The rule has chosen %(letter)s: it was the best with %(confidence)s confidence.") % facts,
            "best": _("It was not sure (%(confidence)s), so the rule has taken the best so far: %(letter)s.") % facts,
            "control": _("It was not sure, so the rule has taken the control: %(letter)s.") % facts,
        }.get(experiment.decided_because, "")
    if experiment.asked_at is not None:
        return _("It was not sure when the rule was asked: a person has to choose.")
    return ""


def peeking() -> str:
    """Why not to stop as soon as one is ahead."""
    return _(
        "Early figures swing. Whoever looks every hour and stops as soon as one is ahead is wrong more often than the "
        "confidence says: decide beforehand how long to wait, or let the rule ask once at its time."
    )
