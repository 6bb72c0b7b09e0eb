"""The bias for a model imbalance state: Newton against the paper's gradient descent, and against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate import bias_for_state, model_imbalance_state
from calibrate.errors import BadPrior, NotConverged, NotFinite
from tests.problems import MULTICLASS, draw
from tests.reference import gradient_descent_bias


def test_the_state_is_the_mean_probability() -> None:
    """Half-way between certain and undecided."""
    logits = np.array([[0.0, 0.0], [0.0, np.log(3)]])
    assert np.allclose(model_imbalance_state(logits), [0.375, 0.625])


@pytest.mark.parametrize(
    ("logits", "target"),
    [
        (draw((0.9, 0.1), 500, 7).logits, [0.5, 0.5]),
        (draw((0.9, 0.1), 500, 7).logits, [0.99, 0.01]),
        (MULTICLASS[0].logits, [0.3, 0.3, 0.4]),
        (MULTICLASS[1].logits, [0.2] * 5),
    ],
)
def test_newton_ends_where_the_papers_gradient_descent_ends(logits: np.ndarray, target: list[float]) -> None:
    """The same minimum of the same divergence, up to the shift that no decision sees."""
    r = np.array(target)
    ours, theirs = bias_for_state(logits, r), gradient_descent_bias(logits, r, rate=2.0)
    assert np.allclose(ours, theirs - theirs[0], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.sampled_from([0.1, 1.0, 10.0, 300.0]), st.integers(0, 1000))
def test_any_target_is_reached(k: int, spread: float, seed: int) -> None:
    """From flat to saturated logits, and from a neighbour's bias as from none."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, k)) * spread
    target = rng.dirichlet(np.ones(k)) * 0.99 + 0.01 / k
    bias = bias_for_state(logits, target)
    assert np.allclose(model_imbalance_state(logits + bias), target, rtol=1e-8)
    again = bias_for_state(logits, target, start=bias + rng.normal(size=k) * 0.1)
    assert np.allclose(model_imbalance_state(logits + again), target, rtol=1e-8)


def test_two_classes_reach_any_rate_on_any_margins() -> None:
    """Equal rows, rows a million apart, and rates near the ends."""
    for margins in (np.zeros(5), np.array([-1e6, 0.0, 1e6]), np.array([1e-9, 2e-9])):
        logits = np.stack([np.zeros(margins.size), margins], axis=1)
        for rate in (1e-6, 0.2, 0.5, 0.999):
            bias = bias_for_state(logits, np.array([1 - rate, rate]))
            assert np.isclose(model_imbalance_state(logits + bias)[1], rate, rtol=1e-9)


@pytest.mark.parametrize("target", [[0.5, 0.5, 0.0], [0.5, 0.6, 0.1], [0.5, 0.5], [np.nan, 0.5, 0.5], [-0.1, 0.6, 0.5]])
def test_a_target_that_is_no_distribution_is_refused(target: list[float]) -> None:
    """A share of zero has no bias."""
    with pytest.raises((BadPrior, NotFinite), match=r"3 entries > 0 that sum to 1|must be finite"):
        bias_for_state(MULTICLASS[0].logits, np.array(target))


def test_what_cannot_be_reached_says_how_near_it_came() -> None:
    """Logits so large that float64 has no bias between two rows."""
    logits = np.random.default_rng(0).normal(size=(300, 4)) * 1e18
    with pytest.raises(NotConverged, match=r"reached \[.*divergence .*temperature"):
        bias_for_state(logits, np.array([0.7, 0.1, 0.1, 0.1]))
