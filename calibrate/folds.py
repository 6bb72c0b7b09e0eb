"""Folds: how rows are dealt out for cross-fitting.

Rows of one group (one card, one patient) stay together: a row that has a sibling on the other side is no new row.
"""

import numpy as np
from jaxtyping import Int


def stratified_folds(
    labels: Int[np.ndarray, "n"], folds: int, rng: np.random.Generator, groups: Int[np.ndarray, "n"] | None = None
) -> Int[np.ndarray, "n"]:
    """A fold number for each row, every class spread as evenly as it can be; each fold has a row of each class.

    With `groups` (n,) a group is dealt out whole, among the groups of its rarest class and the largest first: spread as
    evenly as that allows, and a fold may lack a class that few groups have.
    """
    assigned = np.empty(labels.size, dtype=np.intp)
    if groups is not None:
        _, members = np.unique(groups, return_inverse=True)
        sizes = np.bincount(members)
        rarity = np.argsort(np.argsort(np.bincount(labels), kind="stable"))  # 0 is the rarest class
        rarest = np.full(sizes.size, rarity.size)
        np.minimum.at(rarest, members, rarity[labels])
        order = np.lexsort((rng.random(sizes.size), -sizes, rarest))
        dealt = np.empty(sizes.size, dtype=np.intp)
        dealt[order] = np.arange(sizes.size) % folds
        return dealt[members]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        assigned[rng.permutation(rows)] = np.arange(rows.size) % folds
    return assigned


def parts_of_each_class(
    labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"] | None, classes: int
) -> Int[np.ndarray, "k"]:
    """How many parts each class could be dealt into: its rows, or the groups that have one."""
    if groups is None:
        return np.bincount(labels, minlength=classes)
    _, members = np.unique(groups, return_inverse=True)
    pairs = np.unique(members * classes + labels)
    return np.bincount(pairs % classes, minlength=classes)
