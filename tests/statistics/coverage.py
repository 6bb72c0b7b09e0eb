"""How often the intervals of a fit hold the point's own value: simulations whose truth is known.

Two classes have normal margins, so the rates of a point are in closed form. More classes have Gaussian scores, and a
point's rates are those on a hundred thousand further rows. `SETTINGS` are the fits that are tried, on as many positives
(or rows of the rarest class) as `POSITIVES`. `cover` counts; `tests.soak.coverage` writes the table of all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from scipy.stats import norm

from calibrate import FeatureCache, Infeasible, OperatingPoint, feature_cache, fit
from calibrate.counts import Counts
from calibrate.errors import UndefinedMetric
from calibrate.evidence import held_out, measured
from calibrate.naming import parse_metric, standard_metrics
from calibrate.samples import sample_of
from calibrate.uncertainty import Interval

POSITIVES = (5, 15, 40, 87, 200, 1000)
SHIFT = 1.5
_TRUTH_ROWS = 100_000

Rates = Float64[np.ndarray, "k k"]


@dataclass(frozen=True)
class Population:
    """Where rows come from: class frequencies, a draw of logits for labels, and the rates of any point, (k, k)."""

    shares: tuple[float, ...]
    logits: Callable[[Int[np.ndarray, "n"], np.random.Generator], Float64[np.ndarray, "n k"]]
    rates: Callable[[OperatingPoint], Rates]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(f"c{i}" for i in range(len(self.shares)))


@cache
def two_classes(share: float = 0.05) -> Population:
    """Return margins from N(0, 1) and N(1.5, 1), a `share` of them positive."""

    def logits(labels: Int[np.ndarray, "n"], rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        return np.stack([np.zeros(labels.size), rng.normal(labels * SHIFT)], axis=1)

    def rates(point: OperatingPoint) -> Rates:
        cut = -float(point.bias[1] - point.bias[0]) / float(point.scale[1])
        alarms, hits = norm.sf(cut), norm.sf(cut - SHIFT)
        return np.array([[1 - alarms, alarms], [1 - hits, hits]])

    return Population((1 - share, share), logits, rates)


@cache
def many_classes(k: int) -> Population:
    """Return noisy scores of k classes whose frequencies fall evenly, the rarest half as frequent as the first."""
    shares = np.linspace(2, 1, k) / np.linspace(2, 1, k).sum()
    prior = np.log(shares)

    def logits(labels: Int[np.ndarray, "n"], rng: np.random.Generator) -> Float64[np.ndarray, "n k"]:
        return np.asarray(rng.normal(size=(labels.size, k)) + 2.5 * np.eye(k)[labels] + prior)

    rng = np.random.default_rng(k)
    labels = np.repeat(np.arange(k), _TRUTH_ROWS // k)
    rows = logits(labels, rng).astype(np.float32)

    def rates(point: OperatingPoint) -> Rates:
        decided = point.decide(rows)
        counted: Rates = np.bincount(labels * k + decided, minlength=k * k).reshape(k, k) / (_TRUTH_ROWS // k)
        return counted

    return Population(tuple(shares.tolist()), logits, rates)


@dataclass(frozen=True)
class Setting:
    """A fit that is tried: its name, the arguments of `fit`, and how the rows are drawn.

    `rows` is `alone`, `weighted` (weights that have nothing to do with the class) or `grouped` (groups of up to three
    copies of one row). `cut` is that of a point that is not fitted: its rows are held out.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    rows: str = "alone"
    cut: float | None = None


SETTINGS = (
    Setting("held out", cut=1.2),
    Setting("F1", {"metric": "f1"}),
    Setting("F1, exact", {"metric": "f1", "search": "exact"}),
    Setting("F1, smoothed", {"metric": "f1", "search": "smoothed"}),
    Setting("F1, decimal", {"metric": "f1", "search": "decimal"}),
    Setting("F1, tau", {"metric": "f1", "method": "logit_adjustment"}),
    Setting("G-mean", {"metric": "g_mean"}),
    Setting("G-mean, exact", {"metric": "g_mean", "search": "exact"}),
    Setting("MCC, exact", {"metric": "mcc", "search": "exact"}),
    Setting("cost 1:20, exact", {"metric": "cost(fp=1, fn=20)", "search": "exact"}),
    Setting("precision, recall >= 0.9", {"metric": "precision", "constraints": "recall >= 0.9"}),
    Setting("recall, precision >= 0.3", {"metric": "recall", "constraints": "precision >= 0.3", "search": "exact"}),
    Setting("recall, alert rate <= 0.1", {"metric": "recall", "constraints": "alert_rate <= 0.1"}),
    Setting("precision, recall >= 0.9 @ 95%", {"metric": "precision", "constraints": "recall >= 0.9 @ 95%"}),
    Setting("precision, recall >= 0.95 @ 95%", {"metric": "precision", "constraints": "recall >= 0.95 @ 95%"}),
    Setting("recall, fpr <= 0.1 @ 95%", {"metric": "recall", "constraints": "fpr <= 0.1 @ 95%"}),
    Setting("F1, weighted rows", {"metric": "f1", "search": "exact"}, "weighted"),
    Setting("F1, grouped rows", {"metric": "f1", "search": "exact"}, "grouped"),
    Setting("F1 at a prevalence of 0.02", {"metric": "f1", "search": "exact", "prevalence": 0.02}),
)
MANY_SETTINGS = (
    Setting("held out", cut=0.0),
    Setting("macro-F1", {"metric": "f1_macro"}),
    Setting("balanced accuracy", {"metric": "balanced_accuracy"}),
    Setting("G-mean, tau", {"metric": "g_mean", "method": "logit_adjustment"}),
    Setting("macro-F1, weighted rows", {"metric": "f1_macro"}, "weighted"),
    Setting("macro-F1, grouped rows", {"metric": "f1_macro"}, "grouped"),
    Setting("macro-F1, worst recall >= 0.6", {"metric": "f1_macro", "constraints": "recall_worst >= 0.6"}),
)


