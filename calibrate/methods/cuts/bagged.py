"""The mean of bootstrap-optimal cuts.

The rows between two neighbouring candidates are one bin, so a draw is a multinomial count per bin and class, and all
draws are one array of cumulative sums: no row is resampled. Of a class the number of rows is held. Weighted rows of a
bin count as their effective number, sum(w)^2 / sum(w^2), each with its share of the bin's weight. Many candidates are
thinned evenly: a thousandth of the positives is far below what chance moves.

Source: Breiman, "Bagging predictors" (1996), of the argmax of a curve.
"""

import numpy as np
from jaxtyping import Float, Float64

from calibrate.counts import Counts
from calibrate.methods.cuts.profile import best_of_each, counts_at
from calibrate.objective import Objective
from calibrate.sweep import Rows, Tally, edges_of

DRAWS = 40
_CANDIDATES = 1000


def bagged_cut(rows: Rows, objective: Objective, rng: np.random.Generator | None = None) -> float:
    """The mean of the best cuts of 40 bootstrap draws within the classes; without `rng` always the same draws.

    Draws in which the metric is undefined everywhere are left out. Raises: `UndefinedMetric` where all are.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    edges = _edges(rows, objective)
    tally = Tally.at(edges)
    for chunk in rows.chunks():
        tally.add(chunk)
    below, below_of_amounts = _draw(rows, edges, objective.reads("amounts"), rng)
    totals = below[:, -1:]
    counts = counts_at(below[:, ::-1], totals, objective.positive)
    if below_of_amounts is not None:
        amounts = counts_at(below_of_amounts[:, ::-1], below_of_amounts[:, -1:], objective.positive)
        counts = Counts(counts.hits, counts.predicted, counts.actual, amounts=amounts)
    _, best = best_of_each(objective.score(counts), objective)
    return float(np.mean([tally.cut(int(index)).at() for index in best]))


def _edges(rows: Rows, objective: Objective) -> Float[np.ndarray, "m"]:
    """The candidates of the sweep, or a thousand of them; of all distinct margins also those of positives."""
    edges = _thinned(edges_of(rows, every_cut=False))
    return edges if objective.monotone else np.union1d(edges, _thinned(edges_of(rows, every_cut=True)))


def _thinned(edges: Float[np.ndarray, "m"]) -> Float[np.ndarray, "fewer"]:
    if edges.size <= _CANDIDATES:
        return edges
    return edges[np.linspace(0, edges.size - 1, _CANDIDATES).round().astype(np.intp)]


def _draw(
    rows: Rows, edges: Float[np.ndarray, "m"], amounts: bool, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "draws m1 2"], Float64[np.ndarray, "draws m1 2"] | None]:
    """What lies below each edge, and in all, in each draw: weights, and amounts where they are read."""
    bins = edges.size + 1
    place = np.searchsorted(edges, rows.margins, side="right")
    below = np.zeros((DRAWS, bins, 2))
    below_of_amounts = np.zeros((DRAWS, bins, 2)) if amounts else None
    for side, of_side in enumerate((rows.is_positive, ~rows.is_positive)):
        # In units of the largest, so that equal weights of any size are draws of whole rows.
        weights = np.ones(int(of_side.sum())) if rows.weights is None else rows.weights[of_side] / rows.weights.max()
        weight = np.bincount(place[of_side], weights, bins)
        squares = np.bincount(place[of_side], weights**2, bins)
        effective = np.divide(weight**2, squares, out=np.zeros(bins), where=squares > 0)
        if not effective.any():
            continue
        drawn = rng.multinomial(round(effective.sum()), effective / effective.sum(), size=DRAWS)
        per_row = np.divide(weight, effective, out=np.zeros(bins), where=effective > 0)
        below[..., side] = np.cumsum(drawn * per_row, axis=1)
        if below_of_amounts is not None and rows.amounts is not None:
            amount = np.bincount(place[of_side], rows.amounts[of_side], bins)
            times = np.divide(drawn, effective, out=np.zeros(drawn.shape), where=effective > 0)
            below_of_amounts[..., side] = np.cumsum(times * amount, axis=1)
    return below, below_of_amounts
