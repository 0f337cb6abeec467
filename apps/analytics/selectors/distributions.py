"""Histograms of buckets with declared bounds, and percentiles from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple


class Bucket(NamedTuple):
    at_least: float
    below: float | None
    """None: open."""
    messages: int
    share: float


class Distribution(NamedTuple):
    """A histogram. A percentile lies where a straight line through its bucket has it; one that falls into the open
    bucket is that bucket's bound. None when there is nothing."""

    messages: int
    buckets: list[Bucket]
    p50: float | None
    p75: float | None
    p90: float | None
    p95: float | None
    p99: float | None


def distribution_of(counts: Mapping[int, int], bounds: Sequence[float]) -> Distribution:
    """Of counts by number of bucket: bucket `n` is from bound `n - 1` on and below bound `n`."""
    edges = [0.0, *bounds]
    whole = sum(counts.values())
    buckets = [
        Bucket(
            at_least=edges[number],
            below=edges[number + 1] if number + 1 < len(edges) else None,
            messages=(found := counts.get(number, 0)),
            share=round(found / whole, 4) if whole else 0.0,
        )
        for number in range(len(edges))
    ]
    return Distribution(whole, buckets, *(percentile(buckets, share) for share in (0.5, 0.75, 0.9, 0.95, 0.99)))


def percentile(buckets: Sequence[Bucket], share: float) -> float | None:
    """Below which this share of all lies."""
    whole = sum(bucket.messages for bucket in buckets)
    if not whole:
        return None
    wanted = share * whole
    for bucket, reached in zip(buckets, accumulate(bucket.messages for bucket in buckets), strict=True):
        if bucket.messages and reached >= wanted:
            if bucket.below is None:
                return bucket.at_least
            inside = (wanted - (reached - bucket.messages)) / bucket.messages
            return round(bucket.at_least + (bucket.below - bucket.at_least) * inside, 3)
    raise AssertionError("the buckets hold all of what they sum to")
