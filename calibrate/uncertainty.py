"""Intervals around measured metrics.

A share of rows has the exact interval of Clopper and Pearson. For everything else confusion counts are drawn
(`calibrate.draws`), and the interval runs from the lower percentile of the least favourable draws to the upper one of
the most favourable. A metric of one class among many is drawn from the table of that class against the rest, as in two
classes. Of a metric of many classes the percentiles also make up for the bias of the draws. The worst class of several
has the bounds that hold for whichever class it is.

Sums of amounts are drawn cell by cell from gamma distributions with the mean and the variance that a bootstrap of the
rows gives them, so no row is touched again. Weighted rows count as fewer: each class's part of a table is scaled to
Kish's effective number of its rows, so weights that are the same within a class (a change of prevalence) lose nothing;
a share whose trials mix classes that are weighted differently is no binomial share, and is drawn too. All of it is
pointwise: each interval covers its own number, not all of them at once.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from calibrate.bands import has_band, rectangle_band, simultaneous_band
from calibrate.counts import Counts
from calibrate.draws import draw_counts
from calibrate.metrics import Metric, Ratio

Kind = Literal["held_out", "optimism_corrected", "simultaneous", "cross_fitted", "certified", "submitted"]
_DRAWS = 1000
_ALIKE = 1.25


@dataclass(frozen=True)
class Interval:
    """A measured number: its value, the interval around it at `confidence`, and where it comes from.

    `rows` is how many rows it rests on (for recall the positives, for precision the alerts). NaN where undefined.
    `kind` says what it is about and which rows it comes from:

    - `held_out`: this point, on rows that did not fit it;
    - `optimism_corrected`: this point, on its fitting rows, less what choosing it on them flatters (`optimism`);
    - `simultaneous`: this point, on its fitting rows, by bands that hold wherever the cut was chosen;
    - `cross_fitted`: the procedure that chose the point, not this very point;
    - `certified`: a guarantee;
    - `submitted`: from outside.
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
    """Return the exact two-sided interval of a binomial share; (NaN, NaN) without trials. Effective numbers need not be
    whole.

    Source: Clopper & Pearson (1934), in the form of beta quantiles.
    """
    tail = (1 - confidence) / 2
    return exact_bounds(successes, trials, tail, tail)


def exact_bounds(successes: float, trials: float, low_tail: float, high_tail: float) -> tuple[float, float]:
    """Return the one-sided exact bounds of a binomial share, each with its own tail probability."""
    from scipy.special import betaincinv  # takes 0.4 s to import, and a server is ready before it needs it

    if trials <= 0:
        return math.nan, math.nan
    successes = min(successes, trials)
    low = float(betaincinv(successes, trials - successes + 1, low_tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - high_tail)) if successes < trials else 1.0
    return low, high


