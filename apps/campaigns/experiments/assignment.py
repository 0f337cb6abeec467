"""Which part of the audience is whose: ranges of the buckets of `apps.messaging.splitting`.

0 ──── A ──── B ──── … ──── the rest, which gets the winner ──── get nothing ──── 1,000,000
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID

from apps.campaigns.experiments.models import Experiment, Variant
from apps.messaging.splitting import BUCKET, BUCKETS, bucket_of
from apps.subscriptions.targeting import Predicate

_PERCENT = BUCKETS // 100


class Ranges(NamedTuple):
    """Bounds of buckets: `variants` has one more than there are variants."""

    variants: list[int]
    held_out_from: int

    @property
    def rest(self) -> tuple[int, int]:
        return self.variants[-1], self.held_out_from


def ranges_of(*, shares: Sequence[int], test_percent: int, holdout_percent: int) -> Ranges:
    """Percents of percents of percents, in whole buckets; the shares sum to 100."""
    held_out_from = (100 - holdout_percent) * _PERCENT
    one_percent = (100 - holdout_percent) * test_percent * (BUCKETS // 1_000_000)
    return Ranges([0, *accumulate(share * one_percent for share in shares)], held_out_from)


def ranges(experiment: Experiment, variants: Sequence[Variant]) -> Ranges:
    return ranges_of(
        shares=[variant.share_percent for variant in variants],
        test_percent=experiment.test_percent,
        holdout_percent=experiment.holdout_percent,
    )


def letter_of(experiment: Experiment, variants: Sequence[Variant], subject_id: UUID) -> str:
    """The letter of the user (or the subscription without one); empty for the rest, `-` for who gets nothing."""
    bucket = bucket_of(experiment.campaign_id, subject_id)
    bounds, held_out_from = ranges(experiment, variants)
    if bucket >= held_out_from:
        return "-"
    return next(
        (variant.letter for variant, end in zip(variants, bounds[1:], strict=True) if bucket < end),
        "",
    )


def held_out_condition(experiment: Experiment) -> tuple[str, list[Any]] | None:
    """What holds of those who get something, now or later, with its parameters; None where nobody is held out."""
    if not experiment.holdout_percent:
        return None
    return f"{BUCKET} < %s", [experiment.campaign_id, (100 - experiment.holdout_percent) * _PERCENT]


def without_held_out(predicate: Predicate, experiment: Experiment) -> Predicate:
    """Those who get something, now or later."""
    condition = held_out_condition(experiment)
    if condition is None:
        return predicate
    sql, params = condition
    return Predicate(f"({predicate.sql}) AND {sql}", [*predicate.params, *params], predicate.needs_user)
