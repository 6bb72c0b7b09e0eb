"""Evidence: what this very point achieves, beside what the plain model achieves on the same rows.

On rows that did not fit the point its decisions are counted as they are (`held_out`). On the fitting rows they are
corrected for optimism, with points that were fitted without a part of the rows (`optimism_corrected`, see
`calibrate.optimism`). Where no such points can be fitted, because a class has one row or a promise needs all of them,
the simultaneous bands at the chosen cut stand in: they hold wherever the cut was chosen (`simultaneous`; two classes).

What the procedure that chose the point gives is kept apart (`procedure`, of the kind `cross_fitted`): each row decided
by a point that was fitted without the row's part, all parts together one confusion matrix. The parts are dealt out
within each class; rows of one group are in one part, and count as one row of which the others are copies.
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
from calibrate.methods.crossing import points_without, sorted_folds
from calibrate.metrics import Metric
from calibrate.operating_point import OperatingPoint
from calibrate.optimism import Corrections, decided_by_own_fold
from calibrate.paired import Paired, measure_gain
from calibrate.sorted_folds import SortedFolds
from calibrate.uncertainty import Interval, Kind, Table, measure, rows_per_weight

FOLDS = 5
_MORE_FOLDS = (FOLDS, 10, 25, 100)


@dataclass(frozen=True)
class Evidence:
    """Intervals by metric name, and why there are none, if so.

    `point` is about the point, `argmax` about the plain model on the same rows, `gain` how much better the point is
    (above 0 is better), `procedure` what the procedure that chose the point gives (empty on held-out rows). `paired`
    and `procedure_rows` are the decisions that they were measured on, `metrics` what was measured, `kind` that of
    `point` and `gain`.
    """

    point: Mapping[str, Interval] = field(default_factory=dict)
    argmax: Mapping[str, Interval] = field(default_factory=dict)
    gain: Mapping[str, Interval] = field(default_factory=dict)
    procedure: Mapping[str, Interval] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    kind: Kind = "held_out"
    metrics: tuple[Metric, ...] = ()
    paired: Paired | None = None
    procedure_rows: Paired | None = None

    def at_prevalence(self, shares: Float64[np.ndarray, "k"], rng: np.random.Generator | None = None) -> "Evidence":
        """Return the same decisions where the classes are as frequent as `shares` (k,) says, without the rows. What
        survives a change of prevalence stays as it is.
        """
        if self.paired is None:
            return self
        moved = measured(self.paired.at_prevalence(shares), self.kind, self.metrics, rng)
        procedure = {}
        if self.procedure_rows is not None:
            procedure = measure_procedure(self.procedure_rows.at_prevalence(shares), self.metrics, rng)
        kept = {metric.name for metric in self.metrics if metric.survives}

        def mix(before: Mapping[str, Interval], after: Mapping[str, Interval]) -> dict[str, Interval]:
            return {name: before[name] if name in kept else interval for name, interval in after.items()}

        return replace(
            moved,
            point=mix(self.point, moved.point),
            argmax=mix(self.argmax, moved.argmax),
            gain=mix(self.gain, moved.gain),
            procedure=mix(self.procedure, procedure),
            procedure_rows=self.procedure_rows,
            warnings=self.warnings,
        )


NO_EVIDENCE = Evidence()


def held_out(
    point: OperatingPoint,
    sample: Sample,
    metrics: Sequence[Metric],
    rng: np.random.Generator | None = None,
    *,
    known_prevalence: bool = False,
) -> Evidence:
    """Return the evidence on rows that did not fit the point; the caller answers for that.

    `known_prevalence` says that the rows are weighted to a known prevalence.
    """
    plain = OperatingPoint.argmax(point.classes).decide(sample.logits)
    paired = Paired.of(plain, point.decide(sample.logits), sample)
    return measured(
        replace(paired, known_prevalence=known_prevalence), "held_out", metrics, rng, same=_is_argmax(point)
    )


def of_fit(
    task: Task,
    fitted: Fitted,
    fit: Callable[[Task], Fitted],
    metrics: Sequence[Metric],
    *,
    rng: np.random.Generator | None = None,
) -> Evidence:
    """Return the evidence about a point on its own fitting rows.

    A point for which the labels of the rows were not used is scored as it is, held out, and so is the plain model's own
    rule where it was chosen.
    """
    known_prevalence = task.prevalence is not None
    if not fitted.rows_had_a_say:
        return held_out(fitted.point, task.sample, metrics, rng, known_prevalence=known_prevalence)
    argmax, sample = OperatingPoint.argmax(task.classes), task.sample
    try:
        folds, points, sides = _points_of_folds(task, fit, np.random.default_rng(0) if rng is None else rng)
    except (Infeasible, UndefinedMetric, MissingClass) as error:
        if len(task.classes) > 2:
            return Evidence(warnings=(f"no evidence: {error}",))
        plain, point = argmax.decide(task.logits), fitted.point.decide(task.logits)
        paired = replace(Paired.of(plain, point, sample), known_prevalence=known_prevalence)
        banded = measured(paired, "simultaneous", metrics, rng)
        return replace(banded, warnings=(f"evidence from simultaneous bands, which are wider: {error}",))
    if sides is not None:
        cuts = [float(each.bias[0] - each.bias[1]) for each in (argmax, fitted.point, *points)]
        sample, folds = sides.binned(cuts)
    plain, point = argmax.decide(sample.logits), fitted.point.decide(sample.logits)
    by_fold = [each.decide(sample.logits) for each in points]
    own = decided_by_own_fold(folds, by_fold)
    procedure_rows = replace(Paired.of(plain, own, sample), known_prevalence=known_prevalence)
    same = _is_argmax(fitted.point)  # no row had a part in the plain model's own rule, though all in choosing it
    paired = Paired.of(plain, point, sample) if same else Corrections.of(plain, point, folds, by_fold, sample).paired()
    paired = replace(paired, known_prevalence=known_prevalence)
    evidence = measured(paired, "held_out" if same else "optimism_corrected", metrics, rng, same=same)
    procedure = measure_procedure(procedure_rows, metrics, rng)
    return replace(evidence, procedure=procedure, procedure_rows=procedure_rows)


def _points_of_folds(
    task: Task, fit: Callable[[Task], Fitted], rng: np.random.Generator
) -> tuple[Int[np.ndarray, "n"], list[OperatingPoint], SortedFolds | None]:
    """The fold of each row, a point that was fitted without each fold, and the rows as those points saw them sorted.

    Raises: `MissingClass`, `UndefinedMetric`, `Infeasible`, each saying that a part of the rows was left out.
    """
    parts = parts_of_each_class(task.labels, task.groups, len(task.classes))
    if parts.min() < 2:
        name, unit = task.classes[int(parts.argmin())], "row" if task.groups is None else "group"
        raise MissingClass(f"class '{name}' has 1 {unit}, so none is left to score the point on")
    # What a promise needs may not be there without a fifth of the rows, but without a tenth.
    tries = _MORE_FOLDS if task.objective.certified else (FOLDS,)
    why: Infeasible | None = None
    for number in dict.fromkeys(min(each, int(parts.min())) for each in tries):
        folds = stratified_folds(task.labels, number, rng, task.groups)
        try:
            sides = sorted_folds(task, folds, fit)
            return folds, points_without(task, folds, fit, sides), sides
        except UndefinedMetric as error:
            raise UndefinedMetric(f"without one part of the rows, {error}") from None
        except MissingClass as error:
            raise MissingClass(f"without one part of the rows, {error}") from None
        except Infeasible as error:
            why = error
    raise Infeasible(f"without one part of the rows, {why}", () if why is None else why.nearest)


def _is_argmax(point: OperatingPoint) -> bool:
    """Whether a point is the plain model's own rule."""
    return point == OperatingPoint.argmax(point.classes)