@dataclass(frozen=True, eq=False)
class Table:
    """Decisions on some rows, as all that evidence needs of them.

    `confusion` (k, k) is the weight with which each label (row) was decided as each class (column); `per_weight` (k,)
    how many rows' worth of information a unit of weight is in each class (`rows_per_weight`; None: 1, no weights).
    Where there are amounts, `amounts` (2, 2) is their sum over label (is it `positive`?) and decision (is it?),
    `squares` that of their squares. `information` (k,) is the share of a row's information that is left where the
    table was corrected for optimism (None: all). With `known_prevalence` the weight of each class is known, not drawn.
    """

    confusion: Float64[np.ndarray, "k k"]
    per_weight: Float64[np.ndarray, "k"] | None = None
    cost_matrix: Float64[np.ndarray, "k k"] | None = None
    positive: int = 1
    amounts: Float64[np.ndarray, "2 2"] | None = None
    squares: Float64[np.ndarray, "2 2"] | None = None
    information: Float64[np.ndarray, "k"] | None = None
    known_prevalence: bool = False

    @property
    def counts(self) -> Counts:
        """The counts of the decisions."""
        counts = Counts.of_confusion(self.confusion, cost_matrix=self.cost_matrix)
        if self.amounts is None:
            return counts
        return replace(counts, amounts=self.amount_counts(self.amounts))

    @property
    def worth(self) -> Float64[np.ndarray, "k"]:
        """How many rows a unit of weight is, class by class."""
        return np.ones(self.confusion.shape[0]) if self.per_weight is None else self.per_weight

    @property
    def effective(self) -> Float64[np.ndarray, "k"]:
        """How many rows of information a unit of weight holds, class by class: `worth` times `information`."""
        return self.worth if self.information is None else self.worth * self.information

    @property
    def class_counts(self) -> Counts:
        """The counts of the rows of each true class alone, (k, k)."""
        rows = self.confusion.sum(axis=1)
        return Counts(np.diag(np.diag(self.confusion)), self.confusion, np.diag(rows))

    def draw(self, draws: int, rng: np.random.Generator) -> list[Counts]:
        """Draw counts (draws, k) that these rows leave possible, for each place of the doubt (`calibrate.draws`)."""
        drawn = draw_counts(
            self.confusion,
            self.effective,
            draws,
            rng,
            known_prevalence=self.known_prevalence,
            cost_matrix=self.cost_matrix,
        )
        if self.amounts is None or self.squares is None:
            return drawn
        amounts = self.amount_counts(_draw_amounts(self.amounts, self.squares, draws, rng))
        return [replace(counts, amounts=amounts) for counts in drawn]

    def draw_class(self, index: int, draws: int, rng: np.random.Generator) -> list[Counts]:
        """Draw counts of one class against the rest, as with two classes; the rest stands in another class's column."""
        k = self.confusion.shape[0]
        is_it = np.arange(k) == index
        sides = [np.flatnonzero(~is_it), np.flatnonzero(is_it)]
        pairs = np.array([[self.confusion[np.ix_(a, b)].sum() for b in sides] for a in sides])
        rows, effective = self.confusion.sum(axis=1), self.effective
        worth = np.array([joint_worth(rows[side], effective[side]) for side in sides])
        drawn = draw_counts(pairs, worth, draws, rng, known_prevalence=self.known_prevalence)
        return [beside_rest(each, index, k) for each in drawn]

    def amount_counts(self, amounts: Float64[np.ndarray, "*draws 2 2"]) -> Counts:
        """Amounts of the positive class against the rest, with the rest in some other class's place."""
        k, other = self.confusion.shape[0], 0 if self.positive else 1
        table = np.zeros((*amounts.shape[:-2], k, k))
        places = [other, self.positive]
        table[..., np.ix_(places, places)[0], np.ix_(places, places)[1]] = amounts
        return Counts.of_confusion(table)


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
    """Return each metric of the decisions with its interval, by name.

    An interval does not depend on which other metrics are asked for. Those of the kind `simultaneous` are bands that
    hold wherever the cut was chosen, in two classes.
    """
    if kind == "simultaneous":
        return _simultaneous(table, metrics, confidence)
    counts = table.counts
    bounds = _Bounds(table, int(rng.integers(2**63)))
    tail = (1 - confidence) / 2
    measured = {}
    for metric in metrics:
        value = float(metric.value(counts))
        low, high = bounds.of(metric, value, tail)
        measured[metric.name] = Interval(value, low, high, confidence, rows_of(metric, table), kind)
    return measured


def rows_of(metric: Metric, table: Table) -> int:
    """Return how many rows a metric rests on: the trials of a share (the positives, the alerts), else all rows."""
    if metric.rate is None:
        return round(float(table.confusion.sum(axis=1) @ table.worth))
    return round(_share(metric.rate, table, table.worth).trials)


