"""The whole trade-off: every metric at every cut of a two-class model, in one table.

Nothing is thinned unless asked. A thinned curve keeps what a person looks for: both ends, the best cut of every metric,
the corners of the ROC curve's upper hull (the cuts that are best for some cost ratio), and so many more that no dropped
cut is further than `4 / points` of all positives and all negatives from a kept one.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int

from calibrate.cache import FeatureCache, check_every_class_has_rows
from calibrate.errors import UnknownClass, WrongShape
from calibrate.fit import frequencies, sample_of
from calibrate.logits import binary_margins, sigmoid
from calibrate.metrics import Metric
from calibrate.naming import MetricText, parse_metric
from calibrate.sweep import Cut, Rows, tabulate

_USUAL = ("precision", "recall", "specificity", "f1", "g_mean", "mcc", "accuracy", "balanced_accuracy", "alert_rate")


@dataclass(frozen=True, eq=False)
class Curve:
    """Every cut, from no alert to all, as columns (m,).

    `margin` is the cut on the margin towards the positive class (rows above it are alerts), `threshold` the same as a
    probability of that class; `tp fp fn tn` are rows by weight, `metrics` the values by name, NaN where undefined.
    """

    margin: Float64[np.ndarray, "m"]
    threshold: Float64[np.ndarray, "m"]
    tp: Float64[np.ndarray, "m"]
    fp: Float64[np.ndarray, "m"]
    fn: Float64[np.ndarray, "m"]
    tn: Float64[np.ndarray, "m"]
    metrics: Mapping[str, Float64[np.ndarray, "m"]]
    best: Mapping[str, int]

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

    def rows(self) -> Iterator[dict[str, float]]:
        """The cuts one by one, as dictionaries with a key for each column."""
        columns = {name: getattr(self, name) for name in ("margin", "threshold", "tp", "fp", "fn", "tn")}
        columns.update(self.metrics)
        for values in zip(*(column.tolist() for column in columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))

    def write(self, path: str | Path) -> None:
        """Writes the table as CSV; what is undefined is empty."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = None
            for row in self.rows():
                writer = csv.DictWriter(file, list(row)) if writer is None else writer
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow({name: "" if value != value else repr(value) for name, value in row.items()})

    def _at(self, kept: Bool[np.ndarray, "m"]) -> "Curve":
        places = np.cumsum(kept) - 1
        columns = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name not in ("metrics", "best")}
        return replace(
            self,
            **columns,
            metrics={name: values[kept] for name, values in self.metrics.items()},
            best={name: int(places[index]) for name, index in self.best.items()},
        )


def curve(cache: FeatureCache, metrics: Sequence[MetricText] = _USUAL, positive: str | None = None) -> Curve:
    """Every cut of a two-class cache with these metrics; `positive` is the second class unless named.

    Raises: `UnknownClass` in more than two classes, `UnknownMetric`, `BadExpression`, `MissingClass`, `MissingCosts`.

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
    sample = sample_of(cache, parsed)
    margins = binary_margins(cache.logits)
    rows = Rows(margins if index == 1 else -margins, cache.labels == index, sample.weights, sample.amounts)
    tally = tabulate(rows, every_cut=True)
    counts = tally.counts(index)
    cells = counts.cells_at(index)
    places = np.arange(tally.cuts)[::-1]
    margin = _midway(tally.highest[places], np.append(tally.edges.astype(np.float64), np.inf)[places])
    values = {metric.name: np.asarray(metric.value(counts)) for metric in parsed}
    best = {metric.name: _best(metric, values[metric.name]) for metric in parsed}
    return Curve(
        margin,
        sigmoid(margin),
        tp=np.asarray(cells.tp),
        fp=np.asarray(cells.fp),
        fn=np.asarray(cells.fn),
        tn=np.asarray(cells.tn),
        metrics=values,
        best={name: place for name, place in best.items() if place is not None},
    )


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


def _best(metric: Metric, values: Float64[np.ndarray, "m"]) -> int | None:
    gains = values if metric.larger_is_better else -values
    return None if np.isnan(gains).all() else int(np.nanargmax(gains))
