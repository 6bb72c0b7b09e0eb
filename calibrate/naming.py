"""What users write for a metric: a name, a name with numbers or a class, their own expression, or a Python function.

`f1`, `fbeta(2)`, `recall[fraud]`, `f1_macro`, `cost(fp=1, fn=50)`, `2*tp/(2*tp + fp + 3*fn)`; a `minimize` or a
`maximize` before it turns the direction that the table gives. An expression or a function is a metric of one class
against the rest: of the positive class, or in more than two classes the mean over them.

Decided here: what stands between the first `[` and the last `]` is the name of a class, whatever it is made of: `>50K`,
`a]b` and `x @ 95%` are classes. Nothing in the grammar behind a class holds a `]`, so there is one way to read a text.
Spaces around a class are ignored unless they are part of its name.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from calibrate.aliases import ALIASES, SCORES, CanonicalName, canonical_name, known_names
from calibrate.counts import Cells, Values
from calibrate.errors import UnknownClass, UnknownMetric, did_you_mean, shown
from calibrate.expression import FUNCTIONS, Expression, parse_expression
from calibrate.metrics import (
    METRICS,
    Definition,
    Metric,
    class_index,
    never,
    of_one_class,
    over_all,
    over_classes,
)

COUNT_NAMES = ("tp", "fp", "fn", "tn", "n")
RATE_NAMES = tuple(
    name for name, row in METRICS.items() if row.per_class is not None and not row.arguments and row.reads == "rows"
)
_RATE_ALIASES = {alias: name for alias, name in ALIASES.items() if name in RATE_NAMES}
_FORM = re.compile(
    r"(?P<name>[A-Za-z_]*f0\.5[A-Za-z_]*|[A-Za-z_0-9]++)\s*+(\((?P<arguments>[^()]*+)\))?\s*+(\[(?P<class_>.*)\])?",
    re.DOTALL,
)
_DIRECTION = re.compile(r"(?P<verb>minimi[sz]e|maximi[sz]e)\s++(?P<metric>.+)", re.DOTALL)
_LONGEST = 1000

MetricText = str | Metric | Callable[[Cells], ArrayLike]


@dataclass(frozen=True)
class Naming:
    """What a text is read against: the classes, which is positive (None: no class was named, or of two the second),
    and how frequent each is in training, where that is known.
    """

    classes: tuple[str, ...]
    positive: int | None
    frequencies: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls, classes: Sequence[str], positive: str | None = None, frequencies: Sequence[float] | None = None
    ) -> "Naming":
        """Raises: `UnknownClass`."""
        index = 1 if len(classes) == 2 else None
        if positive is not None:
            index = class_index(positive, classes)
        return cls(tuple(classes), index, None if frequencies is None else tuple(frequencies))


def parse_metric(
    text: MetricText,
    classes: Sequence[str],
    positive: str | None = None,
    frequencies: Sequence[float] | None = None,
) -> Metric:
    """The metric that a text names: `f1`, `fbeta(2)`, `recall[fraud]`, `tp/(tp + fp)`; or a function of `Cells`.

    `positive` names the positive class; in two classes it is the second unless named. `frequencies` (k,) of the classes
    in training are what `recall_head`, `_middle` and `_tail` need.

    Raises: `UnknownMetric`, `BadExpression`, `UnknownClass`.

    >>> from calibrate.counts import Counts
    >>> counts = Counts.of_confusion(np.array([[90, 5], [2, 3]]))
    >>> float(parse_metric("recall", ["clear", "fraud"]).value(counts))
    0.6
    """
    naming = Naming.of(classes, positive, frequencies)
    if isinstance(text, Metric):
        return text
    if callable(text):
        return _written(text, getattr(text, "__name__", "function"), naming)
    if not isinstance(text, str) or not 0 < len(text.strip()) <= longest_text(classes):
        raise UnknownMetric(f"a metric is a text of at most {longest_text(classes)} characters; got {shown(text)}")
    text = text.strip()
    if turned := _DIRECTION.fullmatch(text):
        metric = _parsed(turned["metric"].strip(), naming)
        larger = turned["verb"].startswith("max")
        if larger == metric.larger_is_better:
            return metric
        name = f"{'maximize' if larger else 'minimize'} {metric.name}"
        return replace(metric, name=name, larger_is_better=larger, monotone=False)
    return _parsed(text, naming)


def standard_metrics(classes: Sequence[str], positive: str | None = None) -> list[Metric]:
    """The metrics that every report shows; in more than two classes each class's recall too."""
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "g_mean", "mcc")
    metrics = [parse_metric(name, classes, positive) for name in names]
    if len(classes) == 2 or positive is not None:
        return [*metrics, parse_metric("alert_rate", classes, positive)]
    k = len(classes)
    return metrics + [of_one_class(METRICS["recall"], f"recall[{c}]", {}, i, k) for i, c in enumerate(classes)]


