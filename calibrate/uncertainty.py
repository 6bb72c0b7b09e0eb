"""Intervals around measured metrics.

A share of rows has the exact interval of Clopper and Pearson. For everything else the rates at which each true class is
decided as each class are drawn from their posterior under Jeffreys' prior, `Dirichlet(counts + 1/k)`, class by class,
with the number of rows of each class held. It is the stratified bootstrap of the rows with one row's worth of doubt
added, and that is the point: where every positive is found, the plain bootstrap never draws a miss. In simulation (38
positives, true recall 0.99) its 95 % interval of the G-mean covered 31 to 79 %, this one 96 to 97 %; `tests/statistics`
holds such cases. Sums of amounts are drawn cell by cell from gamma distributions with the mean and the variance that a
bootstrap of the rows gives them, so no row is touched again. Weighted rows count as fewer: each class's part of a table
is scaled to Kish's effective number of its rows, so weights that are the same within a class (a change of prevalence)
lose nothing; a share whose trials mix classes that are weighted differently is no binomial share, and is drawn too. All
of it is pointwise: each interval covers its own number, not all of them at once.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from calibrate.counts import Counts
from calibrate.metrics import Metric, Ratio

Kind = Literal["held_out", "cross_fitted", "certified", "submitted"]
_DRAWS = 1000
_ALIKE = 1.25


@dataclass(frozen=True)
class Interval:
    """A measured number: its value, the interval around it at `confidence`, and where it comes from.

    `rows` is how many rows it rests on (for recall the positives, for precision the alerts). `kind` says which rows:
    `held_out` did not fit this point, `cross_fitted` scores the procedure and not this very point, `certified` is a
    guarantee, `submitted` came from outside. NaN where undefined.
    """

    value: float
    low: float
    high: float
    confidence: float
    rows: int
    kind: Kind

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, None for NaN."""
        return {
            "value": _or_none(self.value),
            "low": _or_none(self.low),
            "high": _or_none(self.high),
            "confidence": self.confidence,
            "rows": self.rows,
            "kind": self.kind,
        }


def clopper_pearson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share; (NaN, NaN) without trials. Effective numbers need not be whole.

    Source: Clopper & Pearson (1934), in the form of beta quantiles.
    """
    from scipy.special import betaincinv  # takes 0.4 s to import, and a server is ready before it needs it

    if trials == 0:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


@dataclass(frozen=True, eq=False)
class Table:
    """Decisions on some rows, as all that evidence needs of them.

    `confusion` (k, k) is the weight with which each label (row) was decided as each class (column); `per_weight` (k,)
    how many rows' worth of information a unit of weight is in each class (`rows_per_weight`; None: 1, no weights).
    Where there are amounts, `amounts` (2, 2) is their sum over label (is it `positive`?) and decision (is it?),
    `squares` that of their squares.
    """

    confusion: Float64[np.ndarray, "k k"]
    per_weight: Float64[np.ndarray, "k"] | None = None
    cost_matrix: Float64[np.ndarray, "k k"] | None = None
    positive: int = 1
    amounts: Float64[np.ndarray, "2 2"] | None = None
    squares: Float64[np.ndarray, "2 2"] | None = None

    @property
    def counts(self) -> Counts:
        """The counts of the decisions."""
        counts = Counts.of_confusion(self.confusion, cost_matrix=self.cost_matrix)
        if self.amounts is None:
            return counts
        return replace(counts, amounts=self.amount_counts(self.amounts))

    @property
    def worth(self) -> Float64[np.ndarray, "k"]:
        """How many rows a unit of weight is worth, class by class."""
        return np.ones(self.confusion.shape[0]) if self.per_weight is None else self.per_weight

    @property
    def class_counts(self) -> Counts:
        """The counts of the rows of each true class alone, (k, k)."""
        rows = self.confusion.sum(axis=1)
        return Counts(np.diag(np.diag(self.confusion)), self.confusion, np.diag(rows))

    def draw(self, draws: int, rng: np.random.Generator) -> Counts:
        """Counts (draws, k) that might as well have been seen, the number of rows of each true class kept."""
        counts = _draw_counts(self.confusion, self.worth, self.cost_matrix, draws, rng)
        if self.amounts is None or self.squares is None:
            return counts
        return replace(counts, amounts=self.amount_counts(_draw_amounts(self.amounts, self.squares, draws, rng)))

    def amount_counts(self, amounts: Float64[np.ndarray, "*draws 2 2"]) -> Counts:
        """Amounts of the positive class against the rest, with the rest in some other class's place."""
        k, other = self.confusion.shape[0], 0 if self.positive else 1
        table = np.zeros((*amounts.shape[:-2], k, k))
        places = [other, self.positive]
        table[..., np.ix_(places, places)[0], np.ix_(places, places)[1]] = amounts
        return Counts.of_confusion(table)


