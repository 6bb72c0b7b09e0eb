"""Sums of weights are exact, and an empty cell is 0: compared with fractions."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate import Infeasible, curve, feature_cache, fit
from calibrate.counts import Counts, summable
from calibrate.objective import parse_objective
from calibrate.sweep import Rows, tabulate

CLASSES = ["no", "yes"]
WEIGHTS = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7, 1 / 3, 1e-13, 2.5]), min_size=2, max_size=40)


@given(WEIGHTS, st.integers(0, 1000))
def test_weights_are_summed_exactly_in_any_order(values: list[float], seed: int) -> None:
    """Forwards, shuffled and by parts the same float; no weight is lost, and none moves by more than 2^-52 of all."""
    weights = summable(np.array(values))
    shuffled = weights.tolist()
    np.random.default_rng(seed).shuffle(shuffled)
    exact = float(sum(map(Fraction, shuffled)))
    assert np.cumsum(weights)[-1] == np.cumsum(shuffled)[-1] == sum(shuffled) == exact
    assert weights[:5].sum() + weights[5:].sum() == exact
    assert (weights > 0).all()
    assert np.abs(weights - np.array(values)).max() <= 2.0**-52 * exact
    assert np.array_equal(summable(np.array([3.0, 0.0, 2.0])), [3.0, 0.0, 2.0])


def exact_values(margins: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[Fraction | None]:
    """NPV at every cut from no alert to all, None where it is 0/0, in fractions."""
    found: list[Fraction | None] = []
    for cut in [np.inf, *np.unique(margins)[::-1]]:
        left = margins < cut
        tn = sum((Fraction(w) for w in weights[left & (labels == 0)]), Fraction(0))
        fn = sum((Fraction(w) for w in weights[left & (labels == 1)]), Fraction(0))
        found.append(tn / (tn + fn) if tn + fn else None)
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("prevalence", [None, 0.07])
def test_npv_is_not_met_by_leaving_no_row_alone(seed: int, prevalence: float | None) -> None:
    """Weighted or at a prevalence: infeasible where no cut in fractions reaches 0.995, and 0/0 is undefined."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(60) < 0.3).astype(int)
    margins, weights = np.round(rng.normal(size=60) + labels, 1), rng.random(60) + 0.05
    cache = feature_cache(logits=margins, labels=labels, classes=CLASSES, sample_weight=weights)
    if prevalence is not None:
        total = [weights[labels == label].sum() for label in (0, 1)]
        weights = weights * np.array([(1 - prevalence) / total[0], prevalence / total[1]])[labels]
    exact = exact_values(margins, labels, weights)
    reachable = any(value is not None and value >= Fraction("0.995") for value in exact)
    wanted: dict[str, Any] = {
        "constraints": ["npv >= 0.995"],
        "prevalence": prevalence,
        "evidence": False,
    }
    if reachable:
        cut = fit(cache, metric="recall", search="exact", **wanted).parameters["cut"]
        left = margins <= cut
        assert left.any()
    else:
        with pytest.raises(Infeasible, match=r"npv >= 0\.995"):
            fit(cache, metric="recall", search="exact", **wanted)
    shown = curve(cache, ["npv", "precision"], prevalence=prevalence)
    assert np.isnan(shown.metrics["npv"]).tolist() == [value is None for value in exact]
    assert np.allclose(shown.metrics["npv"][:-1], [float(value or 0) for value in exact[:-1]], rtol=1e-12)
    assert np.isnan(shown.metrics["precision"]).tolist() == [True] + [False] * (len(exact) - 1)


def test_a_cell_with_one_row_of_tiny_weight_is_not_empty() -> None:
    """A trillionth of the weight is a row: its recall is 0 or 1, never undefined; below 1e-15 it still counts."""
    for tiny in (1e-9, 1e-12, 1e-18):
        rows = Rows(np.array([2.0, 1.0, 0.0]), np.array([False, True, False]), np.array([1 / 3, tiny, 0.7]))
        counts = tabulate(rows, every_cut=True).counts(1)
        recall = parse_objective("recall", None, CLASSES).metric.value(counts)
        assert recall.tolist() == [0.0, 0.0, 1.0, 1.0]
        assert counts.cells_at(1).fn[1] > 0 == counts.cells_at(1).fn[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10_000))
def test_empty_cells_of_any_number_of_classes_are_zero(k: int, seed: int) -> None:
    """Each of the four cells of each class is 0 exactly where no row is in it."""
    rng = np.random.default_rng(seed)
    labels, decided = rng.integers(0, k, (2, 12))
    weights = summable(rng.choice([0.1, 0.2, 1 / 3, 0.7], 12))
    cells = Counts.of(labels, decided, k, weights=weights).cells
    for c in range(k):
        actual, alert = labels == c, decided == c
        there = [(actual & alert).any(), (~actual & alert).any(), (actual & ~alert).any(), (~actual & ~alert).any()]
        assert [bool(cell[c] > 0) for cell in (cells.tp, cells.fp, cells.fn, cells.tn)] == there
        assert all(cell[c] >= 0 for cell in (cells.tp, cells.fp, cells.fn, cells.tn))