def table_of(decided: Int[np.ndarray, "n"], sample: Sample) -> Table:
    """What these decisions on these rows amount to."""
    w = sample.weights
    amounts = squares = None
    if sample.amounts is not None:
        cells = 2 * (sample.labels == sample.at_stake) + (decided == sample.at_stake)
        amounts = np.bincount(cells, sample.amounts, 4).reshape(2, 2)
        squares = sample.amount_squares(cells, 4).reshape(2, 2)
    return Table(
        confusion_matrix(sample.labels, decided, sample.k, w),
        None if sample.squares is None else rows_per_weight(sample.actual, sample.squares),
        sample.cost_matrix,
        sample.at_stake,
        amounts,
        squares,
    )


def measured(
    paired: Paired,
    kind: Kind,
    metrics: Sequence[Metric],
    rng: np.random.Generator | None,
    *,
    same: bool = False,
) -> Evidence:
    """Return both decisions on the same rows, measured, and the difference between them.

    `same` says that the point is the plain model's own rule: it gains nothing, and that is certain.
    """
    # Without a generator each draws alike, so that equal decisions have equal intervals.
    point, argmax = (
        measure(paired.table(which), metrics, of, np.random.default_rng(0) if rng is None else rng)
        for which, of in (("point", kind), ("plain", "held_out"))
    )
    gain = {}
    if kind != "simultaneous":  # bands are about one point, not about the difference of two
        gain = measure_gain(paired, metrics, kind, np.random.default_rng(0) if rng is None else rng)
    if same:
        gain = {name: replace(each, value=0.0, low=0.0, high=0.0) for name, each in gain.items()}
    return Evidence(point, argmax, gain, kind=kind, metrics=tuple(metrics), paired=paired)


def measure_procedure(
    paired: Paired, metrics: Sequence[Metric], rng: np.random.Generator | None
) -> dict[str, Interval]:
    """Return what the procedure gives: the cross-fitted decisions, measured."""
    return measure(paired.table("point"), metrics, "cross_fitted", np.random.default_rng(0) if rng is None else rng)