def _draw_counts(
    confusion: Float64[np.ndarray, "k k"],
    per_weight: Float64[np.ndarray, "k"],
    cost_matrix: Float64[np.ndarray, "k k"] | None,
    draws: int,
    rng: np.random.Generator,
) -> Counts:
    """The cells that hold nothing share their part of the prior evenly, in one draw: k may be a thousand."""
    k = confusion.shape[0]
    hits, predicted, cost = np.zeros((draws, k)), np.zeros((draws, k)), np.zeros(draws)
    for label in range(k):
        row = confusion[label]
        if not row.any():
            continue
        empty = np.flatnonzero((row == 0) & (np.arange(k) != label))
        seen = np.setdiff1d(np.arange(k), empty)
        weights = row[seen] * per_weight[label] + 1 / k
        drawn = rng.dirichlet(np.append(weights, empty.size / k) if empty.size else weights, size=draws) * row.sum()
        predicted[:, seen] += drawn[:, : seen.size]
        hits[:, label] = drawn[:, np.searchsorted(seen, label)]
        if empty.size:
            predicted[:, empty] += drawn[:, -1:] / empty.size
        if cost_matrix is not None:
            cost += drawn[:, : seen.size] @ cost_matrix[seen, label]
            cost += drawn[:, -1] * cost_matrix[empty, label].mean() if empty.size else 0.0
    return Counts(hits, predicted, confusion.sum(axis=1), None if cost_matrix is None else cost)


def _draw_amounts(
    amounts: Float64[np.ndarray, "2 2"], squares: Float64[np.ndarray, "2 2"], draws: int, rng: np.random.Generator
) -> Float64[np.ndarray, "draws 2 2"]:
    """Sums of amounts with the mean and variance of a Poisson bootstrap; an empty cell gets half a typical row."""
    drawn = np.zeros((draws, 2, 2))
    for label in range(2):
        total, square = amounts[label].sum(), squares[label].sum()
        if total == 0:
            continue
        typical = square / total
        for decided in range(2):
            mean, spread = amounts[label, decided], squares[label, decided]
            shape, scale = (mean**2 / spread, spread / mean) if mean > 0 else (0.5, typical)
            drawn[:, label, decided] = rng.gamma(shape, scale, size=draws)
    return drawn


def rows_per_weight(weight: Float64[np.ndarray, "k"], squares: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
    """How many rows' worth of information a unit of weight is in each class, from the sums of the weights of its rows
    and of their squares; 1 where there is none.

    Source: Kish (1965): the effective number of rows is sum(w)^2 / sum(w^2).
    """
    return np.asarray(np.divide(weight, squares, out=np.ones_like(weight), where=squares > 0))


def measure(
    table: Table, metrics: Iterable[Metric], kind: Kind, rng: np.random.Generator, confidence: float = 0.95
) -> dict[str, Interval]:
    """Each metric of the decisions with its interval, by name."""
    counts, all_rows = table.counts, round(float(table.confusion.sum(axis=1) @ table.worth))
    drawn_counts = table.draw(_DRAWS, rng)
    found = {}
    for metric in metrics:
        value, rows = float(metric.value(counts)), all_rows
        share = None if metric.rate is None else _share(metric.rate, table)
        if share is not None:
            rows = round(share.trials)
        if share is not None and share.binomial:
            low, high = clopper_pearson(share.successes, share.trials, confidence)
        else:
            low, high = interval_of(value, metric.value(drawn_counts), confidence)
        found[metric.name] = Interval(value, low, high, confidence, rows, kind)
    return found


def interval_of(value: float, drawn: Float64[np.ndarray, "draws"], confidence: float = 0.95) -> tuple[float, float]:
    """The percentiles of what was drawn, NaN left out; at an end of the scale the draws may all lie to one side of the
    value, which is part of the interval. (NaN, NaN) where the value is NaN.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size or math.isnan(value):
        return math.nan, math.nan
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return min(low, value), max(high, value)


class _Share(NamedTuple):
    """Effective successes and trials, and whether they are those of one binomial share."""

    successes: float
    trials: float
    binomial: bool


def _share(rate: Ratio, table: Table) -> _Share:
    """A share in effective rows: binomial where the classes that its trials come from are weighted alike.

    Weights that have nothing to do with the class leave the classes nearly alike, and how many of each there are is
    chance too; weights by class (a prevalence, a sample of the negatives) do not, and there it is not.
    """
    worth = table.worth
    trials, successes = rate.trials(table.class_counts), rate.successes(table.class_counts)
    there = trials > 0
    if not there.any():
        return _Share(0.0, 0.0, True)
    of_these = worth[there]
    if of_these.max() > _ALIKE * of_these.min():
        return _Share(float(successes @ worth), float(trials @ worth), False)
    number = float(trials.sum() ** 2 / (trials[there] / of_these).sum())  # Kish, over all of them
    return _Share(number * float(successes.sum() / trials.sum()), number, True)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
