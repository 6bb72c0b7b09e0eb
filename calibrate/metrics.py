"""Metrics: functions of the confusion counts, in one table.

Decided here: 0/0 is undefined, NaN, and is never chosen by a search. A metric's direction is stored once, in the table,
and so is whether it can only gain (or become undefined) when a false alarm is taken away: the short list of cuts of the
binary sweep rests on that. In two classes an unqualified precision, recall or F1 is that of the positive class; in more
it is the macro mean, and with `positive` or `recall[fraud]` that of one class. A suffix says another mean over the
classes, in scikit-learn's words: `f1_macro`, `f1_micro`, `f1_weighted`; `recall_worst` is the worst class's, and
`recall_head`, `_middle`, `_tail` the mean over a third of the classes by their training frequency.

A metric pickles as how it was built (`Metric.rebuild`) and its plain values, and a row of the table as its name: the
functions in them are lambdas, which do not pickle.

Source of the groups and of relative accuracy: Zhang et al., "Deep Long-Tailed Learning: A Survey" (2023), section 4.
"""

import copyreg
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from calibrate.counts import Cells, Counts, Values
from calibrate.errors import UnknownClass, UnknownMetric, did_you_mean

PerClass = Callable[..., Values]


def always(**_: float) -> bool:
    """Return True, whatever the arguments of a metric are."""
    return True


def never(**_: float) -> bool:
    """Return False, whatever the arguments of a metric are."""
    return False


