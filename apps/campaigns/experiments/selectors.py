"""The figures of a test, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from apps.campaigns.experiments.models import Experiment, Fallback, Metric, Part, Variant, VariantTally
from apps.campaigns.experiments.planning import experiment_of, variants_of
from apps.campaigns.experiments.statistics import (
    Counted,
    Interval,
    is_enough,
    newcombe,
    probabilities_of_best,
    probability_higher,
    wilson,
)
from apps.campaigns.models import MessageCampaign

HELD_OUT = "-"
"""Those who get nothing, in `Experiment.activity`."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of messages; a message that was converted is also among the received and the successful."""

    total: int = 0
    successful: int = 0
    failed: int = 0
    received: int = 0
    converted: int = 0

    def counted(self, metric: str) -> Counted:
        """Of what a provider took, how many got as far as is compared. A receipt may overtake the worker's record."""
        hits = self.converted if metric == Metric.CONVERTED else self.received
        return Counted(min(hits, self.successful), self.successful)


@dataclass(frozen=True, slots=True)
class Activity:
    """Recipients, and how many of them have used the app since the launch."""

    counted: Counted
    interval: Interval
    difference: float | None
    """Of the share, to that of who gets nothing; None for themselves, or while nobody is counted."""
    difference_interval: Interval | None


@dataclass(frozen=True, slots=True)
class VariantResult:
    variant: Variant
    figures: Figures
    """Of the test."""
    rest: Figures | None
    """Of those who got it as the winner."""
    counted: Counted
    interval: Interval
    difference: float | None
    """Of the share, to the control's; None for the control, or while nothing is sent."""
    difference_interval: Interval | None
    higher_than_control: float | None
    """How probable it is that its true share is higher than the control's."""
    best: float
    """How probable it is that it is the best of all."""
    activity: Activity | None


@dataclass(frozen=True, slots=True)
class Result:
    experiment: Experiment
    variants: list[VariantResult]
    is_enough: bool
    leader: VariantResult
    """Whose share is highest so far; the earlier letter of two alike."""
    held_out: Activity | None


def experiment_result(campaign: MessageCampaign) -> Result | None:
    """None for a campaign without variants. Three queries, whatever was sent."""
    experiment = experiment_of(campaign)
    return result_of(experiment) if experiment is not None else None


def result_of(experiment: Experiment) -> Result:
    variants = variants_of(experiment)
    tested = _figures(experiment, variants)
    counts = [tested[variant.letter, Part.TEST].counted(experiment.metric) for variant in variants]
    best = probabilities_of_best(counts)
    control, nobody = counts[0], _activity(experiment, HELD_OUT, None)
    rows = []
    for index, (variant, counted) in enumerate(zip(variants, counts, strict=True)):
        is_compared = index > 0 and bool(counted.of and control.of)
        rows.append(
            VariantResult(
                variant=variant,
                figures=tested[variant.letter, Part.TEST],
                rest=tested.get((variant.letter, Part.REST)),
                counted=counted,
                interval=wilson(counted),
                difference=counted.hits / counted.of - control.hits / control.of if is_compared else None,
                difference_interval=newcombe(counted, control) if is_compared else None,
                higher_than_control=probability_higher(counted, control) if is_compared else None,
                best=best[index],
                activity=_activity(experiment, variant.letter, nobody.counted if nobody else None),
            )
        )
    return Result(experiment, rows, is_enough(counts), max(rows, key=_share), nobody)


def _share(row: VariantResult) -> float:
    """`max` takes the first of two alike."""
    return row.counted.share or 0.0


def _figures(experiment: Experiment, variants: Sequence[Variant]) -> dict[tuple[str, str], Figures]:
    letters = {variant.pk: variant.letter for variant in variants}
    found = {(variant.letter, str(Part.TEST.value)): Figures() for variant in variants}
    rows = VariantTally.objects.filter(application_id=experiment.application_id, variant_id__in=letters)
    for row in rows:
        figures = Figures(row.total, row.successful, row.failed, row.received, row.converted)
        found[letters[row.variant_id], row.part] = figures
    return found


def _activity(experiment: Experiment, letter: str, nobody: Counted | None) -> Activity | None:
    if letter not in experiment.activity:
        return None
    of, hits = experiment.activity[letter]
    counted = Counted(hits, of)
    is_compared = nobody is not None and bool(nobody.of and counted.of)
    return Activity(
        counted=counted,
        interval=wilson(counted),
        difference=hits / of - nobody.hits / nobody.of if nobody is not None and is_compared else None,
        difference_interval=newcombe(counted, nobody) if nobody is not None and is_compared else None,
    )


def probability_of_best(experiment: Experiment) -> dict[str, float]:
    """Letter → how probable it is that it is the best."""
    return {row.variant.letter: row.best for row in result_of(experiment).variants}


class Verdict(NamedTuple):
    """What the rule says; no letter: a person is to choose."""

    letter: str | None
    because: str
    confidence: float


def verdict(experiment: Experiment) -> Verdict:
    """The best so far if it is sure enough, else what the plan falls back on."""
    result = result_of(experiment)
    leader = result.leader
    if result.is_enough and leader.best * 100 >= experiment.confidence_percent:
        return Verdict(leader.variant.letter, "confidence", leader.best)
    if experiment.fallback == Fallback.BEST:
        return Verdict(leader.variant.letter, "best", leader.best)
    if experiment.fallback == Fallback.CONTROL:
        return Verdict(result.variants[0].variant.letter, "control", result.variants[0].best)
    return Verdict(None, "person", leader.best)