def _simultaneous(table: Table, metrics: Iterable[Metric], confidence: float) -> dict[str, Interval]:
    """The bands of both rates at the decided cut, and what share is positive; the three split the doubt.

    A metric that is not known to move one way with each rate has no interval.
    """
    rows, worth = table.confusion.sum(axis=1), table.worth
    effective = np.maximum(1, np.rint(rows * worth)).astype(int)
    each = 1 - (1 - confidence) / (2 if table.known_prevalence else 3)
    first, second = (
        simultaneous_band(table.confusion[label, 1:] * worth[label], int(effective[label]), each) for label in (0, 1)
    )  # of the share decided as the second class, in either class
    shares = [float(rows[1] / rows.sum())]
    if not table.known_prevalence:
        all_rows = float(rows.sum() ** 2 / (rows / worth).sum())
        shares += clopper_pearson(all_rows * shares[0], all_rows, each)
    measured = {}
    for metric in metrics:
        value = float(metric.value(table.counts))
        low, high = math.nan, math.nan
        if has_band(metric) and not math.isnan(value):
            bands = [_rectangle(metric, first, second, share) for share in shares]
            low, high = min(value, *(band[0] for band in bands)), max(value, *(band[1] for band in bands))
        measured[metric.name] = Interval(value, low, high, confidence, rows_of(metric, table), "simultaneous")
    return measured


_Band = tuple[Float64[np.ndarray, "1"], Float64[np.ndarray, "1"]]


def _rectangle(metric: Metric, first: _Band, second: _Band, share: float) -> tuple[float, float]:
    """The lowest and highest value of a metric over both rates, where the second class is this frequent."""
    if metric.positive == 1:
        low, high = rectangle_band(metric, second, first, share, 1)
    else:
        swapped = (1 - first[1], 1 - first[0]), (1 - second[1], 1 - second[0])
        low, high = rectangle_band(metric, *swapped, 1 - share, 0)
    return float(low[0]), float(high[0])


class _Bounds:
    """The bounds of any metric of one table; counts are drawn when a metric first needs them."""

    def __init__(self, table: Table, seed: int) -> None:
        self._table, self._seed = table, seed
        self._of_class: dict[int, list[Counts]] = {}

    @cached_property
    def _drawn(self) -> list[Counts]:
        return self._table.draw(_DRAWS, np.random.default_rng(self._seed))

    def of(self, metric: Metric, value: float, tail: float) -> tuple[float, float]:
        """Return the lower and the upper bound, each with this tail probability; (NaN, NaN) where undefined."""
        if metric.each_class:
            return self._of_worst(metric, value, tail)
        return self._one(metric, value, tail, tail)

    def _of_worst(self, metric: Metric, value: float, tail: float) -> tuple[float, float]:
        """The bounds of the worst class, whichever it is.

        The true worst class lies beyond the bound of its own class on the bad side with the tail probability, so the
        worst of those bounds is beyond it no more often. On the good side every class must hold, so they share it.
        """
        if math.isnan(value):
            return math.nan, math.nan
        counts, k = self._table.counts, len(metric.each_class)
        tails = (tail, tail / k) if metric.larger_is_better else (tail / k, tail)
        ends = [self._one(each, float(each.value(counts)), *tails) for each in metric.each_class]
        lows, highs = np.transpose(ends)
        pick = np.min if metric.larger_is_better else np.max
        return float(pick(lows)), float(pick(highs))

    def _one(self, metric: Metric, value: float, low_tail: float, high_tail: float) -> tuple[float, float]:
        share = None if metric.rate is None else _share(metric.rate, self._table, self._table.effective)
        if share is not None and share.binomial:
            return exact_bounds(share.successes, share.trials, low_tail, high_tail)
        if not self._table.confusion.any(axis=1).all():
            return math.nan, math.nan  # of a class without rows it is unknown how they would be decided
        alone = metric.of_class is not None and self._table.confusion.shape[0] > 2
        drawn = self._against_rest(metric.of_class) if alone and metric.of_class is not None else self._drawn
        values = [metric.value(counts) for counts in drawn]
        if self._table.confusion.shape[0] > 2 and not alone:
            return bounds_of_mean(value, values, low_tail, high_tail)
        return bounds_of(value, values, low_tail, high_tail)

    def _against_rest(self, index: int) -> list[Counts]:
        if index not in self._of_class:
            rng = np.random.default_rng([self._seed, index + 1])
            self._of_class = {index: self._table.draw_class(index, _DRAWS, rng)}  # of many classes only the last
        return self._of_class[index]


