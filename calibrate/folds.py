"""Folds: how rows are dealt out for cross-fitting.

Rows of one group (one card, one patient) stay together: a row that has a sibling on the other side is no new row.

The rows of a class are dealt out by a random permutation. Permuting millions of rows takes longer than sorting them, so
a class of more than 65,536 rows is dealt out in blocks of at least 64 rows, each by one of 1,024 random permutations:
each row is in each fold with the same chance, and the folds of a class differ by at most one row.
"""

import numpy as np
from jaxtyping import Int

from calibrate.counts import rows_by_class

_PERMUTED_ROWS = 65_536
_BLOCK_ROWS, _ORDERS = 64, 1024


def stratified_folds(
    labels: Int[np.ndarray, "n"], folds: int, rng: np.random.Generator, groups: Int[np.ndarray, "n"] | None = None
) -> Int[np.ndarray, "n"]:
    """A fold number for each row, every class spread as evenly as it can be; each fold has a row of each class.

    With `groups` (n,) a group is dealt out whole, among the groups of its rarest class and the largest first: spread as
    evenly as that allows, and a fold may lack a class that few groups have.
    """
    assigned = np.empty(labels.size, dtype=np.min_scalar_type(-folds - 1))  # small numbers compare faster
    if groups is not None:
        _, members = np.unique(groups, return_inverse=True)
        sizes = np.bincount(members)
        rarity = np.argsort(np.argsort(np.bincount(labels), kind="stable"))  # 0 is the rarest class
        rarest = np.full(sizes.size, rarity.size)
        np.minimum.at(rarest, members, rarity[labels])
        order = np.lexsort((rng.random(sizes.size), -sizes, rarest))
        dealt = np.empty(sizes.size, dtype=assigned.dtype)
        dealt[order] = np.arange(sizes.size) % folds
        return dealt[members]
    for label in range(int(labels.max()) + 1):
        is_label = labels == label
        size = int(np.count_nonzero(is_label))
        if size > _PERMUTED_ROWS:
            assigned[is_label] = _dealt_in_blocks(size, np.arange(folds, dtype=assigned.dtype), rng)
        elif size:
            assigned[rng.permutation(np.flatnonzero(is_label))] = np.arange(size) % folds
    return assigned


def _dealt_in_blocks(rows: int, folds: Int[np.ndarray, "f"], rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """A fold for each of so many rows: blocks that hold each fold equally often, each in a random order."""
    block = np.tile(folds, -(-_BLOCK_ROWS // folds.size))
    orders = rng.permuted(np.tile(block, (_ORDERS, 1)), axis=1)
    whole, rest = divmod(rows, block.size)
    last = rng.permutation(block[:rest])
    return np.concatenate([orders[rng.integers(0, _ORDERS, whole)].ravel(), last])


def parts_of_each_class(
    labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"] | None, classes: int
) -> Int[np.ndarray, "k"]:
    """How many parts each class could be dealt into: its rows, or the groups that have one."""
    if groups is None:
        return rows_by_class(labels, classes).astype(np.intp)
    _, members = np.unique(groups, return_inverse=True)
    pairs = np.unique(members * classes + labels)
    return np.bincount(pairs % classes, minlength=classes)
