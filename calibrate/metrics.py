"""Metrics: functions of the confusion counts, in one table.

Decided here: 0/0 is undefined, NaN, and is never chosen by a search. In two classes an unqualified precision, recall,
specificity, F1 or F-beta is that of the positive class; in more it is the macro mean, and with `positive` or
`recall[fraud]` that of one class. Every metric below is better when larger, and none falls when a false alarm is taken
away: the binary sweep rests on that.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64

from calibrate.counts import Counts
from calibrate.errors import UnknownClass, UnknownMetric

Values = Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class Ratio:
    """A share of rows, successes over trials, per class (..., k) or over all (...); it has an exact interval."""

    successes: Callable[[Counts], Values]
    trials: Callable[[Counts], Values]


@dataclass(frozen=True)
class Definition:
    """One row of the table: what a metric is, before a class is chosen."""

    title: str
    per_class: bool
    value: Callable[..., Values]
    rate: Ratio | None = None
    argument: str | None = None


@dataclass(frozen=True)
class Metric:
    """A metric ready to use: a value for each set of counts, better when larger, NaN where undefined.

    `positive` is the class that a binary sweep treats as positive, `rate` what makes it a share of rows, if it is one.
    """

    name: str
    title: str
    value: Callable[[Counts], Values]
    positive: int
    rate: Ratio | None = None


def divide(numerator: Values | np.float64, denominator: Values | np.float64) -> Values:
    """The quotient, NaN where the denominator is 0."""
    out = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    np.divide(numerator, denominator, out=out, where=np.asarray(denominator) != 0)
    return out


def _total(counts: Counts) -> Values:
    return np.broadcast_to(np.float64(counts.rows), counts.hits.shape[:-1])


def _negatives(counts: Counts) -> Values:
    return np.broadcast_to(counts.rows - counts.actual, counts.hits.shape)


def _true_negatives(counts: Counts) -> Values:
    return np.asarray(counts.rows - counts.actual - counts.predicted + counts.hits)


def _actual(counts: Counts) -> Values:
    return np.broadcast_to(counts.actual, counts.hits.shape)


def _ratio(ratio: Ratio) -> Callable[[Counts], Values]:
    return lambda counts: divide(ratio.successes(counts), ratio.trials(counts))


def _fbeta(counts: Counts, beta: float = 1.0) -> Values:
    return divide((1 + beta**2) * counts.hits, beta**2 * _actual(counts) + counts.predicted)


def _balanced_accuracy(counts: Counts) -> Values:
    return np.asarray(divide(counts.hits, _actual(counts)).mean(axis=-1))


def _g_mean(counts: Counts) -> Values:
    """Geometric mean of the recalls of all classes (Kubat & Matwin 1997; Sun et al. 2006 for more than two)."""
    recalls = divide(counts.hits, _actual(counts))
    return np.asarray(np.prod(recalls ** (1 / recalls.shape[-1]), axis=-1))


def _mcc(counts: Counts) -> Values:
    """Matthews' correlation for any number of classes (Gorodkin 2004, eq. 8)."""
    n = counts.rows
    covariance = n * counts.hits.sum(axis=-1) - (counts.predicted * counts.actual).sum(axis=-1)
    spread_predicted = n**2 - (counts.predicted**2).sum(axis=-1)
    spread_actual = n**2 - (counts.actual**2).sum(axis=-1)
    return divide(covariance, np.sqrt(spread_predicted) * np.sqrt(spread_actual))


_RATES = {
    "accuracy": Ratio(lambda counts: np.asarray(counts.hits.sum(axis=-1)), _total),
    "precision": Ratio(lambda counts: counts.hits, lambda counts: counts.predicted),
    "recall": Ratio(lambda counts: counts.hits, _actual),
    "specificity": Ratio(_true_negatives, _negatives),
}

