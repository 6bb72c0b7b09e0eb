"""Objectives: a metric to maximise or minimise, under any number of constraints.

Decided here: a constraint compares the measured metric with its bound exactly as written (`recall >= 0.9` holds at 9 of
10), and one that is undefined (0/0) is not met. A metric's value carries the rounding of the few operations that make
it: MCC is 0.19999999999999998 where it is 1/5. So values within 8 steps of float64, `ROUNDING` times the metric's
`scale`, are equal: a bound is met by a value that equals it, and of cuts with equal gains the first wins, the one with
fewer alerts. Counts have no rounding (`calibrate.counts`), and two values of a share differ by far more.

Where none of several cuts meets all constraints, that is `Infeasible`, never a made-up point; it says how near each
constraint can come, on its own and while the others hold.

A constraint with a confidence (`recall >= 0.9 @ 95%`) is about new rows, not these: `calibrate.methods.certified` keeps
it. Only shares of rows can be certified, and only bounds that some share can be on either side of.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int

from calibrate.counts import Counts, Values
from calibrate.errors import BadConstraint, shown
from calibrate.metrics import METRICS, Metric
from calibrate.naming import MetricText, longest_text, parse_metric

# A metric with a class ends at the last `]` (`calibrate.naming`), one without holds no sign.
_FORM = re.compile(
    r"(?P<metric>[^<>@\[\]]*+\[.*\]|[^<>@\[\]]++)\s*+(?P<sign>>=|<=)\s*+(?P<bound>[0-9.eE+-]++)\s*+(?P<percent>%)?"
    r"\s*+(?:per\s++(?P<per>[0-9.eE+_-]++))?\s*+(?P<confidence>@[^\]]*)?",
    re.DOTALL,
)
ROUNDING = 2.0**-49  # eight steps of float64 at 1
_ALERTS = re.compile(r"alerts(?=\s*(\[.*\])?\Z)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Constraint:
    """A bound on a metric: `recall >= 0.9`. `kind` says whether it is of these rows (`measured`) or a promise about new
    ones: with a `confidence`, or on average.
    """

    text: str
    metric: Metric
    at_least: bool
    bound: float
    kind: Literal["measured", "confidence", "average"] = "measured"
    confidence: float | None = None

    def shortfall(self, counts: Counts) -> Values:
        """How far each set of counts is from meeting it: 0 where met, infinite where undefined."""
        return self.shortfall_of(self.metric.value(counts))

    def shortfall_of(self, values: Values, rounding: float = ROUNDING) -> Values:
        """The same of values of the metric, which carry this relative `rounding`."""
        short = self.bound - values if self.at_least else values - self.bound
        met = short <= rounding * max(self.metric.scale, abs(self.bound))
        return np.where(np.isnan(values), np.inf, np.where(met, 0.0, short))

    @property
    def monotone(self) -> bool:
        """Whether taking a false alarm away never breaks it."""
        return self.metric.of_positives or (self.metric.monotone and self.at_least == self.metric.larger_is_better)


@dataclass(frozen=True, eq=False)
class Objective:
    """What a fit is for: the metric, its constraints, and the cost matrix (k, k) that `mean_cost` reads, a row for
    each decision and a column for each true class.
    """

    metric: Metric
    constraints: tuple[Constraint, ...] = ()
    cost_matrix: Float64[np.ndarray, "k k"] | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metric and those of the constraints."""
        return (self.metric, *(constraint.metric for constraint in self.constraints))

    @property
    def certified(self) -> tuple[Constraint, ...]:
        """The constraints that are promises about new rows."""
        return tuple(constraint for constraint in self.constraints if constraint.kind != "measured")

    @property
    def measured(self) -> "Objective":
        """The same without those."""
        return replace(self, constraints=tuple(each for each in self.constraints if each.kind == "measured"))

    @property
    def positive(self) -> int:
        """The metric's positive class; a constraint's where the metric is of all classes alike."""
        named = [metric.positive for metric in self.metrics if not metric.symmetric]
        return named[0] if named else self.metric.positive

    @property
    def monotone(self) -> bool:
        """Whether the cuts just below a positive, and no alert at all, are all that can be best."""
        same = all(metric.symmetric or metric.positive == self.positive for metric in self.metrics)
        metric = self.metric
        return same and (metric.monotone or metric.of_positives) and all(c.monotone for c in self.constraints)

    @property
    def name(self) -> str:
        """The metric and its constraints, as a person would write them."""
        return self.metric.name + "".join(f"; {constraint.text}" for constraint in self.constraints)

    def reads(self, what: str) -> bool:
        """Whether some metric reads the `amounts` or the `cost` of counts."""
        return any(metric.reads == what for metric in self.metrics)

    def score(self, counts: Counts) -> "Score":
        """The gain and the shortfall of every set of counts."""
        if self.cost_matrix is not None and counts.cost is None and self.reads("cost"):
            counts = counts.costed(self.cost_matrix)
        return self.score_of([metric.value(counts) for metric in self.metrics])

    def score_of(self, values: Sequence[Values], rounding: float = ROUNDING) -> "Score":
        """The same of values of `metrics`, one after the other, which carry this relative `rounding`."""
        gain = values[0] if self.metric.larger_is_better else -values[0]
        short = np.zeros(np.shape(gain))
        for constraint, reached in zip(self.constraints, values[1:], strict=True):
            short = short + constraint.shortfall_of(reached, rounding)
        return Score(np.where(np.isnan(gain), -np.inf, gain), np.asarray(short), self.metric.scale, rounding)


