"""Which method: every one that can be fitted here, weighed on the same cross-fitted rows.

Decided here: the plain model is one of them, ties go to what fits less, and a method that cannot be fitted (no prior,
no costs) is left out and said so. Only a point that meets every constraint on the fitting rows may win. A method that
meets them there and cannot be cross-fitted, because a part of the rows cannot meet them, is weighed only where no other
is left, by its score on the fitting rows. The winner is fitted again on all rows. Its score in the comparison is the
best of several and flatters it; the evidence of a fit cross-fits the whole choice, so that does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from calibrate.errors import Infeasible, InputError, MissingClass, NotConverged
from calibrate.folds import parts_of_each_class, stratified_folds
from calibrate.methods.crossing import decided_without
from calibrate.methods.task import Fitted, Task, check_counts
from calibrate.operating_point import OperatingPoint

_FOLDS = 5


def fit_argmax(task: Task) -> Fitted:
    """The plain model's own decision."""
    return Fitted(OperatingPoint.argmax(task.classes), rows_had_a_say=False)


def fit_auto(task: Task, candidates: Mapping[str, Callable[[Task], Fitted]], unable: Sequence[str] = ()) -> Fitted:
    """The best of these methods by the cross-fitted objective, with the decisions of each as `compared`; `unable` are
    those that cannot certify what is asked for.

    Raises: where none can be fitted the `Infeasible` that came nearest, else what the first candidate raised.
    """
    if len(candidates) == 1:  # nothing to weigh
        ((only, fit),) = candidates.items()
        alone = fit(task)
        notes = tuple(f"auto left out {name}: it cannot certify" for name in unable)
        return replace(alone, method=only, notes=(*notes, *alone.notes))
    fitted: dict[str, Fitted] = {}
    left_out: dict[str, Exception] = {}
    decided: dict[str, Int[np.ndarray, "n"]] = {}
    for name, fit in candidates.items():
        try:
            whole = fit(task)
            check_counts(task.objective, task.sample.counts(whole.point.decide(task.logits)), f"by {name}")
            fitted[name] = whole
            decided[name] = _cross_fitted(task, whole, fit)
        except (InputError, NotConverged) as error:
            left_out[name] = error
    if not fitted:
        raise _nearest(task, list(left_out.values()))
    weighed = decided or {name: whole.point.decide(task.logits) for name, whole in fitted.items()}
    scores = {name: task.objective.score(task.sample.counts(rows)) for name, rows in weighed.items()}
    winner = max(scores, key=lambda name: scores[name].key)
    notes = tuple(f"auto left out {name}: {error}" for name, error in left_out.items() if name != winner)
    why = f"the best of {len(decided)} by cross-fitting"
    if not decided:
        why = f"the best of {len(fitted)} on the fitting rows, as none could be cross-fitted: {left_out[winner]}"
    return replace(
        fitted[winner],
        method=winner,
        compared=decided,
        notes=(f"auto took {winner}, {why}", *notes, *fitted[winner].notes),
        rows_had_a_say=True,
    )


def _nearest(task: Task, errors: Sequence[Exception]) -> Exception:
    """The error to raise where no method could be fitted: the `Infeasible` that came nearest, else the first."""

    def distance(error: Infeasible) -> float:
        by_text = {each.text: each for each in task.objective.constraints}
        return sum(float(by_text[near.constraint].shortfall_of(np.asarray(near.value))) for near in error.nearest)

    infeasible = [error for error in errors if isinstance(error, Infeasible)]
    return min(infeasible, key=distance) if infeasible else errors[0]


def _cross_fitted(task: Task, whole: Fitted, fit: Callable[[Task], Fitted]) -> Int[np.ndarray, "n"]:
    """The decision on each row of a point that was fitted without it."""
    if not whole.rows_had_a_say:
        return whole.point.decide(task.logits)
    parts = int(parts_of_each_class(task.labels, task.groups, len(task.classes)).min())
    if parts < 2:
        raise MissingClass("a class has rows in one part only, so it cannot be cross-fitted")
    folds = stratified_folds(task.labels, min(_FOLDS, parts), np.random.default_rng(0), task.groups)
    return decided_without(task, folds, fit)
