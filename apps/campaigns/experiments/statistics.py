"""Comparing shares: how sure it is that one is higher than another. Pure Python, the same result each time.

- A share's interval: Wilson's score interval, uncorrected for continuity (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927).
- The interval of a difference: Newcombe's hybrid of two of them (R. G. Newcombe, Stat. Med. 17, 1998, method 10).
- How probable it is to be the best of several: each share's posterior under a uniform prior is a Beta distribution,
  and the probability that one is higher than all others is an integral over its density, done here numerically
  (Gauss–Legendre). Unlike a test of significance it has a meaning also for three to five variants, and says what
  people take a p-value for. It is no licence to look every hour: who stops as soon as a figure is high stops at chance
  more often than the figure says, so a rule asks once, at its time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

Z_95 = 1.959963984540054


class Counted(NamedTuple):
    """So many of so many."""

    hits: int
    of: int

    @property
    def share(self) -> float | None:
        return self.hits / self.of if self.of else None


class Interval(NamedTuple):
    low: float
    high: float


def wilson(counted: Counted, z: float = Z_95) -> Interval:
    """Where the true share lies, with 95 % confidence unless told. Of nothing it is anything: 0 to 1."""
    hits, n = counted
    if not n:
        return Interval(0.0, 1.0)
    share, square = hits / n, z * z
    middle = share + square / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if hits == 0 else (middle - reach) / (1 + square / n)
    high = 1.0 if hits == n else (middle + reach) / (1 + square / n)
    return Interval(max(low, 0.0), min(high, 1.0))


def newcombe(one: Counted, other: Counted, z: float = Z_95) -> Interval:
    """Where the true difference `one - other` lies."""
    if not one.of or not other.of:
        return Interval(-1.0, 1.0)
    a, b = one.hits / one.of, other.hits / other.of
    of_a, of_b = wilson(one, z), wilson(other, z)
    difference = a - b
    low = difference - math.sqrt((a - of_a.low) ** 2 + (of_b.high - b) ** 2)
    high = difference + math.sqrt((of_a.high - a) ** 2 + (b - of_b.low) ** 2)
    return Interval(low, high)


# --- Which is best ---------------------------------------------------------------------------------------------------

_PANELS, _NODES = 24, 16
_REACH = 9.0
"""Standard deviations of a posterior beyond which nothing of it counts (less than 1e-15, but for very skewed ones)."""


class _Beta:
    """A Beta distribution with integer parameters of at least 1."""

    def __init__(self, a: int, b: int) -> None:
        self.a, self.b = a, b
        self.log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        mean = a / (a + b)
        deviation = math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
        # A skewed one has a long tail to one side, which falls like an exponential of this scale.
        tail = 40 / (a + b) if min(a, b) < 30 else 0.0
        self.low = max(0.0, mean - _REACH * deviation - tail)
        self.high = min(1.0, mean + _REACH * deviation + tail)

    def density(self, x: float) -> float:
        if not 0.0 < x < 1.0:
            return 0.0
        return math.exp(self.log_scale + (self.a - 1) * math.log(x) + (self.b - 1) * math.log1p(-x))

    def below(self, x: float) -> float:
        """The regularised incomplete beta function."""
        if x <= self.low:
            return 0.0
        if x >= self.high:
            return 1.0
        front = math.exp(self.log_scale + self.a * math.log(x) + self.b * math.log1p(-x))
        if x < (self.a + 1) / (self.a + self.b + 2):
            return front * _continued(self.a, self.b, x) / self.a
        return 1.0 - front * _continued(self.b, self.a, 1.0 - x) / self.b


def _continued(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method: some square root of
    the larger parameter in steps."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 20_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            step = c * d
            value *= step
        if abs(step - 1.0) < 1e-14:
            break
    return value


@cache
def _gauss_legendre(n: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights on [-1, 1], by Newton's method on the Legendre polynomial."""
    found = []
    for i in range(n):
        x = math.cos(math.pi * (i + 0.75) / (n + 0.5))
        slope = 1.0
        for _ in range(100):
            before, value = 1.0, x
            for k in range(2, n + 1):
                before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
            slope = n * (x * value - before) / (x * x - 1)
            step = value / slope
            x -= step
            if abs(step) < 1e-15:
                break
        found.append((x, 2 / ((1 - x * x) * slope * slope)))
    return tuple(found)


def probabilities_of_best(counts: Sequence[Counted]) -> list[float]:
    """For each, how probable it is that its true share is the highest: they sum to 1."""
    posteriors = [_Beta(hits + 1, of - hits + 1) for hits, of in counts]
    if len(posteriors) < 2:
        return [1.0] * len(posteriors)
    found = []
    for index, own in enumerate(posteriors):
        others = posteriors[:index] + posteriors[index + 1 :]
        width = (own.high - own.low) / _PANELS
        total = 0.0
        for panel in range(_PANELS):
            middle = own.low + (panel + 0.5) * width
            for node, weight in _gauss_legendre(_NODES):
                x = middle + node * width / 2
                product = own.density(x) * weight * width / 2
                for other in others:
                    if product < 1e-18:
                        break
                    product *= other.below(x)
                total += product
        found.append(total)
    whole = sum(found)
    return [value / whole for value in found]


def probability_higher(one: Counted, other: Counted) -> float:
    """How probable it is that the true share of `one` is higher than that of `other`."""
    return probabilities_of_best([one, other])[0]


# --- Enough data -----------------------------------------------------------------------------------------------------

ENOUGH_OF, ENOUGH_HITS = 100, 10
"""Of each variant so many must have been sent; and of all together so many must have got as far as is compared."""


def is_enough(counts: Sequence[Counted]) -> bool:
    """Whether the figures say anything yet. Below, one more tap turns the picture round."""
    return all(counted.of >= ENOUGH_OF for counted in counts) and sum(c.hits for c in counts) >= ENOUGH_HITS
