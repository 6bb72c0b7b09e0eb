"""Bands that stay true when somebody drags a slider along the curve.

An interval of one point is wrong for a cut that was chosen after looking at the curve; a simultaneous band holds at all
cuts at once. The margins of one class, n of them, have their distribution function between the Beta quantiles of the
order statistics, `U_(i) ~ Beta(i, n + 1 - i)`, each at one and the same level a; a is what makes all n hold together.
Written for shares that is the interval of Clopper and Pearson at level a for each, so it is exact at every n, and with
ties and discrete margins conservative. It is narrower at the ends, where recall is looked at, than the band of
Dvoretzky, Kiefer and Wolfowitz.

Decided here: a comes from simulation with a fixed seed, a standard error of it on the safe side. Above 1,000 rows it is
found, and the band is drawn, at 1,000 ranks, evenly spread in the arc sine of the share; between two of them the band
is that of the outer ones, which is wider than it need be (at 10^6 rows by up to 0.002).

Source: Aldor-Noiman et al. (2013), "The Power to See: A New Graphical Test of Normality"; Owen (1995) for the idea.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int

from calibrate.counts import Counts
from calibrate.errors import WrongShape
from calibrate.metrics import Metric

_RANKS = 1000
_DRAWS = 2000
_STEPS = 10
_ROUNDING = 1e-6


@lru_cache(maxsize=256)
def simultaneous_level(n: int, confidence: float) -> float:
    """The level a of each side at which all order statistics of n uniforms lie inside together with this confidence."""
    ranks = _ranks(n)
    steps = np.diff(np.concatenate([[0], ranks, [n + 1]]))
    rng = np.random.default_rng(n)
    sums = np.cumsum(rng.standard_gamma(steps, size=(_DRAWS, steps.size)), axis=1)
    drawn = sums[:, :-1] / sums[:, -1:]
    wanted = (confidence + np.sqrt(confidence * (1 - confidence) / _DRAWS)) * _DRAWS
    surely = 0  # draws that are inside at any level that is still in question; those that are outside are left out
    low, high = np.log((1 - confidence) / (4 * n)), np.log((1 - confidence) / 2)  # Bonferroni, one rank alone
    for _ in range(_STEPS):
        middle = (low + high) / 2
        lower, upper = _quantiles(ranks, n, float(np.exp(middle)))
        inside = ((drawn >= lower) & (drawn <= upper)).all(axis=1)
        if surely + inside.sum() >= wanted:
            low, drawn = middle, drawn[inside]
        else:
            high, drawn, surely = middle, drawn[~inside], surely + int(inside.sum())
    return float(np.exp(low))


def simultaneous_band(
    successes: Float64[np.ndarray, "m"] | Int[np.ndarray, "m"], n: int, confidence: float
) -> tuple[Float64[np.ndarray, "m"], Float64[np.ndarray, "m"]]:
    """The band of a share at every cut at once: `successes` (m,) of the n rows of one class are beyond each cut; they
    need not be whole, where they are effective numbers of weighted rows.

    Raises: `WrongShape` where there are no rows, or the confidence is not between 0 and 1.

    >>> low, high = simultaneous_band(np.array([90]), 100, 0.95)
    >>> low.round(2), high.round(2)
    (array([0.77]), array([0.97]))
    """
    if n < 1 or not 0 < confidence < 1:
        raise WrongShape(f"a band needs rows and a confidence between 0 and 1, got {n} rows and {confidence}")
    ranks = _ranks(n)
    lower, upper = _quantiles(ranks, n, simultaneous_level(n, confidence))
    lower, upper = np.append(0.0, lower), np.append(upper, 1.0)
    counted = np.asarray(successes)
    below, above = np.floor(counted + _ROUNDING), np.ceil(counted - _ROUNDING)
    passed, reached = (np.searchsorted(ranks, each, side="right") for each in (below, above))  # ranks at most these
    return np.asarray(lower[passed]), np.asarray(upper[reached])


def rectangle_band(
    metric: Metric,
    tpr: tuple[Float64[np.ndarray, "m"], Float64[np.ndarray, "m"]],
    fpr: tuple[Float64[np.ndarray, "m"], Float64[np.ndarray, "m"]],
    prevalence: float,
    positive: int,
) -> tuple[Float64[np.ndarray, "m"], Float64[np.ndarray, "m"]]:
    """The band of a metric of two classes from those of its two rates, where a share `prevalence` is positive.

    A metric of the table moves one way with each rate, so its extremes are at the corners. `positive` is the index of
    the positive class.
    """
    corners = [
        metric.value(Counts.of_binary(prevalence * t, (1 - prevalence) * f, prevalence, 1 - prevalence, positive))
        for t in tpr
        for f in fpr
    ]
    return np.asarray(np.fmin.reduce(corners)), np.asarray(np.fmax.reduce(corners))  # these pass over NaN


def has_band(metric: Metric) -> bool:
    """Whether a metric is known to move one way with each rate: all of the table that count rows, none as written."""
    return metric.reads == "rows" and (metric.monotone or metric.of_positives or metric.symmetric)


def _ranks(n: int) -> Int[np.ndarray, "r"]:
    """The ranks from 1 to n at which a band is drawn: all, or some that are dense at both ends."""
    if n <= _RANKS:
        return np.arange(1, n + 1)
    spread = np.sin(np.linspace(0, np.pi / 2, _RANKS)) ** 2
    return np.unique(np.clip(np.rint(spread * n), 1, n).astype(np.int64))


def _quantiles(
    ranks: Int[np.ndarray, "r"], n: int, level: float
) -> tuple[Float64[np.ndarray, "r"], Float64[np.ndarray, "r"]]:
    from scipy.special import betaincinv

    return betaincinv(ranks, n + 1 - ranks, level), betaincinv(ranks, n + 1 - ranks, 1 - level)