METRICS: dict[str, Definition] = {
    "accuracy": Definition("rows decided rightly", False, _ratio(_RATES["accuracy"]), _RATES["accuracy"]),
    "balanced_accuracy": Definition("mean of the recalls of all classes", False, _balanced_accuracy),
    "precision": Definition("share of alerts that are right", True, _ratio(_RATES["precision"]), _RATES["precision"]),
    "recall": Definition("share of the class that is found", True, _ratio(_RATES["recall"]), _RATES["recall"]),
    "specificity": Definition(
        "share of the other rows left alone", True, _ratio(_RATES["specificity"]), _RATES["specificity"]
    ),
    "f1": Definition("harmonic mean of precision and recall", True, _fbeta),
    "fbeta": Definition("the same, recall counting beta times as much", True, _fbeta, argument="beta"),
    "g_mean": Definition("geometric mean of the recalls of all classes", False, _g_mean),
    "mcc": Definition("Matthews' correlation coefficient", False, _mcc),
}

_FORM = re.compile(r"\s*(?P<name>[A-Za-z_0-9]+)\s*(\((?P<argument>[^()]*)\))?\s*(\[(?P<class_>.+)\])?\s*", re.DOTALL)


def parse_metric(text: str, classes: Sequence[str], positive: str | None = None) -> Metric:
    """The metric that a text names: `f1`, `fbeta(2)`, `recall[fraud]`.

    `positive` names the positive class; in two classes it is the second unless named.

    Raises: `UnknownMetric`, `UnknownClass`.

    >>> parse_metric("recall", ["clear", "fraud"]).value(Counts.of_confusion(np.array([[90, 5], [2, 3]])))
    array(0.6)
    """
    form = _FORM.fullmatch(text) if isinstance(text, str) and len(text) <= 1000 else None
    definition = METRICS.get(form["name"]) if form else None
    if form is None or definition is None:
        shown = repr(text) if len(str(text)) <= 100 else f"{str(text)[:100]!r}..."
        raise UnknownMetric(f"metric must be one of {', '.join(METRICS)}; got {shown}")
    value, argument = definition.value, ""
    if (form["argument"] is not None) != (definition.argument is not None):
        wanted = f"{form['name']}({definition.argument})" if definition.argument else form["name"]
        raise UnknownMetric(f"metric '{form['name']}' is written {wanted}, got {text!r}")
    if definition.argument:
        number = _positive_number(form["argument"], f"{definition.argument} of metric '{form['name']}'")
        value, argument = partial(definition.value, **{definition.argument: number}), f"({number:g})"
    index = len(classes) - 1 if len(classes) == 2 else None
    if positive is not None:
        index = class_index(positive, classes)
    name = form["name"] + argument
    if form["class_"] is not None:
        if not definition.per_class:
            raise UnknownMetric(f"metric '{form['name']}' is over all classes, it has no form {text!r}")
        index = class_index(form["class_"].strip(), classes)
        name = f"{name}[{classes[index]}]"
    return _choose(definition, name, value, index)


def standard_metrics(classes: Sequence[str], positive: str | None = None) -> list[Metric]:
    """The metrics that every report shows: each without an argument; in more than two classes each recall too."""
    names = [name for name, definition in METRICS.items() if definition.argument is None]
    if len(classes) > 2:
        return [
            *(parse_metric(name, classes, positive) for name in names),
            *(_choose(METRICS["recall"], f"recall[{c}]", METRICS["recall"].value, i) for i, c in enumerate(classes)),
        ]
    return [parse_metric(name, classes, positive) for name in names]


def class_index(name: str, classes: Sequence[str]) -> int:
    """The index of a class name. Raises: `UnknownClass`."""
    if name not in classes:
        shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise UnknownClass(f"class must be one of {shown}; got {name!r}")
    return list(classes).index(name)


def _choose(definition: Definition, name: str, value: Callable[[Counts], Values], index: int | None) -> Metric:
    """A definition at one class, at the macro mean where no class is chosen, or over all classes."""
    positive = 1 if index is None else index
    if not definition.per_class:
        return Metric(name, definition.title, value, positive, definition.rate)
    if index is None:
        return Metric(name, f"{definition.title}, mean over classes", lambda c: np.asarray(value(c).mean(axis=-1)), 1)
    rate = definition.rate
    if rate is not None:
        successes, trials = rate.successes, rate.trials
        rate = Ratio(lambda c: successes(c)[..., index], lambda c: trials(c)[..., index])
    return Metric(name, definition.title, lambda c: value(c)[..., index], positive, rate)


def _positive_number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e6:
        raise UnknownMetric(f"{what} must be a number above 0 and at most 1e6, got {text!r}")
    return number