def draw_cache(population: Population, rows: int, kind: str, rng: np.random.Generator) -> FeatureCache:
    """Draw labelled rows: their class counts vary as they would."""
    k = len(population.shares)
    labels = rng.choice(k, rows, p=population.shares)
    if kind == "grouped":
        labels = rng.choice(k, rows // 2, p=population.shares)
        group = np.repeat(np.arange(labels.size), rng.integers(1, 4, labels.size))
        centre = population.logits(labels, rng)
        logits = centre[group]
        return feature_cache(
            logits=logits, labels=labels[group], classes=population.classes, group=group, prior=population.shares
        )
    weight = rng.gamma(2, 1, rows) if kind == "weighted" else None
    logits = population.logits(labels, rng)
    return feature_cache(
        logits=logits, labels=labels, classes=population.classes, sample_weight=weight, prior=population.shares
    )


def truth_of(population: Population, point: OperatingPoint, prevalence: float | None) -> Counts:
    """Return the expected counts of a point, as shares of all rows."""
    shares = np.asarray(population.shares if prevalence is None else (1 - prevalence, prevalence))
    return Counts.of_confusion(population.rates(point) * shares[:, np.newaxis])


@dataclass
class Coverage:
    """How many intervals held the truth, of how many, and how wide they were in all, by metric."""

    held: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    width: dict[str, float] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    def add(self, name: str, low: float, high: float, truth: float, kind: str) -> None:
        """Count one interval; one that is undefined, or around something undefined, is none."""
        if not np.isfinite([low, high, truth]).all():
            return
        self.tried[name] = self.tried.get(name, 0) + 1
        self.held[name] = self.held.get(name, 0) + bool(low - 1e-9 <= truth <= high + 1e-9)
        self.width[name] = self.width.get(name, 0.0) + high - low
        self.kinds.add(kind)

    def share(self, name: str) -> float:
        """The share that held the truth."""
        return self.held[name] / self.tried[name]

    def mean_width(self, name: str) -> float:
        """How wide they were."""
        return self.width[name] / self.tried[name]

    def failures(self, nominal: float = 0.95, errors: float = 2.0) -> list[str]:
        """The metrics that were held less often than nominal, by more than so many standard errors."""
        return [
            name
            for name, tried in self.tried.items()
            if self.share(name) < nominal - errors * np.sqrt(nominal * (1 - nominal) / tried)
        ]


def cover(population: Population, setting: Setting, rows: int, seeds: Iterable[int]) -> Coverage:
    """Fit on rows drawn for each seed, and count which intervals hold the values of the fitted point itself."""
    coverage = Coverage()
    classes = list(population.classes)
    extra = ["npv", "kappa", "cost(fp=1, fn=20)"] if len(classes) == 2 else ["f1_macro", "recall_worst", "f1[c1]"]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        cache = draw_cache(population, rows, setting.rows, rng)
        if np.bincount(cache.labels, minlength=len(classes)).min() < 2:
            continue
        prevalence = setting.arguments.get("prevalence")
        try:
            point, intervals, gains = _fitted(cache, setting, extra)
        except (Infeasible, UndefinedMetric):
            continue
        truth = truth_of(population, point, prevalence)
        plain = truth_of(population, OperatingPoint.argmax(classes), prevalence)
        metrics = [*standard_metrics(classes), *(parse_metric(text, classes) for text in extra)]
        for metric in metrics:
            if metric.name in intervals:
                one, true = intervals[metric.name], float(metric.value(truth))
                coverage.add(metric.name, one.low, one.high, true, one.kind)
            if metric.name in gains:
                one, true = gains[metric.name], float(metric.gain(truth) - metric.gain(plain))
                coverage.add(f"gain in {metric.name}", one.low, one.high, true, one.kind)
    return coverage


def _fitted(
    cache: FeatureCache, setting: Setting, extra: list[str]
) -> tuple[OperatingPoint, Mapping[str, Interval], Mapping[str, Interval]]:
    """The point, its intervals and its gains, for the standard metrics and some more."""
    if setting.cut is not None:
        k = len(cache.classes)
        bias = np.array([0.0, -setting.cut]) if k == 2 else np.linspace(0, 0.7, k)
        point = OperatingPoint(cache.classes, np.ones(k), bias)
        metrics = [*standard_metrics(cache.classes), *(parse_metric(text, cache.classes) for text in extra)]
        evidence = held_out(point, sample_of(cache, metrics), metrics)
        return point, evidence.point, evidence.gain
    result = fit(cache, **setting.arguments)
    if result.found.paired is None:
        return result.point, {}, {}
    metrics = [*standard_metrics(cache.classes), *(parse_metric(text, cache.classes) for text in extra)]
    evidence = measured(result.found.paired, result.found.kind, metrics, None)
    return result.point, evidence.point, evidence.gain
