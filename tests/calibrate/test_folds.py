"""How rows are dealt out."""

import numpy as np

from calibrate.folds import parts_of_each_class, stratified_folds


def test_every_class_is_spread_evenly() -> None:
    """By at most one row."""
    labels = np.repeat([0, 1, 2], [50, 7, 23])
    folds = stratified_folds(labels, 5, np.random.default_rng(0))
    for label in range(3):
        sizes = np.bincount(folds[labels == label], minlength=5)
        assert sizes.max() - sizes.min() <= 1


def test_a_group_stays_together() -> None:
    """And the groups with the rarest class are spread evenly, so each fold has some."""
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 120, 600) * 1000 + 7
    labels = (rng.random(600) < 0.05).astype(np.int64)
    folds = stratified_folds(labels, 5, rng, groups)
    for group in np.unique(groups):
        assert np.unique(folds[groups == group]).size == 1
    rare = [np.unique(groups[(labels == 1) & (folds == fold)]).size for fold in range(5)]
    assert max(rare) - min(rare) <= 1
    assert max(np.bincount(folds)) < 1.5 * min(np.bincount(folds))


def test_parts_are_rows_or_groups_with_the_class() -> None:
    """What a class can be dealt into."""
    labels, groups = np.array([0, 0, 1, 1, 1]), np.array([5, 5, 5, 9, 9])
    assert parts_of_each_class(labels, None, 3).tolist() == [2, 3, 0]
    assert parts_of_each_class(labels, groups, 3).tolist() == [1, 2, 0]


def test_large_classes_are_dealt_out_evenly_and_at_random() -> None:
    """In blocks: sizes differ by one row, and neighbouring rows share a fold as often as chance has it."""
    labels = (np.arange(400_000) % 4 == 0).astype(np.int64)
    labels[:3] = 2
    for folds in (2, 5, 130):
        assigned = stratified_folds(labels, folds, np.random.default_rng(0))
        for label in (0, 1, 2):
            sizes = np.bincount(assigned[labels == label], minlength=folds)
            assert sizes.max() - sizes.min() <= 1
        of_class = assigned[labels == 0]
        together = [np.mean(of_class[lag:] == of_class[:-lag]) for lag in (1, 2, 1000)]
        assert np.allclose(together, 1 / folds, atol=0.01 if folds == 130 else 0.06)
    again = stratified_folds(labels, 5, np.random.default_rng(1))
    assert not np.array_equal(again, stratified_folds(labels, 5, np.random.default_rng(2)))
