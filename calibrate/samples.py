"""What a search reads of the rows of a cache: logits, labels, weights, and the amounts at stake or the costs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from calibrate.ascent import Sample
from calibrate.cache import FeatureCache
from calibrate.counts import rows_by_class
from calibrate.errors import BadCosts, MissingCosts, UnknownMetric
from calibrate.logits import to_array
from calibrate.metrics import Metric


def frequencies(cache: FeatureCache) -> list[float]:
    """How frequent each class is among the rows, by weight: what stands in for an unknown prior."""
    rows = rows_by_class(cache.labels, len(cache.classes), cache.sample_weight)
    return [float(share) for share in rows / rows.sum()]


def check_cost_matrix(cost_matrix: ArrayLike, classes: Sequence[str]) -> Float64[np.ndarray, "k k"]:
    """A cost for each decision (row) and true class (column). Raises: `BadCosts`, `NotFinite`."""
    matrix = to_array(cost_matrix, "cost_matrix", (2,)).astype(np.float64)
    k = len(classes)
    if matrix.shape != (k, k):
        raise BadCosts(f"cost_matrix must have {k} rows and {k} columns, one per class, got shape {matrix.shape}")
    return matrix


def sample_of(
    cache: FeatureCache, metrics: Sequence[Metric], cost_matrix: Float64[np.ndarray, "k k"] | None = None
) -> Sample:
    """The rows of a cache with what the metrics read.

    Raises: `MissingCosts`; `UnknownMetric` where two metrics read the amounts of different classes, which the columns
    of one cache cannot hold.
    """
    if cost_matrix is None and any(metric.reads == "cost" for metric in metrics):
        raise MissingCosts(
            "metric 'mean_cost' needs cost_matrix, a row for each decision, a column for each true class"
        )
    reading = [metric for metric in metrics if metric.reads == "amounts"]
    if len({metric.positive for metric in reading}) > 1:
        raise UnknownMetric(f"costs per row are of one class: got {', '.join(metric.name for metric in reading)}")
    if not reading:
        return Sample(cache.logits, cache.labels, cache.sample_weight, None, cost_matrix, groups=cache.group)
    at_stake = reading[0].positive
    neediest = max(reading, key=lambda metric: not metric.name.startswith("recovered"))
    amounts = amounts_of(cache, at_stake, neediest.name)
    return Sample(cache.logits, cache.labels, cache.sample_weight, amounts, cost_matrix, at_stake, cache.group)


def amounts_of(cache: FeatureCache, positive: int, metric: str) -> Float64[np.ndarray, "n"]:
    """The amount at stake on each row: of a positive what missing it costs, of the others what a false alarm costs."""
    missed, alarmed = cache.cost_fn, cache.cost_fp
    if missed is None or (alarmed is None and not metric.startswith("recovered")):
        raise MissingCosts(f"metric '{metric}' needs a cost per row: a cache with cost_fn and cost_fp")
    alarmed = np.zeros(cache.rows) if alarmed is None else alarmed
    amounts = np.where(cache.labels == positive, missed, alarmed)
    return amounts if cache.sample_weight is None else amounts * cache.sample_weight