@dataclass(frozen=True, eq=False)
class Score:
    """How good each candidate is: first how little it falls short of the constraints, then its gain (minus infinity
    where the metric is undefined).

    Gains are equal where they differ by at most `rounding` times themselves, or times `scale` where that is more.
    """

    gain: Float64[np.ndarray, "*cuts"]
    shortfall: Float64[np.ndarray, "*cuts"]
    scale: float = 0.0
    rounding: float = ROUNDING

    def best(self, allowed: Bool[np.ndarray, "cuts"] | bool = True) -> int:
        """Return the index of the first of the best candidates: among those that meet the constraints the ones with
        most gain, else those that are nearest to meeting them. Where none is allowed, the first.
        """
        return int(self.best_of_each(allowed))

    def best_of_each(self, allowed: Bool[np.ndarray, "cuts"] | bool = True) -> Int[np.ndarray, "..."]:
        """Return the same along the last axis, for each entry of the others."""
        nearest = self.shortfall <= np.where(allowed, self.shortfall, np.inf).min(axis=-1, keepdims=True)
        gain = np.where(nearest & allowed, self.gain, -np.inf)
        most = gain.max(axis=-1, keepdims=True)
        return np.asarray((gain >= most - self._equal_within(most)).argmax(axis=-1))

    def at(self, index: int) -> "Score":
        """One candidate's."""
        return replace(self, gain=np.asarray(self.gain[index]), shortfall=np.asarray(self.shortfall[index]))

    def beats(self, other: "Score") -> bool:
        """Whether one candidate is better than another by more than rounding."""
        if float(self.shortfall) != float(other.shortfall):
            return float(self.shortfall) < float(other.shortfall)
        equal_within = float(self._equal_within(self.gain)) if math.isfinite(float(self.gain)) else 0.0
        return float(self.gain) > float(other.gain) + equal_within

    def _equal_within(self, gain: Float64[np.ndarray, "..."]) -> Values:
        return np.asarray(self.rounding * np.maximum(np.abs(gain), self.scale))

    @property
    def key(self) -> tuple[float, float]:
        """One candidate's score as a pair that compares: larger is better."""
        return -float(self.shortfall), float(self.gain)

    @property
    def feasible(self) -> bool:
        """Whether one candidate meets every constraint and has a defined gain."""
        return float(self.shortfall) == 0 and math.isfinite(float(self.gain))


NO_SCORE = Score(np.asarray(-np.inf), np.asarray(np.inf))


