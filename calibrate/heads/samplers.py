"""How training rows are drawn: one table, a row a sampler.

A sampler gives the probability of each class (k,) from its training rows (k,), by weight; a row is drawn within its
class by its weight. In batches rows are drawn so, with replacement; the full batch takes the mean over such draws
exactly.

Source: Kang et al., "Decoupling representation and classifier for long-tailed recognition" (2020), equation 1:
`p_j` in proportion to `n_j^q`, q = 1 for instance-balanced and q = 0 for class-balanced sampling.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

Sampler = Callable[[Float64[np.ndarray, "k"]], Float64[np.ndarray, "k"]]


def instance_balanced(counts: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
    """Every row alike."""
    return np.asarray(counts / counts.sum())


def class_balanced(counts: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
    """Every class alike."""
    return np.full(counts.size, 1 / counts.size)


SAMPLERS: dict[str, Sampler] = {"instance": instance_balanced, "class_balanced": class_balanced}
