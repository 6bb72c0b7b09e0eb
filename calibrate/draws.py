"""Draw confusion counts from what the rows at hand leave possible.

Within a true class, the rates of its decisions are drawn from `Dirichlet(counts)` with one more row of doubt, placed
once on the right decision and once on a wrong one. Both ends of an interval then come from the less favourable place:
with two classes this is Walley's imprecise Dirichlet model with s = 1, whose bounds for a single share are those of
Clopper and Pearson. A symmetric prior (Jeffreys) has its nominal coverage only on average over possible truths, and its
pseudo-counts bias a mean over many classes; so with k > 2 classes the doubt is 2/k of a row, the same in all.

The number of rows of each class is drawn too, `Gamma(rows)`: in new data it varies as well. Where a prevalence is given
it is held. Weighted rows count as fewer (`worth`: how many rows a unit of weight is worth in each class).

Measured (a fixed point on 800 held-out rows, 5 % positive): with class counts held, the 95 % interval of F1 covers 52
to 83 % and that of the cost 78 %; with class counts drawn, 94 to 97 %.

Source: Walley (1996), "Inferences from multinomial data: learning about a bag of marbles"; Rubin (1981).
"""

from itertools import product

import numpy as np
from jaxtyping import Float64

from calibrate.counts import Counts


def doubt_rows(k: int) -> float:
    """Return how many rows of doubt each of k classes gets: 1 with two classes, 2/k with more."""
    return 2 / k


def corners(k: int) -> Float64[np.ndarray, "c k"]:
    """Return where the doubt of each class may go, a row each: 1 to the right decision, 0 to a wrong one.

    All combinations of two classes, since a metric such as the alert rate rises with one and falls with the other; of
    more, all right and all wrong.
    """
    if k == 2:
        return np.array(list(product((0.0, 1.0), repeat=2)))
    return np.array([np.zeros(k), np.ones(k)])


def draw_counts(
    confusion: Float64[np.ndarray, "k k"],
    worth: Float64[np.ndarray, "k"],
    draws: int,
    rng: np.random.Generator,
    *,
    known_prevalence: bool = False,
    cost_matrix: Float64[np.ndarray, "k k"] | None = None,
) -> list[Counts]:
    """Return counts (draws, k) for each of the `corners`, all from the same draws.

    Args:
        confusion: the weight with which each class (row) was decided as each class (column).
        worth: how many rows a unit of weight is worth, by class.
        draws: how many.
        rng: the source of chance.
        known_prevalence: whether the weight of each class is known (a prevalence) rather than drawn.
        cost_matrix: the cost of each decision (row) for each class (column), where the counts need it.
    """
    k = confusion.shape[0]
    actual = confusion.sum(axis=1)
    hits, predicted, doubt, total = (np.zeros((draws, k)) for _ in range(4))
    cost = np.zeros(draws)
    for label in np.flatnonzero(actual > 0):
        row = confusion[label]
        seen = np.flatnonzero(row)
        cells = rng.standard_gamma(row[seen] * worth[label], size=(draws, seen.size))
        extra = rng.standard_gamma(doubt_rows(k), size=draws)
        total[:, label] = class_totals(actual[label], worth[label], draws, rng, known_prevalence)
        scale = total[:, label] / (cells.sum(axis=1) + extra)
        cells *= scale[:, np.newaxis]
        doubt[:, label] = extra * scale
        predicted[:, seen] += cells
        if row[label] > 0:
            hits[:, label] = cells[:, int(np.searchsorted(seen, label))]
        if cost_matrix is not None:
            cost += cells @ cost_matrix[seen, label]
    if not known_prevalence:
        whole = actual.sum() / total.sum(axis=1, keepdims=True)
        for values in (hits, predicted, doubt, total):
            values *= whole
        cost *= whole[:, 0]
    drawn = []
    for right in corners(k):
        wrong = doubt * (1 - right)
        spread = (wrong.sum(axis=1, keepdims=True) - wrong) / (k - 1)
        costs = None
        if cost_matrix is not None:
            costs = cost + (doubt * right) @ np.diagonal(cost_matrix) + wrong @ wrong_costs(cost_matrix)
        drawn.append(Counts(hits + doubt * right, predicted + doubt * right + spread, total, costs))
    return drawn


def class_totals(
    actual: float, worth: float, draws: int, rng: np.random.Generator, known_prevalence: bool
) -> Float64[np.ndarray, "draws"]:
    """Return the weight of one class in each draw: its weight where it is known, else drawn as its rows vary."""
    if known_prevalence:
        return np.full(draws, float(actual))
    return rng.standard_gamma(actual * worth, size=draws) / worth


def wrong_costs(cost_matrix: Float64[np.ndarray, "k k"]) -> Float64[np.ndarray, "k"]:
    """Return the mean cost of a wrong decision for each true class."""
    k = cost_matrix.shape[0]
    return np.asarray((cost_matrix.sum(axis=0) - np.diagonal(cost_matrix)) / (k - 1))
