"""Drawn scores whose distributions are known, so that the population value of every cut is a closed form.

A shape is one distribution of scores per class and a model: the margin `slope * score + intercept`. The line is that of
the best logistic model of the population at its prevalence, times a stretch (2 is an overconfident model); the
beta-like probabilities keep their own logits, as those of a random forest would be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta, expon, gamma, gumbel_r, norm, t

from calibrate.maps import logistic_line
from calibrate.methods.cuts.profile import counts_at
from calibrate.objective import Objective
from calibrate.sweep import Rows

Values = NDArray[np.float64]
_QUANTILES = (np.arange(4000) + 0.5) / 4000


@dataclass(frozen=True)
class Scores:
    """The distribution of one class: the share at or below a score, and the score at a quantile."""

    below: Callable[[Values], Values]
    at: Callable[[Values], Values]

    def draw(self, rng: np.random.Generator, n: int) -> Values:
        """Return n scores."""
        return self.at(rng.random(n))


@dataclass(frozen=True)
class Shape:
    """The scores of both classes and the stretch of the model's logits; None keeps the scores as logits."""

    name: str
    positives: Scores
    negatives: Scores
    stretch: float | None = 1.0

    def population(self, prevalence: float) -> "Population":
        """Return the shape at a share of positives."""
        if self.stretch is None:
            return Population(self, prevalence, 1.0, 0.0)
        slope, intercept = _line(self, prevalence)
        return Population(self, prevalence, self.stretch * slope, self.stretch * intercept)


@dataclass(frozen=True)
class Population:
    """A shape at a prevalence, with margins `slope * score + intercept`."""

    shape: Shape
    prevalence: float
    slope: float
    intercept: float

    def draw(self, positives: int, rng: np.random.Generator) -> Rows:
        """Return rows with that many positives, and negatives in proportion."""
        negatives = round(positives * (1 - self.prevalence) / self.prevalence)
        scores = [self.shape.positives.draw(rng, positives), self.shape.negatives.draw(rng, negatives)]
        is_positive = np.arange(positives + negatives) < positives
        return Rows(self.slope * np.concatenate(scores) + self.intercept, is_positive)

    def shares_below(self, cuts: Sequence[float] | Values) -> Values:
        """Return the shares (m, 2) of positives and of negatives that are not above each cut on the margin."""
        scores = (np.asarray(cuts, dtype=np.float64) - self.intercept) / self.slope
        return np.stack([self.shape.positives.below(scores), self.shape.negatives.below(scores)], axis=-1)

    def values(self, objective: Objective, cuts: Sequence[float] | Values) -> Values:
        """Return the metric of the whole population at each cut."""
        totals = np.array([self.prevalence, 1 - self.prevalence])
        below = self.shares_below(cuts)[np.newaxis] * totals
        counts = counts_at(below, totals[np.newaxis, np.newaxis], objective.positive)
        return np.asarray(objective.metric.value(counts)[0])

    def decides_none(self, cut: float, positives: int) -> float:
        """Return the probability that no row of a new sample with that many positives is above the cut."""
        negatives = round(positives * (1 - self.prevalence) / self.prevalence)
        of_positives, of_negatives = self.shares_below([cut])[0]
        return float(of_positives**positives * of_negatives**negatives)


@cache
def _line(shape: Shape, prevalence: float) -> tuple[float, float]:
    scores = np.concatenate([shape.positives.at(_QUANTILES), shape.negatives.at(_QUANTILES)])
    labels = np.repeat([1.0, 0.0], _QUANTILES.size)
    weights = np.repeat([prevalence, 1 - prevalence], _QUANTILES.size)
    return logistic_line(scores, labels, weights)


def _of(distribution: object) -> Scores:
    return Scores(distribution.cdf, distribution.ppf)  # type: ignore[attr-defined]


def _mixture(share: float, first: Scores, second: Scores) -> Scores:
    """A share of the first, the rest of the second; quantiles by interpolation on a fine grid."""
    ends = [float(part.at(np.array([q]))[0]) for part in (first, second) for q in (1e-9, 1 - 1e-9)]
    grid = np.linspace(min(ends), max(ends), 200_001)
    below = share * first.below(grid) + (1 - share) * second.below(grid)
    return Scores(
        lambda x: share * first.below(x) + (1 - share) * second.below(x),
        lambda q: np.interp(q, below, grid),
    )


def _rounded(scores: Scores, step: float) -> Scores:
    return Scores(
        lambda x: scores.below((np.floor(x / step) + 0.5) * step),
        lambda q: np.round(scores.at(q) / step) * step,
    )


def _logit_of_beta(a: float, b: float) -> Scores:
    return Scores(lambda x: beta.cdf(expit(x), a, b), lambda q: logit(np.clip(beta.ppf(q, a, b), 1e-12, 1 - 1e-12)))


_ZERO, _TWO = _of(norm()), _of(norm(2))
SHAPES = (
    Shape("equal normals", _TWO, _ZERO),
    Shape("near normals", _of(norm(1)), _ZERO),
    Shape("far normals", _of(norm(4)), _ZERO),
    Shape("unequal variances", _of(norm(2, 2)), _ZERO),
    Shape("heavy tails", _of(t(3, 2)), _of(t(3))),
    Shape("mixture", _mixture(0.6, _of(norm(3)), _ZERO), _ZERO),
    Shape("skewed", _of(gamma(4)), _of(expon())),
    Shape("long right tail", _of(gumbel_r(3)), _of(gumbel_r())),
    Shape("scores in steps", _rounded(_TWO, 0.5), _rounded(_ZERO, 0.5)),
    Shape("overconfident", _TWO, _ZERO, stretch=2.0),
    Shape("underconfident", _TWO, _ZERO, stretch=0.5),
    Shape("beta-like probabilities", _logit_of_beta(2, 4), _logit_of_beta(0.7, 12), stretch=None),
)
