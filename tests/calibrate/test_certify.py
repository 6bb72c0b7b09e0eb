"""The numbers behind guarantees, against closed forms and sums of binomial probabilities."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom

from calibrate.certify import (
    Guarantee,
    allowed_misses,
    certifiable_rate,
    complement,
    p_value,
    rows_needed,
    units_of,
)


def test_the_fewest_rows_are_those_of_the_closed_form() -> None:
    """ceil(log delta / log r): 14, 29, 59, 299 at 95 %; on average 1 / (1 - r) - 1; one row fewer certifies nothing."""
    for rate, needed in ((0.8, 14), (0.9, 29), (0.95, 59), (0.99, 299)):
        assert rows_needed(rate) == needed == math.ceil(math.log(0.05) / math.log(rate))
        assert [allowed_misses(n, rate) for n in (needed - 1, needed)] == [-1, 0]
    assert [rows_needed(rate, None) for rate in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    assert rows_needed(0.5, 0.5) == 1
    assert rows_needed(1.0) is None


def test_the_misses_that_are_allowed() -> None:
    """The table for r = 0.9 at 95 %, and the largest k of the binomial distribution for others."""
    assert [allowed_misses(n, 0.9) for n in (50, 100, 200, 500, 1000)] == [1, 4, 12, 38, 84]
    for n in (1, 7, 60, 333, 5000):
        for rate in (0.3, 0.8, 0.95):
            for confidence in (0.5, 0.9, 0.99):
                k = int(binom.ppf(1 - confidence, n, 1 - rate))
                k = k if binom.cdf(k, n, 1 - rate) <= 1 - confidence + 1e-12 else k - 1
                assert allowed_misses(n, rate, confidence) == k
    for n in range(1, 200):
        k = allowed_misses(n, 0.9, None)
        assert Fraction(k + 1, n + 1) <= Fraction(1, 10) < Fraction(k + 2, n + 1)


def test_the_best_rate_that_can_be_certified_now() -> None:
    """delta^(1/n) without a miss, 0.907 for 31; with misses the lower limit of Clopper and Pearson, one-sided."""
    assert math.isclose(certifiable_rate(31), 0.05 ** (1 / 31))
    assert 0.907 < certifiable_rate(31) < 0.908
    for n, errors in ((31, 0), (100, 4), (500, 120)):
        rate = certifiable_rate(n, 0.95, errors)
        assert math.isclose(rate, beta.ppf(0.05, n - errors, errors + 1))
        assert math.isclose(p_value(errors, n, rate), 0.05, rel_tol=1e-9)
    assert certifiable_rate(9, None) == 0.9
    assert certifiable_rate(3, 0.9, 3) == 0.0


def test_a_p_value_is_the_binomial_tail() -> None:
    """Without trials it says nothing."""
    for errors, trials, rate in ((0, 59, 0.95), (3, 20, 0.8), (20, 20, 0.8), (0, 0, 0.9)):
        assert math.isclose(p_value(errors, trials, rate), binom.cdf(errors, trials, 1 - rate))


def test_decimals_are_subtracted_as_decimals() -> None:
    """1 - 0.9 in binary is below 0.1."""
    assert complement(0.9) == 0.1
    assert complement(0.95) == 0.05


def test_a_group_is_its_worst_row() -> None:
    """Whatever the order of the rows; without groups each row stands for itself."""
    values, groups = np.array([3.0, 1.0, 2.0, 5.0, 4.0]), np.array([7, 2, 7, 2, 9])
    assert units_of(values, groups, np.minimum).tolist() == [1.0, 2.0, 4.0]
    assert units_of(values, groups, np.maximum).tolist() == [5.0, 3.0, 4.0]
    assert units_of(values, None, np.minimum).tolist() == values.tolist()


@pytest.mark.parametrize(("at_least", "ends"), [(True, (0.9, 1.0)), (False, (0.0, 0.9))])
def test_a_guarantee_is_an_interval_from_its_bound(at_least: bool, ends: tuple[float, float]) -> None:
    """Of the kind `certified`, with its confidence, None where it holds on average."""
    given: dict[str, Any] = {
        "constraint": "recall >= 0.9 @ 95%",
        "metric": "recall",
        "at_least": at_least,
        "bound": 0.9,
        "kind": "confidence",
        "confidence": 0.95,
        "rule": "order statistic",
        "unit": "rows",
        "rows": 60,
        "errors_allowed": 2,
        "errors_seen": 1,
        "value": 0.983,
        "held_together": 0.95,
    }
    guarantee = Guarantee(**given)
    interval = guarantee.interval
    assert (interval.value, interval.low, interval.high, interval.confidence) == (0.983, *ends, 0.95)
    assert guarantee.to_dict() == given | {"interval": interval.to_dict()}
    assert interval.kind == "certified"
    average = Guarantee(**given | {"kind": "average", "confidence": None, "held_together": None})
    assert average.to_dict()["interval"]["confidence"] is None


@pytest.mark.parametrize(("n", "risk"), [(9, 0.387), (18, 0.150), (29, 0.434), (100, 0.451), (1000, 0.484)])
def test_how_many_fits_break_a_promise_on_average(n: int, risk: float) -> None:
    """In closed form as in draws: the cut lies at the first positive that may not be missed."""
    misses = allowed_misses(n, 0.9, None)
    rng = np.random.default_rng(n)
    missed = np.partition(rng.random((20_000, n)), misses, axis=1)[:, misses]  # the share below that positive
    guarantee = Guarantee("", "recall", True, 0.9, "average", None, "order statistic", "rows", n, misses, 0, 1.0, None)
    assert guarantee.risk == pytest.approx(risk, abs=0.001)
    assert float((missed > 0.1).mean()) == pytest.approx(risk, abs=4 * 0.5 / np.sqrt(20_000))
    assert float(missed.mean()) <= 0.1 + 4 * missed.std() / np.sqrt(20_000)


def test_of_the_few_fits_that_pass_a_hard_test_many_break_it() -> None:
    """True precision spread closely around 0.95, 59 alerts: 5 % pass at most where it is below, and of all that pass a
    good part is; over all fits the promise holds.
    """
    rng = np.random.default_rng(0)
    truth = rng.normal(0.95, 0.005, 400_000)
    passed = rng.random(truth.size) < truth**59
    below = truth < 0.95
    assert (passed & below).mean() <= 0.05
    assert passed.mean() < 0.06
    assert 0.3 < below[passed].mean() < 0.5
