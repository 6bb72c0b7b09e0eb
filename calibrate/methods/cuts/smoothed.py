"""The best cut of class-conditional margins that are smoothed by a Gaussian kernel.

Each class has the width of Silverman's rule, 0.9 min(sd, IQR / 1.349) n^(-1/5), a class without width that of the
other. The smoothed classes are evaluated at 256 places over the positives and 256 over all rows; where a class has more
rows than that takes, the rows between two places stand at their mean.

Source: Silverman, "Density estimation for statistics and data analysis" (1986), eq. 3.31.
"""

import math

import numpy as np
from jaxtyping import Bool, Float64

from calibrate.counts import Counts
from calibrate.methods.cuts.profile import best_of_each, counts_at
from calibrate.objective import Objective
from calibrate.sweep import Rows, sweep_cut

_PLACES = 256
_REACH = 3.0  # widths beyond the outermost rows


def smoothed_cut(rows: Rows, objective: Objective) -> float:
    """The place of the best cut of the smoothed rows; the exact cut where no class has a width.

    Raises: `UndefinedMetric`.
    """
    sides, widths = sides_and_widths(rows)
    if not max(widths) > 0:
        return sweep_cut(rows, objective).at()
    places = np.union1d(_span(sides[:1], widths), _span(sides, widths))[::-1]
    below = np.stack([s.below(places, w, s.weights) for s, w in zip(sides, widths, strict=True)], axis=-1)
    totals = np.array([[[side.weights.sum() for side in sides]]])
    counts = counts_at(below[np.newaxis], totals, objective.positive)
    if objective.reads("amounts"):
        amounts = [np.zeros_like(s.weights) if s.amounts is None else s.amounts for s in sides]
        parts = [s.below(places, w, a) for s, w, a in zip(sides, widths, amounts, strict=True)]
        of_amounts = counts_at(
            np.stack(parts, axis=-1)[np.newaxis], np.array([[[a.sum() for a in amounts]]]), objective.positive
        )
        counts = Counts(counts.hits, counts.predicted, counts.actual, amounts=of_amounts)
    _, best = best_of_each(objective.score(counts), objective)
    return float(places[best[0]])


def sides_and_widths(rows: Rows) -> tuple[list["Side"], list[float]]:
    """Return the positives and the negatives, and the kernel width of each; both are 0 where no class has a width."""
    sides = [Side.of(rows, of_side) for of_side in (rows.is_positive, ~rows.is_positive)]
    widths = [side.width() for side in sides]
    return sides, [width or max(widths) for width in widths]


class Side:
    """The rows of one class: margins (n,) ascending, with weights and amounts."""

    def __init__(
        self,
        margins: Float64[np.ndarray, "n"],
        weights: Float64[np.ndarray, "n"],
        amounts: Float64[np.ndarray, "n"] | None,
    ) -> None:
        self.margins, self.weights, self.amounts = margins, weights, amounts

    @classmethod
    def of(cls, rows: Rows, which: Bool[np.ndarray, "n"]) -> "Side":
        """Those rows."""
        some = rows.some(which)
        if some.weights is None and some.amounts is None:  # sorting is several times as fast as argsort
            margins = np.sort(some.margins).astype(np.float64)
            return cls(margins, np.ones(margins.size), None)
        order = np.argsort(some.margins)
        margins = some.margins[order].astype(np.float64)
        weights = np.ones(margins.size) if some.weights is None else some.weights[order]
        return cls(margins, weights, None if some.amounts is None else some.amounts[order])

    def width(self) -> float:
        """Silverman's width; 0 where there is none."""
        total = self.weights.sum()
        if total <= 0:
            return 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self.weights @ self.margins / total
            spread = math.sqrt(self.weights @ (self.margins - mean) ** 2 / total)
        share = np.cumsum(self.weights) / total
        low, high = self.margins[np.minimum(np.searchsorted(share, (0.25, 0.75)), self.margins.size - 1)]
        middle = (high - low) / 1.349
        effective = total**2 / (self.weights @ self.weights)
        width = 0.9 * (min(spread, middle) if middle > 0 else spread) * effective**-0.2
        return float(width) if math.isfinite(width) else 0.0

    def below(
        self, places: Float64[np.ndarray, "m"], width: float, values: Float64[np.ndarray, "n"]
    ) -> Float64[np.ndarray, "m"]:
        """The sum of smoothed values below each place (descending)."""
        from scipy.special import ndtr  # takes 0.4 s to import, and a server is ready before it needs it

        margins = self.margins
        if margins.size > 2 * places.size:
            ends = np.searchsorted(margins, places[::-1])  # both ascend, so few searches do for many rows
            bins = np.repeat(np.arange(places.size + 1), np.diff(ends, prepend=0, append=margins.size))
            weights, count = np.bincount(bins, self.weights), np.bincount(bins)
            mean = np.bincount(bins, self.weights * margins) / np.where(weights > 0, weights, 1.0)
            mean = np.where(weights > 0, mean, np.bincount(bins, margins) / np.maximum(count, 1))
            margins, values = mean[count > 0], np.bincount(bins, values)[count > 0]
        return np.asarray(ndtr((places[:, np.newaxis] - margins) / width) @ values)


def _span(sides: list[Side], widths: list[float]) -> Float64[np.ndarray, "m"]:
    ends = [(side.margins[0], side.margins[-1]) for side in sides if side.margins.size]
    beyond = _REACH * max(widths)
    return np.linspace(min(low for low, _ in ends) - beyond, max(high for _, high in ends) + beyond, _PLACES)