def bounds_of_mean(
    value: float, drawn: Sequence[Float64[np.ndarray, "draws"]], low_tail: float, high_tail: float
) -> tuple[float, float]:
    """Return `bounds_of` a mean over many classes: those of the plain percentiles and those that make up for a median
    bias, whichever reach further. The bias of the draws against the value is taken to be that of the value against the
    truth.

    A concave mean (G-mean, macro-F1) is biased downwards by what its rates vary, once in the measured value and again
    in the draws: with 50 classes of 50 rows the plain percentiles held the G-mean in 88 to 92 %.

    Source: Efron (1981), "Nonparametric standard errors and confidence intervals": the bias-corrected percentiles.
    """
    from scipy.special import ndtr, ndtri

    every = np.concatenate(drawn)
    every = every[~np.isnan(every)]
    if not every.size:
        return math.nan, math.nan
    low, high = bounds_of(value, drawn, low_tail, high_tail)
    below = float((every < value).mean() + (every == value).mean() / 2)
    shift = 2 * float(ndtri(np.clip(below, 0.02, 0.98)))
    tails = float(ndtr(shift + ndtri(low_tail))), float(ndtr(-shift + ndtri(high_tail)))
    unbiased = bounds_of(value, drawn, *tails)
    return min(low, unbiased[0]), max(high, unbiased[1])


def bounds_of(
    value: float, drawn: Sequence[Float64[np.ndarray, "draws"]], low_tail: float, high_tail: float
) -> tuple[float, float]:
    """Return the lowest lower and the highest upper percentile of several sets of draws, NaN left out.

    At an end of the scale the draws may all lie to one side of the value, which is part of the interval. (NaN, NaN)
    where the value is NaN or no draw is defined.
    """
    kept = [draws[~np.isnan(draws)] for draws in drawn]
    kept = [draws for draws in kept if draws.size]
    if not kept or math.isnan(value):
        return math.nan, math.nan
    lows, highs = np.transpose([np.quantile(draws, (low_tail, 1 - high_tail)) for draws in kept])
    return min(float(lows.min()), value), max(float(highs.max()), value)


def interval_of(value: float, drawn: Float64[np.ndarray, "draws"], confidence: float = 0.95) -> tuple[float, float]:
    """Return `bounds_of` one set of draws at equal tails."""
    tail = (1 - confidence) / 2
    return bounds_of(value, [drawn], tail, tail)


class _Share(NamedTuple):
    """Effective successes and trials, and whether they are those of one binomial share."""

    successes: float
    trials: float
    binomial: bool


def _share(rate: Ratio, table: Table, worth: Float64[np.ndarray, "k"]) -> _Share:
    """A share in effective rows: binomial where the classes that its trials come from are weighted alike.

    Weights that have nothing to do with the class leave the classes nearly alike, and how many of each there are is
    chance too; weights by class (a prevalence, a sample of the negatives) do not, and there it is not.
    """
    trials, successes = rate.trials(table.class_counts), rate.successes(table.class_counts)
    there = trials > 0
    if not there.any():
        return _Share(0.0, 0.0, True)
    of_these = worth[there]
    if of_these.max() > _ALIKE * of_these.min():
        return _Share(float(successes @ worth), float(trials @ worth), False)
    number = float(trials.sum() ** 2 / (trials[there] / of_these).sum())  # Kish, over all of them
    return _Share(number * float(successes.sum() / trials.sum()), number, True)


def joint_worth(rows: Float64[np.ndarray, "m"], worth: Float64[np.ndarray, "m"]) -> float:
    """Return how many rows a unit of weight is worth over several classes together (Kish)."""
    total = float(rows.sum())
    return total / float((rows / worth).sum()) if total > 0 else 1.0


def beside_rest(pair: Counts, index: int, k: int) -> Counts:
    """Return counts of (rest, class) as counts of k classes, the rest in another class's column."""
    hits, predicted, actual = (_spread_out(each, index, k) for each in (pair.hits, pair.predicted, pair.actual))
    return Counts(hits, predicted, actual)


def _spread_out(pairs: Float64[np.ndarray, "draws 2"], index: int, k: int) -> Float64[np.ndarray, "draws k"]:
    """Columns (rest, class) as k columns, the rest beside the class."""
    values = np.zeros((pairs.shape[0], k))
    values[:, index], values[:, (index + 1) % k] = pairs[:, 1], pairs[:, 0]
    return values


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
