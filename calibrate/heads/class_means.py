"""Nearest class mean: the head is written down from the mean feature of each class, nothing is trained.

Distances become linear logits: `-|x - m_k|^2 = 2 m_k . x - |m_k|^2 - |x|^2`, and `|x|^2` is the same for every class of
a row, so weight `2 m_k` and bias `-|m_k|^2` decide by the nearest mean. As probabilities these logits are those of
normal classes of variance 1/2 in each direction and equal priors: do not read them as risks. The cosine `m_k . x /
(|m_k| |x|)` is linear up to `|x|`, again the same for all classes of a row: weight `m_k / |m_k|`, bias 0. It decides as
the cosine does; its margins grow with `|x|`.

Sources: Mensink et al., "Distance-based image classification" (2013); the nearest class mean classifier of Kang et al.,
"Decoupling representation and classifier for long-tailed recognition" (2020), section 4, which has both forms.
"""

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.errors import BadCache


def nearest_mean(means: Float64[np.ndarray, "k d"]) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, "k"]]:
    """The head whose argmax is the class with the nearest mean."""
    return 2 * means, -(means**2).sum(axis=1)


def nearest_mean_by_cosine(
    means: Float64[np.ndarray, "k d"],
) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, "k"]]:
    """The head whose argmax is the class whose mean has the largest cosine. Raises: `BadCache` for a mean of 0."""
    norms = np.sqrt((means**2).sum(axis=1))
    if not norms.all():
        raise BadCache(f"the mean feature of class {int(norms.argmin())} is 0, so it has no cosine")
    return means / norms[:, np.newaxis], np.zeros(norms.size)


def class_means(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], weights: Float64[np.ndarray, "n"] | None, k: int
) -> Float64[np.ndarray, "k d"]:
    """The mean feature of each class, rows by their weight."""
    own = np.ones(labels.size) if weights is None else weights
    means = np.empty((k, features.shape[1]))
    for label in range(k):
        rows = labels == label
        means[label] = own[rows] @ features[rows].astype(np.float64) / own[rows].sum()
    return means