def _unit(**_: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Ratio:
    """A share of rows, successes over trials; it has an exact interval."""

    successes: Callable[[Counts], Values]
    trials: Callable[[Counts], Values]


@dataclass(frozen=True, eq=False)
class Sums:
    """A metric as `combine` of sums over the classes, `sum_c shares[c] * term(cells of c)`, which a class sweep can
    carry along from cut to cut.
    """

    terms: Callable[[Cells], tuple[Values, ...]]
    combine: Callable[..., Values]
    shares: Float64[np.ndarray, "k"] | None = None

    def value(self, counts: Counts) -> Values:
        """The metric of these counts."""
        shares = np.ones(1) if self.shares is None else self.shares
        return self.combine(*(np.asarray((term * shares).sum(axis=-1)) for term in self.terms(counts.cells)))


@dataclass(frozen=True)
class Argument:
    """A number that a metric is written with: `default` where it may be left out, and the range it must lie in."""

    default: float | None = None
    above: float = -1e12
    at_most: float = 1e12


@dataclass(frozen=True)
class Definition:
    """One row of the table: what a metric is, before a class or a mean over classes is chosen.

    `per_class` gives it from the cells of one class, `overall` of all classes at once. `monotone` says (of the
    arguments) that taking a false alarm away never makes it worse, `of_positives` that it never changes it at one
    class. `survives` says whether what is promised of it survives a change of prevalence, because it is made of the
    rates at which each class is decided: in any number of classes, or in two only (in more, "the other rows" are a mix
    of classes). `scale` is the size (of the arguments) of the terms that make its value, to which rounding is relative;
    0 where rounding is relative to the value itself. `reads` is what it needs beside the counts of rows.
    """

    title: str
    per_class: PerClass | None = None
    overall: Sums | None = None
    rate: tuple[PerClass, PerClass] | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    larger_is_better: bool = True
    monotone: Callable[..., bool] = always
    of_positives: bool = False
    one_class: bool = False
    unqualified: str | None = None
    survives: Literal["any classes", "two classes"] | None = None
    scale: Callable[..., float] = _unit
    reads: Literal["rows", "amounts", "cost"] = "rows"

    def survives_in(self, k: int) -> bool:
        """Whether it survives a change of prevalence in k classes."""
        return self.survives == "any classes" or (self.survives == "two classes" and k == 2)

    def __reduce__(self) -> tuple[Any, ...]:
        names = [name for name, row in METRICS.items() if row is self]
        return (_row, (names[0],)) if names else _by_value(self)


def _row(name: str) -> Definition:
    """Return a row of the table, for `pickle`."""
    return METRICS[name]


def _by_value(instance: object) -> tuple[Any, ...]:
    """Return what `__reduce__` would of an object that does not override it."""
    return copyreg.__newobj__, (type(instance),), vars(instance)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric ready to use: a value for each set of counts, NaN where undefined.

    `positive` is the class that a binary sweep treats as positive, `rate` what makes it a share of rows if it is one,
    `sums` its form for class sweeps if it has one. `of_class` is the class of a metric of one class against the rest,
    `each_class` the metrics of all classes where it is the worst of them. `rebuild` builds the metric again: with it a
    metric pickles where its functions do not. The rest is as in `Definition`.
    """

    name: str
    title: str
    value: Callable[[Counts], Values]
    positive: int
    larger_is_better: bool = True
    monotone: bool = False
    of_positives: bool = False
    symmetric: bool = False
    arguments: Mapping[str, float] = field(default_factory=dict)
    rate: Ratio | None = None
    sums: Sums | None = None
    survives: bool = False
    scale: float = 1.0
    reads: Literal["rows", "amounts", "cost"] = "rows"
    of_class: int | None = None
    each_class: "tuple[Metric, ...]" = ()
    rebuild: "Callable[[], Metric] | None" = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.rebuild is None:
            return _by_value(self)
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _REBUILT}
        return _rebuilt, (self.rebuild, plain)

    def gain(self, counts: Counts) -> Values:
        """The value, turned so that larger is better."""
        return self.value(counts) if self.larger_is_better else np.asarray(-self.value(counts))


_REBUILT = {"value", "rate", "sums", "each_class", "rebuild"}


def _rebuilt(rebuild: Callable[[], Metric], plain: dict[str, Any]) -> Metric:
    """Return the metric that `rebuild` builds, with the plain values of the one that was pickled."""
    return replace(rebuild(), **plain)


def divide(numerator: Values | np.float64, denominator: Values | np.float64) -> Values:
    """The quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.true_divide(numerator, denominator)
    return np.where(np.equal(denominator, 0), np.nan, quotient)  # half the time of a division `where` it is not 0


def _fbeta(cells: Cells, beta: float = 1.0) -> Values:
    return divide((1 + beta**2) * cells.tp, (1 + beta**2) * cells.tp + beta**2 * cells.fn + cells.fp)


def _net_benefit(cells: Cells, threshold: float) -> Values:
    """Vickers & Elkin (2006): true positives less false ones at the odds of the threshold probability, per row."""
    return divide(cells.tp - cells.fp * (threshold / (1 - threshold)), cells.n)


def _cost(cells: Cells, fp: float, fn: float, tp: float, tn: float) -> Values:
    return divide(fp * cells.fp + fn * cells.fn + tp * cells.tp + tn * cells.tn, cells.n)


def _savings(amounts: Cells) -> Values:
    """Bahnsen et al. (2015): the share saved of what the better of "alert on none" and "alert on all" costs."""
    return np.asarray(1 - divide(amounts.fp + amounts.fn, np.minimum(amounts.tp + amounts.fn, amounts.fp + amounts.tn)))


_RECALL: PerClass = lambda c: divide(c.tp, c.tp + c.fn)  # noqa: E731
_SPECIFICITY: PerClass = lambda c: divide(c.tn, c.tn + c.fp)  # noqa: E731


def _g_mean_terms(cells: Cells) -> tuple[Values, ...]:
    recall = _RECALL(cells)
    found = recall > 0
    logs = np.log(recall, out=np.zeros_like(recall), where=found)
    return logs, (recall == 0).astype(np.float64), np.isnan(recall).astype(np.float64), np.ones_like(recall)


def _g_mean(logs: Values, zeros: Values, undefined: Values, classes: Values) -> Values:
    """Geometric mean of the recalls of all classes (Kubat & Matwin 1997; Sun et al. 2006 for more than two)."""
    return np.where(undefined > 0.5, np.nan, np.where(zeros > 0.5, 0.0, np.exp(logs / classes)))


def _spread_terms(cells: Cells) -> tuple[Values, ...]:
    predicted, actual = cells.tp + cells.fp, cells.tp + cells.fn
    return cells.tp, predicted, actual, predicted * actual, predicted**2, actual**2


def _mcc(hits: Values, n: Values, _: Values, products: Values, predicted2: Values, actual2: Values) -> Values:
    """Matthews' correlation for any number of classes (Gorodkin 2004, eq. 8)."""
    spreads = np.sqrt(np.maximum(n**2 - predicted2, 0)) * np.sqrt(np.maximum(n**2 - actual2, 0))
    return divide(n * hits - products, spreads)


def _kappa(hits: Values, n: Values, _: Values, products: Values, *__: Values) -> Values:
    """Cohen's kappa (1960)."""
    return divide(n * hits - products, n**2 - products)


def _share_of_rows(hits: Values, n: Values) -> Values:
    return divide(hits, n)


_BETA = MappingProxyType({"beta": Argument(above=0, at_most=1e6)})
_COSTS = MappingProxyType({"fp": Argument(), "fn": Argument(), "tp": Argument(0.0), "tn": Argument(0.0)})

METRICS: dict[str, Definition] = {
    "accuracy": Definition(
        "rows decided rightly",
        overall=Sums(lambda c: (c.tp, c.tp + c.fn), _share_of_rows),
        rate=(lambda c: c.tp, lambda c: c.tp + c.fn),
    ),
    "error_rate": Definition(
        "rows decided wrongly",
        overall=Sums(lambda c: (c.fn, c.tp + c.fn), _share_of_rows),
        rate=(lambda c: c.fn, lambda c: c.tp + c.fn),
        larger_is_better=False,
    ),
    "balanced_accuracy": Definition(
        "mean of the recalls of all classes",
        overall=Sums(lambda c: (_RECALL(c), np.ones_like(c.tp)), lambda recalls, classes: recalls / classes),
        survives="any classes",
    ),
    "precision": Definition(
        "share of alerts that are right",
        lambda c: divide(c.tp, c.tp + c.fp),
        rate=(lambda c: c.tp, lambda c: c.tp + c.fp),
    ),
    "recall": Definition(
        "share of the class that is found",
        _RECALL,
        rate=(lambda c: c.tp, lambda c: c.tp + c.fn),
        of_positives=True,
        survives="any classes",
    ),
    "specificity": Definition(
        "share of the other rows left alone",
        _SPECIFICITY,
        rate=(lambda c: c.tn, lambda c: c.tn + c.fp),
        survives="two classes",
    ),
    "npv": Definition(
        "share of the rows left alone that are not of the class",
        lambda c: divide(c.tn, c.tn + c.fn),
        rate=(lambda c: c.tn, lambda c: c.tn + c.fn),
    ),
    "fpr": Definition(
        "share of the other rows with an alert",
        lambda c: divide(c.fp, c.fp + c.tn),
        rate=(lambda c: c.fp, lambda c: c.fp + c.tn),
        larger_is_better=False,
        survives="two classes",
    ),
    "fnr": Definition(
        "share of the class that is missed",
        lambda c: divide(c.fn, c.tp + c.fn),
        rate=(lambda c: c.fn, lambda c: c.tp + c.fn),
        larger_is_better=False,
        of_positives=True,
        survives="any classes",
    ),
    "alert_rate": Definition(
        "share of all rows with an alert",
        lambda c: divide(c.tp + c.fp, c.n),
        rate=(lambda c: c.tp + c.fp, lambda c: c.n),
        larger_is_better=False,
        one_class=True,
    ),
    "f1": Definition("harmonic mean of precision and recall", _fbeta),
    "fbeta": Definition("the same, recall counting beta times as much", _fbeta, arguments=_BETA),
    "g_mean": Definition(
        "geometric mean of the recalls of all classes", overall=Sums(_g_mean_terms, _g_mean), survives="any classes"
    ),
    "mcc": Definition("Matthews' correlation coefficient", overall=Sums(_spread_terms, _mcc)),
    "kappa": Definition("Cohen's kappa, agreement beyond chance", overall=Sums(_spread_terms, _kappa)),
    "youden": Definition(
        "recall plus specificity less 1 (Youden's J)",
        lambda c: _RECALL(c) + _SPECIFICITY(c) - 1,
        survives="two classes",
    ),
    "net_benefit": Definition(
        "true alerts less false ones at the odds of a threshold probability, per row",
        _net_benefit,
        arguments={"threshold": Argument(above=0, at_most=1 - 1e-12)},
        one_class=True,
        scale=lambda threshold: max(1.0, threshold / (1 - threshold)),
    ),
    "relative_accuracy": Definition(
        "accuracy over that of a reference model",
        lambda c, reference: _RECALL(c) / reference,
        arguments={"reference": Argument(above=0, at_most=1)},
        unqualified="micro",
        survives="any classes",
        scale=lambda reference: 1 / reference,
    ),
    "cost": Definition(
        "mean cost of a row, a cost for each kind of error",
        _cost,
        arguments=_COSTS,
        larger_is_better=False,
        monotone=lambda fp, fn, tp, tn: fp >= tn,  # noqa: ARG005
        one_class=True,
        scale=lambda **costs: max(map(abs, costs.values())),
    ),
    "mean_cost": Definition(
        "mean cost of a row under the cost matrix",
        larger_is_better=False,
        monotone=never,
        scale=lambda: 0.0,
        reads="cost",
    ),
    "row_cost": Definition(
        "mean cost of a row, each with its own costs",
        lambda amounts, rows: divide(amounts.fp + amounts.fn, rows),
        larger_is_better=False,
        one_class=True,
        scale=lambda: 0.0,
        reads="amounts",
    ),
    "savings": Definition(
        "share saved of the cost of the better of no alerts and all",
        lambda amounts, _: _savings(amounts),
        one_class=True,
        reads="amounts",
    ),
    "recovered": Definition(
        "share of the amount at stake that is found",
        lambda amounts, _: divide(amounts.tp, amounts.tp + amounts.fn),
        of_positives=True,
        one_class=True,
        survives="any classes",
        reads="amounts",
    ),
}

FORMS: dict[str, str] = {
    "macro": "mean over classes",
    "weighted": "mean over classes, by their rows",
    "micro": "all classes' cells pooled",
    "worst": "worst class",
    "head": "mean over the most frequent third of the classes",
    "middle": "mean over the middle third of the classes",
    "tail": "mean over the rarest third of the classes",
}


def class_index(name: str, classes: Sequence[str]) -> int:
    """The index of a class name. Raises: `UnknownClass`."""
    if name not in classes:
        shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        near = did_you_mean(str(name), list(classes))
        raise UnknownClass(f"class must be one of {shown}; got {str(name)[:100]!r}{near}")
    return list(classes).index(name)


def of_one_class(definition: Definition, name: str, arguments: Mapping[str, float], index: int, k: int) -> Metric:
    """A definition at one of k classes, against the rest."""
    value = _per_class(definition, arguments)
    rebuild = partial(of_one_class, definition, name, arguments, index, k)
    if definition.reads == "amounts":
        found = _metric(definition, name, arguments, partial(_of_amounts, value, index), index, one_class=True)
        return replace(found, survives=definition.survives_in(k), rebuild=rebuild)
    share = np.zeros(k)
    share[index] = 1.0
    rate = definition.rate and _class_ratio(definition.rate, index)
    sums = Sums(_defined(value), _unless_undefined, share)
    found = _metric(definition, name, arguments, lambda c: value(c.cells_at(index)), index, rate, sums, True)
    return replace(found, survives=definition.survives_in(k), of_class=index, rebuild=rebuild)


def over_classes(
    definition: Definition,
    name: str,
    arguments: Mapping[str, float],
    form: str,
    positive: int,
    k: int,
    shares: Float64[np.ndarray, "k"] | None = None,
) -> Metric:
    """A definition as one of `FORMS`, over k classes: `shares` (k,) are a group's, for `head`, `middle` and `tail`."""
    value = _per_class(definition, arguments)
    survives = definition.survives_in(k) and form not in ("micro", "weighted")
    rebuild = partial(over_classes, definition, name, arguments, form, positive, k, shares)
    if form == "worst":
        pick = np.min if definition.larger_is_better else np.max
        found = _metric(definition, name, arguments, lambda c: np.asarray(pick(value(c.cells), axis=-1)), positive)
        each = tuple(of_one_class(definition, f"{name}[{i}]", arguments, i, k) for i in range(k))
        return replace(found, survives=survives, each_class=each, rebuild=rebuild)
    if form == "micro":
        sums = Sums(lambda c: (c.tp, c.fp, c.fn, c.tn), lambda *cells: value(Cells(*cells)))
    elif form == "weighted":
        sums = Sums(_weighted(value), lambda total, undefined, rows: _unless_undefined(divide(total, rows), undefined))
    elif form == "macro":
        sums = Sums(
            lambda c: (*_defined(value)(c), np.ones_like(c.tp)),
            lambda total, undefined, classes: _unless_undefined(total / classes, undefined),
        )
    else:
        sums = Sums(_defined(value), _unless_undefined, shares)
    found = _metric(definition, name, arguments, sums.value, positive, sums=sums)
    return replace(found, survives=survives, rebuild=rebuild)


def over_all(definition: Definition, name: str, positive: int) -> Metric:
    """A definition of all classes at once."""
    rebuild = partial(over_all, definition, name, positive)
    if definition.overall is None:
        return replace(_metric(definition, name, {}, _mean_cost, positive), rebuild=rebuild)
    rate = None
    if definition.rate is not None:
        successes, trials = definition.rate
        rate = Ratio(lambda c: np.asarray(successes(c.cells).sum(-1)), lambda c: np.asarray(trials(c.cells).sum(-1)))
    found = _metric(definition, name, {}, definition.overall.value, positive, rate, definition.overall)
    return replace(found, survives=definition.survives == "any classes", rebuild=rebuild)


def _per_class(definition: Definition, arguments: Mapping[str, float]) -> PerClass:
    if definition.per_class is None:
        raise UnknownMetric(f"a metric of all classes, {definition.title}, has no form for one")
    return partial(definition.per_class, **arguments)


def _metric(
    definition: Definition,
    name: str,
    arguments: Mapping[str, float],
    value: Callable[[Counts], Values],
    positive: int,
    rate: Ratio | None = None,
    sums: Sums | None = None,
    one_class: bool = False,
) -> Metric:
    return Metric(
        name=name,
        title=definition.title,
        value=value,
        positive=positive,
        larger_is_better=definition.larger_is_better,
        monotone=definition.monotone(**arguments),
        of_positives=definition.of_positives and one_class,
        symmetric=definition.overall is not None,
        arguments=arguments,
        rate=rate,
        sums=sums,
        scale=definition.scale(**arguments),
        reads=definition.reads,
    )


def _mean_cost(counts: Counts) -> Values:
    if counts.cost is None:
        raise UnknownMetric("metric 'mean_cost' needs a cost matrix")
    return divide(counts.cost, counts.rows)


def _of_amounts(value: PerClass, index: int, counts: Counts) -> Values:
    if counts.amounts is None:
        raise UnknownMetric("a metric of amounts needs cost_fp and cost_fn")
    return value(counts.amounts.cells_at(index), counts.rows)


def _class_ratio(rate: tuple[PerClass, PerClass], index: int) -> Ratio:
    successes, trials = rate
    return Ratio(lambda c: successes(c.cells_at(index)), lambda c: trials(c.cells_at(index)))


def _defined(value: PerClass) -> Callable[[Cells], tuple[Values, ...]]:
    def terms(cells: Cells) -> tuple[Values, ...]:
        values = value(cells)
        undefined = np.isnan(values)
        return np.where(undefined, 0.0, values), undefined.astype(np.float64)

    return terms


def _weighted(value: PerClass) -> Callable[[Cells], tuple[Values, ...]]:
    def terms(cells: Cells) -> tuple[Values, ...]:
        actual = cells.tp + cells.fn
        values = value(cells)
        undefined = np.isnan(values) & (actual > 0)
        return np.where(np.isnan(values), 0.0, values * actual), undefined.astype(np.float64), actual

    return terms


def _unless_undefined(total: Values, undefined: Values) -> Values:
    return np.where(undefined > 1e-9, np.nan, total)
