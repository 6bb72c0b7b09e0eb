"""Cross-fitting: points that were fitted without a part of the rows."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from calibrate.errors import Infeasible, MissingClass
from calibrate.methods.bias_adjustment import fit_bias_adjustment
from calibrate.methods.task import Fitted, Task, point_at, turned
from calibrate.operating_point import OperatingPoint
from calibrate.sorted_folds import SortedFolds


def points_without(
    task: Task, folds: Int[np.ndarray, "n"], fit: Callable[[Task], Fitted], sides: SortedFolds | None = None
) -> list[OperatingPoint]:
    """For each fold, from 0 on, a point that was fitted without its rows; with `sides` by sweeps of those.

    Raises: what the fit raises, and `MissingClass` where a class has rows in one fold only.
    """
    points = []
    for fold in range(int(folds.max()) + 1):
        if sides is not None:
            _check_classes(task, np.array(sides.rows_without(fold)))
            points.append(_exact_point(task, sides, fold))
            continue
        kept = np.flatnonzero(folds != fold)
        _check_classes(task, np.bincount(task.labels[kept], minlength=len(task.classes)))
        points.append(fit(task.with_rows(kept)).point)
    return points


def sorted_folds(task: Task, folds: Int[np.ndarray, "n"], fit: Callable[[Task], Fitted]) -> SortedFolds | None:
    """The rows sorted by class and fold, where a fit is an exact cut of rows that count once each; else None."""
    is_cut = fit is fit_bias_adjustment and task.search == "exact" and not task.objective.certified
    counts_once = task.weights is None and task.amounts is None and task.groups is None
    if len(task.classes) != 2 or not is_cut or not counts_once or task.objective.cost_matrix is not None:
        return None
    return SortedFolds.of(task.margins, task.labels, folds)


def decided_without(task: Task, folds: Int[np.ndarray, "n"], fit: Callable[[Task], Fitted]) -> Int[np.ndarray, "n"]:
    """The decision on each row (n,) of a point that was fitted without the row's fold.

    Raises: what `points_without` raises.
    """
    decided = np.empty_like(task.labels)
    for fold, point in enumerate(points_without(task, folds, fit, sorted_folds(task, folds, fit))):
        rows = np.flatnonzero(folds == fold)
        if rows.size:
            decided[rows] = point.decide(task.logits[rows])
    return decided


def _exact_point(task: Task, sides: SortedFolds, fold: int) -> OperatingPoint:
    try:
        cut = sides.cut_without(fold, task.objective)
    except Infeasible as error:
        raise turned(error, task.objective.positive) from None
    return point_at((cut if task.objective.positive == 1 else cut.mirrored()).at(), task.classes)


def _check_classes(task: Task, rows: Int[np.ndarray, "k"]) -> None:
    if not rows.all():
        raise MissingClass(f"class '{task.classes[int(rows.argmin())]}' has no rows")
