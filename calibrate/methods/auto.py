"""Which method: every one that can be fitted here, weighed on the same cross-fitted rows.

Decided here: the plain model is one of them, ties go to what fits less, and a method that cannot be fitted (no prior,
no costs) is left out and said so. The winner is fitted again on all rows. Its score in the comparison is the best of
several and flatters it; the evidence of a fit cross-fits the whole choice, so that does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from calibrate.errors import InputError, MissingClass, NotConverged
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

    Raises: what the first candidate raised where none can be fitted, `Infeasible` among it.
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
            fitted[name] = fit(task)
            check_counts(task.objective, task.sample.counts(fitted[name].point.decide(task.logits)), f"by {name}")
            decided[name] = _cross_fitted(task, fitted[name], fit)
        except (InputError, NotConverged) as error:
            left_out[name] = error
    if not decided:
        raise next(iter(left_out.values()))
    scores = {name: task.objective.score(task.sample.counts(rows)) for name, rows in decided.items()}
    winner = max(scores, key=lambda name: scores[name].key)
    notes = tuple(f"auto left out {name}: {error}" for name, error in left_out.items())
    return replace(
        fitted[winner],
        method=winner,
        compared=decided,
        notes=(f"auto took {winner}, the best of {len(decided)} by cross-fitting", *notes, *fitted[winner].notes),
        rows_had_a_say=True,
    )


def _cross_fitted(task: Task, whole: Fitted, fit: Callable[[Task], Fitted]) -> Int[np.ndarray, "n"]:
    """The decision on each row of a point that was fitted without it."""
    if not whole.rows_had_a_say:
        return whole.point.decide(task.logits)
    parts = int(parts_of_each_class(task.labels, task.groups, len(task.classes)).min())
    if parts < 2:
        raise MissingClass("a class has rows in one part only, so it cannot be cross-fitted")
    folds = stratified_folds(task.labels, min(_FOLDS, parts), np.random.default_rng(0), task.groups)
    return decided_without(task, folds, fit)
