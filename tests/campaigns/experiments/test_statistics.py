"""Intervals and probabilities against published values and against closed forms."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest

from apps.campaigns.experiments.statistics import (
    Counted,
    _Beta,
    is_enough,
    newcombe,
    probabilities_of_best,
    probability_higher,
    wilson,
)


# R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_wilsons(hits, of, low, high):
    interval = wilson(Counted(hits, of))
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


# R. G. Newcombe, "Interval estimation for the difference between independent proportions", Stat. Med. 17 (1998),
# table II, method 10.
@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(one, other, low, high):
    interval = newcombe(Counted(*one), Counted(*other))
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_of_nothing_anything_may_be_true():
    assert wilson(Counted(0, 0)) == (0.0, 1.0)
    assert newcombe(Counted(0, 0), Counted(1, 2)) == (-1.0, 1.0)


def exactly_higher(one: Counted, other: Counted) -> float:
    """P(one > other) in closed form: a finite sum over the first parameter (E. Miller, "Formulas for Bayesian A/B
    testing", 2014), in whole fractions."""
    a1, b1 = other.hits + 1, other.of - other.hits + 1
    a2, b2 = one.hits + 1, one.of - one.hits + 1

    def beta(a: int, b: int) -> Fraction:
        return Fraction(math.factorial(a - 1) * math.factorial(b - 1), math.factorial(a + b - 1))

    return float(sum(beta(a1 + i, b1 + b2) / ((b2 + i) * beta(1 + i, b2) * beta(a1, b1)) for i in range(a2)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 0), (0, 0)),
        ((1, 1), (0, 1)),
        ((0, 5), (3, 40)),
        ((9, 10), (3, 10)),
        ((41, 1000), (32, 1000)),
        ((30, 300), (20, 300)),
        ((0, 300), (0, 200)),
        ((299, 300), (280, 300)),
        ((5, 1000), (12, 1000)),
    ],
)
def test_the_probability_to_be_higher_is_that_of_the_closed_form(one, other):
    one, other = Counted(*one), Counted(*other)
    assert probability_higher(one, other) == pytest.approx(exactly_higher(one, other), abs=1e-9)
    assert probability_higher(one, other) + probability_higher(other, one) == pytest.approx(1.0, abs=1e-12)


def test_one_of_one_against_none_of_one_is_five_sixths():
    assert exactly_higher(Counted(1, 1), Counted(0, 1)) == pytest.approx(5 / 6, abs=1e-15)
    assert probability_higher(Counted(1, 1), Counted(0, 1)) == pytest.approx(5 / 6, abs=1e-12)


# Cumulative binomial tables: P(X >= k) of n tries of probability x is the Beta(k, n-k+1) distribution at x.
@pytest.mark.parametrize(("k", "n", "x"), [(1, 1, 0.3), (3, 10, 0.25), (7, 20, 0.5), (1, 50, 0.02), (400, 1000, 0.41)])
def test_the_distribution_of_a_posterior_is_a_sum_of_binomials(k, n, x):
    exact = math.fsum(math.comb(n, i) * x**i * (1 - x) ** (n - i) for i in range(k, n + 1))
    assert _Beta(k, n - k + 1).below(x) == pytest.approx(exact, abs=1e-10)


def test_alike_ones_are_equally_probable_and_all_sum_to_one():
    thirds = probabilities_of_best([Counted(40, 1000)] * 3)
    assert thirds == pytest.approx([1 / 3] * 3, abs=1e-9)
    five = probabilities_of_best([Counted(n, 2000) for n in (80, 85, 90, 95, 110)])
    assert sum(five) == pytest.approx(1.0)
    assert five == sorted(five)


def test_what_is_far_apart_is_certain_and_millions_take_no_time():
    began = time.process_time()
    best = probabilities_of_best([Counted(20_000 + 1_000 * n, 2_000_000) for n in range(5)])
    assert best[-1] > 0.9999
    assert time.process_time() - began < 3


def test_the_result_is_the_same_each_time():
    counts = [Counted(41, 1000), Counted(32, 1000), Counted(35, 1000)]
    assert probabilities_of_best(counts) == probabilities_of_best(counts)


@pytest.mark.parametrize(
    ("counts", "enough"),
    [
        ([(10, 100), (0, 100)], True),
        ([(9, 100), (0, 100)], False),
        ([(50, 99), (50, 100)], False),
        ([(4, 5000), (5, 5000)], False),
        ([(0, 0), (20, 200)], False),
    ],
)
def test_too_little_is_said_to_be_too_little(counts, enough):
    assert is_enough([Counted(*counted) for counted in counts]) is enough
