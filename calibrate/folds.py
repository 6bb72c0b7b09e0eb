"""Folds: how rows are dealt out for cross-fitting."""

import numpy as np
from jaxtyping import Int


def stratified_folds(labels: Int[np.ndarray, "n"], folds: int, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """A fold number for each row, every class spread as evenly as it can be; each fold has a row of each class."""
    assigned = np.empty(labels.size, dtype=np.intp)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        assigned[rng.permutation(rows)] = np.arange(rows.size) % folds
    return assigned
