"""Two classes sorted once, fold by fold: what cross-fitting an exact cut needs of millions of rows.

An exact cut depends on nothing but the order of the margins of each class. So the margins of each class and fold are
sorted, which takes no longer than sorting all of them, and the cut without one fold is swept over the sorted margins of
the other folds: no row is copied or sorted again. And what cuts decide is counted by a binary search for each cut: rows
of one class and one fold between two neighbouring cuts are decided alike by all of them (`binned`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from calibrate.ascent import Sample
from calibrate.objective import Objective
from calibrate.sweep import Cut, Tally, best_cut, with_highest


@dataclass(frozen=True, eq=False)
class SortedFolds:
    """Margins `z1 - z0` in ascending order, by class and fold: `margins[label][fold]`. Every row counts once."""

    margins: tuple[tuple[Float[np.ndarray, "_"], ...], tuple[Float[np.ndarray, "_"], ...]]

    @classmethod
    def of(
        cls, margins: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n"], folds: Int[np.ndarray, "n"]
    ) -> "SortedFolds":
        """Sort the margins of each class (0 or 1) and fold (from 0 on)."""
        number = int(folds.max()) + 1

        def sorted_parts(label: int) -> tuple[Float[np.ndarray, "_"], ...]:
            is_label = labels == label
            of_label, its_folds = margins[is_label], folds[is_label]
            parts = tuple(of_label.take(np.flatnonzero(its_folds == fold)) for fold in range(number))
            for part in parts:
                part.sort()
            return parts

        return cls((sorted_parts(0), sorted_parts(1)))

    def rows_without(self, fold: int) -> tuple[int, int]:
        """How many rows each class has outside a fold."""
        first, second = (sum(part.size for i, part in enumerate(parts) if i != fold) for parts in self.margins)
        return first, second

    def cut_without(self, fold: int, objective: Objective) -> Cut:
        """The best cut on the margin towards the positive class of the rows outside a fold, as `sweep_cut` places it.

        Raises: `UndefinedMetric`, `Infeasible`.
        """
        positive = objective.positive
        sides = [
            [part if positive == 1 else -part[::-1] for i, part in enumerate(self.margins[label]) if i != fold]
            for label in (positive, 1 - positive)
        ]
        if objective.monotone:
            highest = max(float(part[-1]) for side in sides for part in side if part.size)
            edges = with_highest(np.unique(np.concatenate(sides[0])), highest)
        else:
            edges = np.unique(np.concatenate([part for side in sides for part in side]))
        tally = Tally.at(edges)
        for side, parts in enumerate(sides):
            for part in parts:
                tally.add_sorted(side, part)
        return best_cut(tally, objective)

    def binned(self, cuts: Sequence[float]) -> tuple[Sample, Int[np.ndarray, "m"]]:
        """One weighted row for all rows of a class and a fold that lie between the same two cuts on `z1 - z0`, and the
        fold of each such row.

        A point of scale 1 that decides the second class above one of the cuts decides it as the rows it stands for.
        """
        logits, labels, folds, weights = [], [], [], []
        ordered = sorted(set(cuts))
        for label, parts in enumerate(self.margins):
            for fold, part in enumerate(parts):
                ends = np.append(_not_above(part, ordered), part.size)
                sizes = np.diff(ends, prepend=0)
                ends, sizes = ends[sizes > 0], sizes[sizes > 0]
                logits.append(part[ends - 1].astype(np.float64))
                labels.append(np.full(ends.size, label))
                folds.append(np.full(ends.size, fold))
                weights.append(sizes.astype(np.float64))
        margins, weight, label_of = np.concatenate(logits), np.concatenate(weights), np.concatenate(labels)
        sample = Sample(
            np.stack([np.zeros_like(margins), margins], axis=1),
            label_of,
            weight,
            row_squares=np.bincount(label_of, weight, 2),
        )
        return sample, np.concatenate(folds)


def _not_above(margins: Float[np.ndarray, "m"], cuts: Sequence[float]) -> Int[np.ndarray, "c"]:
    """How many of the sorted margins are not above each cut, compared as in float64: `margin > cut` decides."""
    exact = np.array(cuts, dtype=np.float64)
    with np.errstate(over="ignore"):
        rounded = exact.astype(margins.dtype)
        # The largest number of the margins' type that is not above the cut: no margin lies between the two.
        lowered = np.where(rounded > exact, np.nextafter(rounded, np.array(-np.inf, margins.dtype)), rounded)
    return np.searchsorted(margins, lowered.astype(margins.dtype), side="right")