def parse_objective(
    metric: MetricText,
    constraints: str | Sequence[str] | None,
    classes: Sequence[str],
    positive: str | None = None,
    frequencies: Sequence[float] | None = None,
    cost_matrix: Float64[np.ndarray, "k k"] | None = None,
) -> Objective:
    """The objective that a metric and constraints name.

    Raises: `UnknownMetric`, `BadExpression`, `UnknownClass`, `BadConstraint`.

    >>> parse_objective("precision", ["recall >= 0.9"], ["clear", "fraud"]).name
    'precision; recall >= 0.9'
    """
    texts = [constraints] if isinstance(constraints, str) else list(constraints or ())
    return Objective(
        parse_metric(metric, classes, positive, frequencies),
        tuple(parse_constraint(text, classes, positive, frequencies) for text in texts),
        cost_matrix,
    )


def parse_constraint(
    text: str, classes: Sequence[str], positive: str | None = None, frequencies: Sequence[float] | None = None
) -> Constraint:
    """The constraint that a text names: `recall >= 0.9`, `precision[fraud] >= 80%`, `alerts <= 200 per 100000`.

    `@ 95%` (or `@ 0.95`, from 50 % to below 100 %) behind it makes it a promise about new rows with that confidence,
    `@ average` one that holds on average; for shares of rows, with a bound between 0 and 1.

    Raises: `BadConstraint`, and what `parse_metric` raises.
    """
    form = _FORM.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= longest_text(classes) else None
    if form is None:
        raise BadConstraint(f"a constraint is written as recall >= 0.9 or alert_rate <= 0.002; got {shown(text)}")
    bound = _number(form["bound"], text)
    bound = float(f"{bound / 100:.12g}") if form["percent"] else bound  # 55.1% is 0.551, as it is written
    name = form["metric"].strip()
    if alerts := _ALERTS.match(name):
        if form["per"] is None:
            raise BadConstraint(f"alerts are counted per rows: alerts <= 200 per 100000; got {shown(text)}")
        name = f"alert_rate{name[alerts.end() :]}"
    elif form["per"] is not None:
        raise BadConstraint(f"only alerts are counted per rows: alerts <= 200 per 100000; got {shown(text)}")
    if form["per"] is not None:
        per = _number(form["per"].replace("_", ""), text)
        if per < 1:
            raise BadConstraint(f"alerts are counted per 1 row or more; got {shown(text)}")
        bound /= per
    metric = parse_metric(name, classes, positive, frequencies)
    if not math.isfinite(bound):
        raise BadConstraint(f"a bound must be a finite number, got {shown(text)}")
    constraint = Constraint(f"{metric.name} {form['sign']} {_written(bound)}", metric, form["sign"] == ">=", bound)
    return constraint if form["confidence"] is None else _promised(constraint, form["confidence"][1:].strip(), text)


def _written(bound: float) -> str:
    """The shortest text that is read as the same number."""
    short = f"{bound:.12g}"
    return short if float(short) == bound else repr(bound)


def _promised(constraint: Constraint, confidence: str, text: str) -> Constraint:
    """The constraint as a promise. Raises: `BadConstraint`."""
    if constraint.metric.rate is None:
        shares = ", ".join(name for name, row in METRICS.items() if row.rate is not None)
        raise BadConstraint(
            f"only shares of rows can be certified ({shares}; with more than two classes of one class, as in "
            f"recall[CLASS]); got {shown(text)}"
        )
    if not 0 < constraint.bound < 1:
        raise BadConstraint(f"a certified bound must lie between 0 and 1: nothing certifies {shown(text)}")
    if confidence == "average":
        return replace(constraint, text=f"{constraint.text} @ average", kind="average")
    number = _number(confidence.removesuffix("%").strip(), text)
    number = float(f"{number / 100:.12g}") if confidence.endswith("%") else number
    if not 0.5 <= number < 1:
        raise BadConstraint(f"a confidence is from 50% to below 100%, as in @ 95%, or @ average; got {shown(text)}")
    written = f"{constraint.text} @ {100 * number:.12g}%"
    return replace(constraint, text=written, kind="confidence", confidence=number)


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadConstraint(f"{shown(text)} is not a number in the constraint {shown(whole)}")
    return number
