"""What a result reports of its fitting rows is computed on first access, and is what the plain formulas give."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibrate import FeatureCache, FitResult, OperatingPoint, feature_cache, fit
from calibrate.fitted_rows import ComputedStatistics, LazyStatistics
from calibrate.logits import softmax
from calibrate.ranking import threshold_free
from tests.problems import PROBLEMS, Problem

NAMES = ("model_scores", "mis_before", "mis_after", "rounding_rows")


def cache_of(problem: Problem) -> FeatureCache:
    """The problem as a cache with its prior."""
    return feature_cache(logits=problem.logits, labels=problem.labels, classes=problem.classes, prior=problem.prior)


def fit_without_evidence(cache: FeatureCache, **options: Any) -> FitResult:
    """A fit for accuracy."""
    return fit(cache, metric="accuracy", evidence=False, **options)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_values_are_those_of_the_plain_formulas(problem: Problem) -> None:
    """Softmax of all columns, the adjusted probabilities, the scores one by one, the distances of all rows."""
    cache = cache_of(problem)
    result = fit_without_evidence(cache)
    point, logits = result.point, cache.logits.astype(np.float64)
    assert np.allclose(result.mis_before, softmax(logits).mean(axis=0), rtol=1e-12, atol=1e-15)
    assert np.allclose(result.mis_after, point.adjusted(logits).mean(axis=0), rtol=1e-12, atol=1e-15)
    largest = (np.abs(logits) * point.scale).max(axis=1)
    assert result.rounding_rows == (np.abs(point.margin(logits)) <= np.spacing(largest.astype(np.float32))).sum()
    for name, value in threshold_free(cache.logits, cache.labels).items():
        assert result.model_scores[name].value == pytest.approx(value, rel=1e-12, nan_ok=True)
    assert result.data_digest == cache.digest


def test_many_rows_beside_the_cut_are_all_counted() -> None:
    """Rows within a rounding step of the cut in every chunk, small and large logits, scales other than 1."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=200_000) * 10.0 ** rng.integers(-2, 4, 200_000)
    logits = np.stack([base, base + rng.normal(size=200_000) * 10.0 ** rng.integers(-9, 1, 200_000)], axis=1)
    cache = feature_cache(logits=logits, labels=rng.integers(0, 2, 200_000))
    for scale in (np.ones(2), np.full(2, 0.25), np.array([1.0, 1 + 1e-9])):
        point = OperatingPoint(cache.classes, scale, np.array([0.0, 1e-6]))
        largest = (np.abs(logits) * scale).max(axis=1)
        near = np.abs(point.margin(logits)) <= np.spacing(largest.astype(np.float32))
        assert LazyStatistics(cache, cache, point, logits).rounding_rows == near.sum() > 0


def test_nothing_is_computed_before_it_is_read() -> None:
    """And each value once."""
    result = fit_without_evidence(cache_of(PROBLEMS[0]))
    assert not set(NAMES) & vars(result.statistics).keys()
    assert result.mis_before is result.mis_before
    assert set(NAMES) & vars(result.statistics).keys() == {"mis_before"}


@pytest.mark.parametrize("read", [lambda _: None, lambda result: result.to_dict()], ids=["unread", "read"])
def test_results_can_be_pickled(read: Callable[[FitResult], object]) -> None:
    """Whether or not its values have been computed."""
    result = fit_without_evidence(cache_of(PROBLEMS[0]))
    read(result)
    assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()  # noqa: S301


def test_a_result_holds_no_rows_that_it_does_not_show() -> None:
    """With evidence or a state from other rows the values are computed in the fit, and the fitting rows released."""
    cache = cache_of(PROBLEMS[0])
    other = feature_cache(logits=cache.logits[::2], labels=cache.labels[::2], classes=cache.classes, prior=cache.prior)
    whole = fit_without_evidence(cache)
    assert isinstance(whole.statistics, LazyStatistics)
    for result in (fit(cache, metric="accuracy", evidence=other), fit_without_evidence(cache, train=other)):
        assert isinstance(result.statistics, ComputedStatistics)
        assert result.model_scores == whole.model_scores
        assert result.data_digest == cache.digest
    moved = replace(whole, positive=None)
    assert moved.statistics is whole.statistics
