"""Confusion counts: all that a metric may look at.

Per class, how many rows were hit, predicted and actual is enough for every named metric (only a cost matrix needs the
whole table), so a sweep over any number of cuts is three small arrays. Counts add up: parts of the data, counted apart,
sum to the whole.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int


@dataclass(frozen=True, eq=False)
class Counts:
    """Rows per class, at one cut (k,) or at many (..., k): float64, so that weights and quotients fit.

    `hits` are rows of the class decided as it, `predicted` all rows decided as it, `actual` (k,) all rows of it.
    """

    hits: Float64[np.ndarray, "*cuts k"]
    predicted: Float64[np.ndarray, "*cuts k"]
    actual: Float64[np.ndarray, "k"]

    @property
    def rows(self) -> float:
        """All rows."""
        return float(self.actual.sum())

    @classmethod
    def of(cls, labels: Int[np.ndarray, "n"], decided: Int[np.ndarray, "n"], classes: int) -> "Counts":
        """Counts of one set of decisions."""
        return cls(
            np.bincount(labels[labels == decided], minlength=classes).astype(np.float64),
            np.bincount(decided, minlength=classes).astype(np.float64),
            np.bincount(labels, minlength=classes).astype(np.float64),
        )

    @classmethod
    def of_confusion(cls, confusion: Int[np.ndarray, "k k"]) -> "Counts":
        """Counts of a confusion matrix, rows the labels and columns the decisions."""
        return cls(
            np.diagonal(confusion).astype(np.float64),
            confusion.sum(axis=0).astype(np.float64),
            confusion.sum(axis=1).astype(np.float64),
        )

    @classmethod
    def of_binary(
        cls,
        true_positives: Int[np.ndarray, "*cuts"],
        false_positives: Int[np.ndarray, "*cuts"],
        positives: int,
        negatives: int,
        positive: int,
    ) -> "Counts":
        """Counts of two classes at many cuts, `positive` (0 or 1) being the index of the positive class."""
        columns = (negatives - false_positives, true_positives)
        alerts = true_positives + false_positives
        predicted = (positives + negatives - alerts, alerts)
        actual = (negatives, positives)
        order = (0, 1) if positive == 1 else (1, 0)
        return cls(
            np.stack([columns[i] for i in order], axis=-1).astype(np.float64),
            np.stack([predicted[i] for i in order], axis=-1).astype(np.float64),
            np.array([actual[i] for i in order], dtype=np.float64),
        )


def confusion_matrix(
    labels: Int[np.ndarray, "n"], decided: Int[np.ndarray, "n"], classes: int
) -> Int[np.ndarray, "k k"]:
    """How often each class (row) was decided as each class (column)."""
    return np.bincount(labels * classes + decided, minlength=classes * classes).reshape(classes, classes)
