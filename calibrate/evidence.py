"""Evidence: what a point achieves on rows that did not fit it, beside what the plain model achieves on the same rows.

Cross-fitting splits the rows within each class, fits without one part at a time and scores that part; all parts
together are one confusion matrix. It scores the procedure: the point itself was fitted on all rows. Rows of one group
are in one part, and count as one row of which the others are copies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int

from calibrate.ascent import Sample
from calibrate.counts import confusion_matrix
from calibrate.errors import Infeasible, MissingClass, UndefinedMetric
from calibrate.folds import parts_of_each_class, stratified_folds
from calibrate.methods import Fitted, Task
from calibrate.methods.crossing import decided_without
from calibrate.metrics import Metric
from calibrate.operating_point import OperatingPoint
from calibrate.paired import Paired, measure_gain
from calibrate.uncertainty import Interval, Kind, Table, measure, rows_per_weight

FOLDS = 5
_MORE_FOLDS = (FOLDS, 10, 25, 100)


@dataclass(frozen=True)
class Evidence:
    """Intervals by metric name for the point and for argmax on the same rows, and how much better the point is (above 0
    is better); why there are none, if so. `paired` is what they were measured on, `metrics` what was measured.
    """

    point: Mapping[str, Interval] = field(default_factory=dict)
    argmax: Mapping[str, Interval] = field(default_factory=dict)
    gain: Mapping[str, Interval] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    kind: Kind = "held_out"
    metrics: tuple[Metric, ...] = ()
    paired: Paired | None = None

    def at_prevalence(self, shares: Float64[np.ndarray, "k"], rng: np.random.Generator | None = None) -> "Evidence":
        """The same decisions where the classes are as frequent as `shares` (k,) says, without the rows. What survives
        a change of prevalence stays as it is.
        """
        if self.paired is None:
            return self
        anew = measured(self.paired.at_prevalence(shares), self.kind, self.metrics, rng)
        kept = {metric.name for metric in self.metrics if metric.survives}
        return replace(
            anew,
            point={name: self.point[name] if name in kept else found for name, found in anew.point.items()},
            argmax={name: self.argmax[name] if name in kept else found for name, found in anew.argmax.items()},
            gain={name: self.gain[name] if name in kept else found for name, found in anew.gain.items()},
            warnings=self.warnings,
        )


NO_EVIDENCE = Evidence()


def held_out(
    point: OperatingPoint,
    sample: Sample,
    metrics: Sequence[Metric],
    rng: np.random.Generator | None = None,
) -> Evidence:
    """Evidence on rows that did not fit the point; the caller answers for that."""
    return _compare(point.decide(sample.logits), "held_out", point.classes, sample, metrics, rng)


def cross_fitted(
    task: Task,
    fitted: Fitted,
    fit: Callable[[Task], Fitted],
    metrics: Sequence[Metric],
    *,
    rng: np.random.Generator | None = None,
) -> Evidence:
    """Evidence on the fitting rows, each decided by a point that was fitted without it.

    A point on which the rows had no say is scored as it is, held out.
    """
    if not fitted.rows_had_a_say:
        return held_out(fitted.point, task.sample, metrics, rng)
    rng = np.random.default_rng(0) if rng is None else rng
    parts = parts_of_each_class(task.labels, task.groups, len(task.classes))
    if parts.min() < 2:
        name, unit = task.classes[int(parts.argmin())], "row" if task.groups is None else "group"
        return Evidence(warnings=(f"no evidence: class '{name}' has 1 {unit}, so none is left to score the point on",))
    # What a promise needs may not be there without a fifth of the rows, but without a tenth.
    tries = _MORE_FOLDS if task.objective.certified else (FOLDS,)
    why: Exception | None = None
    for number in dict.fromkeys(min(each, int(parts.min())) for each in tries):
        folds = stratified_folds(task.labels, number, rng, task.groups)
        try:
            decided = decided_without(task, folds, fit)
        except (UndefinedMetric, MissingClass) as error:
            return Evidence(warnings=(f"no evidence: without one part of the rows, {error}",))
        except Infeasible as error:
            why = error
        else:
            return _compare(decided, "cross_fitted", task.classes, task.sample, metrics, rng)
    return Evidence(warnings=(f"no evidence: without one part of the rows, {why}",))


def table_of(decided: Int[np.ndarray, "n"], sample: Sample) -> Table:
    """What these decisions on these rows amount to."""
    w = sample.weights
    amounts = squares = None
    if sample.amounts is not None:
        cells = 2 * (sample.labels == sample.at_stake) + (decided == sample.at_stake)
        amounts = np.bincount(cells, sample.amounts, 4).reshape(2, 2)
        squares = np.bincount(cells, sample.amounts**2, 4).reshape(2, 2)
    return Table(
        confusion_matrix(sample.labels, decided, sample.k, w),
        None if sample.squares is None else rows_per_weight(sample.actual, sample.squares),
        sample.cost_matrix,
        sample.at_stake,
        amounts,
        squares,
    )


def _compare(
    decided: Int[np.ndarray, "n"],
    kind: Kind,
    classes: tuple[str, ...],
    sample: Sample,
    metrics: Sequence[Metric],
    rng: np.random.Generator | None,
) -> Evidence:
    plain = OperatingPoint.argmax(classes).decide(sample.logits)
    return measured(Paired.of(plain, decided, sample), kind, metrics, rng)


def measured(paired: Paired, kind: Kind, metrics: Sequence[Metric], rng: np.random.Generator | None) -> Evidence:
    """Both decisions on the same rows, measured, and what is between them."""
    # Without a generator each draws alike, so that equal decisions have equal intervals.
    point, argmax = (
        measure(paired.table(which), metrics, of, np.random.default_rng(0) if rng is None else rng)
        for which, of in (("point", kind), ("plain", "held_out"))
    )
    gain = measure_gain(paired, metrics, kind, np.random.default_rng(0) if rng is None else rng)
    return Evidence(point, argmax, gain, kind=kind, metrics=tuple(metrics), paired=paired)
