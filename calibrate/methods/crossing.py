"""Cross-fitting: each row decided by a point that was fitted without it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from calibrate.errors import MissingClass
from calibrate.methods.task import Fitted, Task


def decided_without(task: Task, folds: Int[np.ndarray, "n"], fit: Callable[[Task], Fitted]) -> Int[np.ndarray, "n"]:
    """The decision on each row (n,) of a point that was fitted without the row's fold.

    Raises: what the fit raises, and `MissingClass` where a class has rows in one fold only.
    """
    decided = np.empty_like(task.labels)
    for fold in np.unique(folds):
        kept = np.flatnonzero(folds != fold)
        there = np.bincount(task.labels[kept], minlength=len(task.classes))
        if not there.all():
            raise MissingClass(f"class '{task.classes[int(there.argmin())]}' has no rows")
        point = fit(task.with_rows(kept)).point
        decided[folds == fold] = point.decide(task.logits[folds == fold])
    return decided
