"""The best cut in expectation, under the model's own probabilities and without the labels.

Where a row is positive with probability p, of the rows above a cut `sum p` are expected to be positive and `sum 1 - p`
not; the metric of these expected counts is swept over all cuts. For F1 the best threshold is half the best F1. It rests
on the probabilities alone, so where they are off, as after training with class weights, so is the cut.

Source: Lipton, Elkan & Narayanaswamy, "Thresholding classifiers to maximize F1 score" (2014).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int

from calibrate.errors import MissingCosts
from calibrate.logits import sigmoid
from calibrate.maps import fit_platt
from calibrate.methods.cuts.profile import best_of_each, counts_at
from calibrate.objective import Objective
from calibrate.sweep import Cut, Rows

_CANDIDATES = 10_000


def expected_cut(rows: Rows, objective: Objective) -> float:
    """The place of the best cut for the metric of the expected counts; the labels are not read.

    Raises: `UndefinedMetric`; `MissingCosts` for a metric of costs per row, which each row has for its own class only.
    """
    if objective.reads("amounts"):
        raise MissingCosts("search 'expected' needs the costs of both errors on every row: a row has its own class's")
    if rows.weights is None:
        margins, weights = np.sort(rows.margins)[::-1], np.ones(1)  # sorting is several times as fast as argsort
    else:
        order = np.argsort(rows.margins)[::-1]
        margins, weights = rows.margins[order], rows.weights[order]
    p = sigmoid(margins.astype(np.float64))
    tp, fp = np.cumsum(weights * p), np.cumsum(weights * (1 - p))
    ends = np.append(np.flatnonzero(margins[1:] != margins[:-1]), margins.size - 1)  # cuts between distinct margins
    if ends.size > _CANDIDATES:
        ends = ends[_spread(tp[ends])]
    above = np.zeros((1, ends.size + 1, 2))
    above[0, 1:, 0], above[0, 1:, 1] = tp[ends], fp[ends]
    totals = above[:, -1:]
    _, best = best_of_each(objective.score(counts_at(totals - above, totals, objective.positive)), objective)
    if best[0] == 0:  # no alert, then one more distinct margin at a time
        return Cut(float(margins[0]), np.inf).at()
    end = int(ends[best[0] - 1])
    return Cut(float(margins[end + 1]) if end + 1 < margins.size else -np.inf, float(margins[end])).at()


def platt_expected_cut(rows: Rows, objective: Objective) -> float:
    """Return the best cut in expectation under probabilities that Platt's map has fitted to these rows.

    Raises: as `expected_cut`; `NotConverged`.
    """
    a, b = fit_platt(rows.margins, rows.is_positive, rows.weights)
    return (expected_cut(replace(rows, margins=a * rows.margins.astype(np.float64) + b), objective) - b) / a


def _spread(tp: Float64[np.ndarray, "m"]) -> Int[np.ndarray, "fewer"]:
    """Ten thousand cuts that share the expected positives evenly, and as many that share all cuts."""
    by_positives = np.searchsorted(tp, np.linspace(0, tp[-1], _CANDIDATES))
    return np.union1d(by_positives, np.linspace(0, tp.size - 1, _CANDIDATES).astype(np.intp))
