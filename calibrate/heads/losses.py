"""The losses that a head can be trained on: one table, a row a loss.

A loss takes torch logits (n, k), labels (n,) and the training rows of each class (k,), by weight, and gives one number
per row, (n,); how rows are drawn is the sampler's part, so a method is a pair of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]


def cross_entropy(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:  # noqa: ARG001 (every loss has the same)
    """`-log softmax` at the label."""
    from torch.nn import functional

    return functional.cross_entropy(logits, labels, reduction="none")


def weighted_cross_entropy(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """The same times `n / (k n_c)`, so that each class weighs alike (scikit-learn's `class_weight="balanced"`)."""
    weight = counts.sum() / (counts.numel() * counts)
    return weight[labels] * cross_entropy(logits, labels, counts)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "weighted_cross_entropy": weighted_cross_entropy}