def metric_names() -> str:
    """Every name with its arguments, for a message or a help text."""
    return ", ".join(f"{name}({', '.join(row.arguments)})" if row.arguments else name for name, row in METRICS.items())


def longest_text(classes: Sequence[str]) -> int:
    """Return how many characters a metric or a constraint may have: 1,000, and a class name."""
    return _LONGEST + max(map(len, classes))


def _parsed(text: str, naming: Naming) -> Metric:
    form = _FORM.fullmatch(text)
    if form is not None:
        name = canonical_name(form["name"])
        if name is not None:
            return _named(form, name, naming)
        if form["name"] not in (*COUNT_NAMES, *FUNCTIONS):
            near = did_you_mean(form["name"], known_names())
            if form["name"] in SCORES:
                near = f", which is a score of the model that no operating point changes{near}"
            raise UnknownMetric(f"metric must be one of {metric_names()}, or an expression; got {shown(text)}{near}")
    expression = parse_expression(text, (*COUNT_NAMES, *RATE_NAMES), _RATE_ALIASES)
    return _written(_Evaluator(expression), expression.text, naming)


def _class_in_brackets(text: str, classes: Sequence[str]) -> int:
    """The index of the class; spaces around its name are ignored where no class has them. Raises: `UnknownClass`."""
    if text in classes:
        return class_index(text, classes)
    alike = [name for name in classes if name.strip() == text.strip()]
    if len(alike) > 1:
        raise UnknownClass(f"class {shown(text)} may be {' or '.join(map(shown, alike))}: write it with its spaces")
    return class_index(alike[0] if alike else text.strip(), classes)


def _named(form: re.Match[str], canonical: CanonicalName, naming: Naming) -> Metric:
    name, suffix = canonical.metric, canonical.form
    definition, k = METRICS[name], len(naming.classes)
    if canonical.arguments is not None and form["arguments"] is not None:
        raise UnknownMetric(f"metric '{form['name']}' is {name}({canonical.arguments}), it takes no arguments")
    arguments, written = _arguments(canonical.arguments or form["arguments"], definition, name)
    title = canonical.text + written
    index = naming.positive
    if form["class_"] is not None:
        if definition.per_class is None or suffix is not None:
            raise UnknownMetric(f"metric '{form['name']}' is over all classes, it has no form {shown(form.string)}")
        index = _class_in_brackets(form["class_"], naming.classes)
        title = f"{title}[{naming.classes[index]}]"
    positive = 1 if index is None else index
    if definition.per_class is None:
        if suffix is not None:
            raise UnknownMetric(f"metric '{name}' is over all classes, it has no form {shown(form.string)}")
        return over_all(definition, title, positive)
    if suffix is None and index is not None and (definition.unqualified is None or form["class_"] is not None):
        return of_one_class(definition, title, arguments, index, k)
    if definition.one_class:
        raise UnknownMetric(f"metric '{name}' is of one class: write {name}[CLASS] or say which is positive")
    suffix = suffix or definition.unqualified or "macro"
    shares = _group(suffix, naming, title) if suffix in ("head", "middle", "tail") else None
    return over_classes(definition, title, arguments, suffix, positive, k, shares)


