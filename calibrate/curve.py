"""The whole trade-off: every metric at every cut of a two-class model, in one table.

Nothing is thinned unless asked. A thinned curve keeps what a person looks for: both ends, the best cut of every metric,
the corners of the ROC curve's upper hull (the cuts that are best for some cost ratio), and so many more that no dropped
cut is further than `4 / points` of all positives and all negatives from a kept one.

The two rates of the curve do not depend on how frequent the positive class is, so the whole of it, bands included, can
be told for any other prevalence: `at_prevalence`.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import Bool, Float64, Int

from calibrate.ascent import Sample
from calibrate.bands import has_band, rectangle_band, simultaneous_band
from calibrate.cache import FeatureCache, check_every_class_has_rows
from calibrate.counts import Counts
from calibrate.errors import BadPrior, UnknownClass, WrongShape
from calibrate.logits import binary_margins, sigmoid
from calibrate.metrics import Metric
from calibrate.naming import MetricText, parse_metric
from calibrate.objective import Objective
from calibrate.samples import frequencies, sample_of
from calibrate.sweep import Cut, Rows, tabulate
from calibrate.uncertainty import rows_per_weight

USUAL = ("precision", "recall", "specificity", "f1", "g_mean", "mcc", "accuracy", "balanced_accuracy", "alert_rate")


@dataclass(frozen=True, eq=False)
class Curve:
    """Every cut, from no alert to all, as columns (m,).

    `margin` is the cut on the margin towards the positive class (rows above it are alerts), `threshold` the same as a
    probability of that class; `tp fp fn tn` are rows by weight, `metrics` the values by name, NaN where undefined, at
    a share `prevalence` of positives among all cases. `bands` are those of each metric, lowest and highest (m,): they
    hold at all cuts and for all metrics at once with this `confidence`, so also at a cut that was chosen by looking.
    `worth` is how many rows a unit of weight counts for among the negatives and the positives.
    """

    margin: Float64[np.ndarray, "m"]
    threshold: Float64[np.ndarray, "m"]
    tp: Float64[np.ndarray, "m"]
    fp: Float64[np.ndarray, "m"]
    fn: Float64[np.ndarray, "m"]
    tn: Float64[np.ndarray, "m"]
    metrics: Mapping[str, Float64[np.ndarray, "m"]]
    best: Mapping[str, int]
    prevalence: float
    confidence: float | None = None
    bands: Mapping[str, tuple[Float64[np.ndarray, "m"], Float64[np.ndarray, "m"]]] = field(default_factory=dict)
    parsed: tuple[Metric, ...] = field(default=(), repr=False)
    positive: int = 1
    cost_matrix: Float64[np.ndarray, "2 2"] | None = field(default=None, repr=False)
    worth: tuple[float, float] = (1.0, 1.0)

    @property
    def cuts(self) -> int:
        """How many cuts there are."""
        return int(self.margin.size)

    def thinned(self, points: int) -> "Curve":
        """At most about this many cuts, for a plot. Raises: `WrongShape` for fewer than 10."""
        if points < 10:
            raise WrongShape(f"a curve is thinned to 10 points or more, got {points}")
        if self.cuts <= points:
            return self
        x, y = self.fp / max(float(self.fp[-1]), 1e-300), self.tp / max(float(self.tp[-1]), 1e-300)
        cell = np.minimum(((x + y) * (points / 4)).astype(np.int64), points // 2 - 1)
        kept = np.concatenate([[True], cell[1:] != cell[:-1]])
        kept |= np.concatenate([kept[1:], [True]])
        kept[list(self.best.values())] = True
        kept[upper_hull(x, y)] = True
        return self._at(kept)

    def at_prevalence(self, prevalence: float) -> "Curve":
        """The same cuts where a share `prevalence` of all cases is positive: metrics, bands and best cuts anew.

        `tp fp fn tn` stay the rows that were counted. Metrics of amounts keep their values.

        Raises: `BadPrior` where the share is not between 0 and 1.
        """
        if not 0 < prevalence < 1:
            raise BadPrior(f"a prevalence is a share between 0 and 1, got {prevalence}")
        tpr, fpr = self.tp / (self.tp + self.fn)[-1], self.fp / (self.fp + self.tn)[-1]
        counts = Counts.of_binary(prevalence * tpr, (1 - prevalence) * fpr, prevalence, 1 - prevalence, self.positive)
        counts = _costed(counts, self.cost_matrix)
        values = {m.name: self.metrics[m.name] if m.reads == "amounts" else m.value(counts) for m in self.parsed}
        found = replace(self, prevalence=prevalence, metrics=values, best=_all_best(self.parsed, values))
        return found if self.confidence is None else found.with_bands(self.confidence)

    def with_bands(self, confidence: float = 0.95) -> "Curve":
        """The same with the simultaneous bands of the metrics that can have one.

        Weighted or grouped rows count as their effective number, which holds in approximation only; rows that are
        weighted alike within each class, exactly.

        Raises: `WrongShape` where the confidence is not between 0 and 1.
        """
        of_negatives, of_positives = self.worth
        positives, negatives = (self.tp + self.fn)[-1] * of_positives, (self.fp + self.tn)[-1] * of_negatives
        if not isinstance(confidence, int | float) or not 0 < confidence < 1:
            raise WrongShape(f"the confidence of a band must be above 0 and below 1, got {confidence!r}")
        each = 1 - (1 - confidence) / 2  # the two rates share the doubt
        tpr = simultaneous_band(self.tp * of_positives, max(1, round(positives)), each)
        fpr = simultaneous_band(self.fp * of_negatives, max(1, round(negatives)), each)
        moves = np.flatnonzero((np.diff(tpr[0]) != 0) | (np.diff(fpr[0]) != 0)) + 1
        runs = np.append(0, moves)  # few, for a band moves at its ranks only
        lengths = np.diff(np.append(runs, self.cuts))
        corners = (tpr[0][runs], tpr[1][runs]), (fpr[0][runs], fpr[1][runs])
        bands = {}
        for metric in self.parsed:
            if has_band(metric):
                low, high = rectangle_band(metric, *corners, self.prevalence, self.positive)
                bands[metric.name] = np.repeat(low, lengths), np.repeat(high, lengths)
        return replace(self, confidence=confidence, bands=bands)

    def rows(self) -> Iterator[dict[str, float]]:
        """The cuts one by one, as dictionaries with a key for each column."""
        names = ("margin", "threshold", "tp", "fp", "fn", "tn")
        columns: dict[str, Float64[np.ndarray, "m"]] = {name: getattr(self, name) for name in names}
        for name, of_metric in self.metrics.items():
            columns[name] = of_metric
            if name in self.bands:
                columns[f"{name} low"], columns[f"{name} high"] = self.bands[name]
        for values in zip(*(column.tolist() for column in columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))

    def write(self, path: str | Path | TextIO) -> None:
        """Writes the table as CSV, to a file or to a stream of text; what is undefined is empty."""
        if isinstance(path, str | Path):
            with Path(path).open("w", newline="", encoding="utf-8") as file:
                self.write(file)
            return
        writer = None
        for row in self.rows():
            if writer is None:
                writer = csv.DictWriter(path, list(row))
                writer.writeheader()
            writer.writerow({name: "" if value != value else repr(value) for name, value in row.items()})

    def _at(self, kept: Bool[np.ndarray, "m"]) -> "Curve":
        places = np.cumsum(kept) - 1
        columns = {name: getattr(self, name)[kept] for name in ("margin", "threshold", "tp", "fp", "fn", "tn")}
        return replace(
            self,
            **columns,
            metrics={name: values[kept] for name, values in self.metrics.items()},
            bands={name: (low[kept], high[kept]) for name, (low, high) in self.bands.items()},
            best={name: int(places[index]) for name, index in self.best.items()},
        )


def curve(
    cache: FeatureCache,
    metrics: Sequence[MetricText] = USUAL,
    positive: str | None = None,
    *,
    prevalence: float | None = None,
    confidence: float | None = None,
    cost_matrix: Float64[np.ndarray, "2 2"] | None = None,
) -> Curve:
    """Every cut of a two-class cache with these metrics; `positive` is the second class unless named.

    `prevalence` is the share of positives where the metrics are to hold, that of the rows unless told; with
    `confidence` there are simultaneous bands too. `cost_matrix`, a row for each decision and a column for each true
    class, is what `mean_cost` reads.

    Raises: `UnknownClass` in more than two classes, `UnknownMetric`, `BadExpression`, `MissingClass`, `MissingCosts`,
    `BadPrior`, `WrongShape` for a confidence that is not between 0 and 1.

    >>> from calibrate.cache import feature_cache
    >>> all_cuts = curve(feature_cache(logits=[-1.0, 0.0, 2.0], labels=[0, 1, 1]), ["f1"])
    >>> all_cuts.threshold.round(3).tolist(), all_cuts.metrics["f1"].round(3).tolist()
    ([0.953, 0.731, 0.378, 0.119], [0.0, 0.667, 1.0, 0.8])
    """
    if len(cache.classes) != 2:
        raise UnknownClass(f"a curve is of two classes, this cache has {len(cache.classes)}")
    check_every_class_has_rows(cache)
    known = frequencies(cache) if cache.prior is None else cache.prior.tolist()
    parsed = [parse_metric(metric, cache.classes, positive, known) for metric in metrics]
    index = 1 if positive is None else cache.classes.index(positive)
    sample = sample_of(cache, parsed, cost_matrix)
    margins = binary_margins(cache.logits)
    rows = Rows(margins if index == 1 else -margins, cache.labels == index, sample.weights, sample.amounts)
    tally = tabulate(rows, every_cut=True)
    counts = _costed(tally.counts(index), cost_matrix)
    cells = counts.cells_at(index)
    places = np.arange(tally.cuts)[::-1]
    margin = _midway(tally.highest[places], np.append(tally.edges.astype(np.float64), np.inf)[places])
    values = {metric.name: np.asarray(metric.value(counts)) for metric in parsed}
    found = Curve(
        margin,
        sigmoid(margin),
        tp=np.asarray(cells.tp),
        fp=np.asarray(cells.fp),
        fn=np.asarray(cells.fn),
        tn=np.asarray(cells.tn),
        metrics=values,
        best=_all_best(parsed, values),
        prevalence=float((cells.tp + cells.fn)[-1] / counts.rows),
        parsed=tuple(parsed),
        positive=index,
        cost_matrix=cost_matrix,
        worth=_worth(sample, index),
    )
    found = found if prevalence is None else found.at_prevalence(prevalence)
    return found if confidence is None else found.with_bands(confidence)


def upper_hull(x: Float64[np.ndarray, "m"], y: Float64[np.ndarray, "m"]) -> Int[np.ndarray, "h"]:
    """The corners of the upper convex hull of a curve that only goes right and up, as indices.

    A point on or under the chord of its neighbours is no corner; dropping all such points at once, until there are
    none, leaves the hull.
    """
    kept = np.arange(x.size)
    while kept.size > 2:
        dx, dy = np.diff(x[kept]), np.diff(y[kept])
        corner = dy[:-1] * dx[1:] > dy[1:] * dx[:-1]
        if corner.all():
            break
        kept = kept[np.concatenate([[True], corner, [True]])]
    return kept


def _midway(lower: Float64[np.ndarray, "m"], upper: Float64[np.ndarray, "m"]) -> Float64[np.ndarray, "m"]:
    with np.errstate(invalid="ignore", over="ignore"):
        middle = lower / 2 + upper / 2
    for index in (0, -1, *np.flatnonzero(~((lower <= middle) & (middle < upper)))):
        middle[index] = Cut(float(lower[index]), float(upper[index])).at()
    return middle


def _worth(sample: Sample, positive: int) -> tuple[float, float]:
    """How many rows a unit of weight counts for: of the negatives, and of the positives."""
    if sample.squares is None:
        return 1.0, 1.0
    of_class = rows_per_weight(sample.actual, sample.squares)
    return float(of_class[1 - positive]), float(of_class[positive])


def _costed(counts: Counts, cost_matrix: Float64[np.ndarray, "2 2"] | None) -> Counts:
    return counts if cost_matrix is None else counts.costed(cost_matrix)


def _all_best(metrics: Sequence[Metric], values: Mapping[str, Float64[np.ndarray, "m"]]) -> dict[str, int]:
    found = {metric.name: _best(metric, values[metric.name]) for metric in metrics}
    return {name: place for name, place in found.items() if place is not None}


def _best(metric: Metric, values: Float64[np.ndarray, "m"]) -> int | None:
    score = Objective(metric).score_of([values])
    index = score.best()
    return index if score.at(index).feasible else None