def _arguments(text: str | None, definition: Definition, name: str) -> tuple[dict[str, float], str]:
    """The numbers by name, and how they are written."""
    wanted = definition.arguments
    form = f"{name}({', '.join(wanted)})" if wanted else name
    if (text is None) != (not wanted):
        raise UnknownMetric(f"metric '{name}' is written {form}")
    given: dict[str, float] = {}
    for place, part in enumerate(text.split(",") if text is not None else ()):
        key, equals, value = part.rpartition("=")
        key = key.strip() if equals else (list(wanted)[place] if place < len(wanted) else "")
        if key not in wanted or key in given:
            raise UnknownMetric(f"metric '{name}' is written {form}; got {shown(part.strip())}")
        given[key] = _number(value, f"{key} of metric '{name}'", wanted[key].above, wanted[key].at_most)
    values = {key: given.get(key, row.default) for key, row in wanted.items()}
    if missing := [key for key, value in values.items() if value is None]:
        raise UnknownMetric(f"metric '{name}' is written {form}; {missing[0]} is missing")
    numbers = {key: float(value) for key, value in values.items() if value is not None}
    if len(wanted) < 2:
        return numbers, "".join(f"({value:.12g})" for value in numbers.values())
    return numbers, f"({', '.join(f'{key}={numbers[key]:.12g}' for key in numbers if key in given)})"


def _number(text: str, what: str, above: float, at_most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not above < number <= at_most:
        raise UnknownMetric(f"{what} must be a number above {above:g} and at most {at_most:g}, got {shown(text)}")
    return number


def _group(suffix: str, naming: Naming, title: str) -> np.ndarray:
    """The shares of the classes of one third, by training frequency; the larger thirds come first."""
    k = len(naming.classes)
    if naming.frequencies is None:
        raise UnknownMetric(f"metric '{title}' needs the prior: how frequent each class is in training")
    if k < 3:
        raise UnknownMetric(f"metric '{title}' needs three classes or more, got {k}")
    order = np.argsort(-np.asarray(naming.frequencies), kind="stable")
    members = np.array_split(order, 3)[("head", "middle", "tail").index(suffix)]
    shares = np.zeros(k)
    shares[members] = 1 / members.size
    return shares


@dataclass(frozen=True)
class _Evaluator:
    """An expression as a function of cells."""

    expression: Expression

    def __call__(self, cells: Cells) -> Values:
        expression = self.expression
        values = {name: getattr(cells, name) for name in COUNT_NAMES if name in expression.names}
        for name in RATE_NAMES:
            if name in expression.names:
                values[name] = _rate(name, cells)
        return np.broadcast_to(expression.value(values), np.shape(cells.tp)).astype(np.float64)


def _rate(name: str, cells: Cells) -> Values:
    per_class = METRICS[name].per_class
    return np.asarray(np.nan) if per_class is None else per_class(cells)


@dataclass(frozen=True)
class _WrittenValue:
    """A function that a user wrote, its values checked: one for each cut, NaN where not finite."""

    function: Callable[[Cells], ArrayLike]
    name: str

    def __call__(self, cells: Cells) -> Values:
        with np.errstate(all="ignore"):
            values = np.asarray(self.function(cells), dtype=np.float64)
        if values.shape != np.shape(cells.tp):
            raise UnknownMetric(
                f"metric '{self.name}' must give one number for each cut: wanted shape {np.shape(cells.tp)}, "
                f"got {values.shape}"
            )
        return np.where(np.isfinite(values), values, np.nan)


def _written(function: Callable[[Cells], ArrayLike], name: str, naming: Naming) -> Metric:
    """A metric that a user wrote; nothing is known of it, so every cut has to be tried."""
    definition = Definition("as written", _WrittenValue(function, name), monotone=never)
    if naming.positive is not None:
        return of_one_class(definition, name, {}, naming.positive, len(naming.classes))
    return over_classes(definition, name, {}, "macro", 1, len(naming.classes))
