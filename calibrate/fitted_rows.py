"""Statistics of the fitting rows: the scores of the model, the model imbalance state, and the digest of the rows.

None of it is needed to find the point, and together it takes several times as long. So `fit` computes none of it: a
`LazyStatistics` keeps the rows and computes each value on first access. A result keeps its fitting rows anyway
(`shown_rows`); where it would not, or where the state is that of training rows, `computed` is called in `fit`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64

from calibrate.cache import FeatureCache
from calibrate.operating_point import OperatingPoint
from calibrate.prevalence import at_prevalence
from calibrate.samples import amounts_of
from calibrate.scores import measure_scores
from calibrate.state import model_imbalance_state, state_under
from calibrate.uncertainty import Interval

_CHUNK_CELLS = 32_768
_NO_OVERFLOW = 1e37  # below it float32 holds sums and differences of a few numbers


@dataclass(frozen=True, eq=False)
class ComputedStatistics:
    """Statistics as plain values."""

    model_scores: dict[str, Interval]
    mis_before: Float64[np.ndarray, "k"]
    mis_after: Float64[np.ndarray, "k"]
    data_digest: str
    rounding_rows: int = 0


@dataclass(frozen=True, eq=False)
class LazyStatistics:
    """Statistics of the rows of `cache` under a point, each computed on first access.

    `whole` also has the rows of weight 0, and the digest is of it. The rows are weighted to the `prevalence` (k,) where
    there is one. `state_logits` (m, k) are the rows of the model imbalance state.
    """

    cache: FeatureCache
    whole: FeatureCache
    point: OperatingPoint
    state_logits: Float[np.ndarray, "m k"]
    positive: str | None = None
    prevalence: Float64[np.ndarray, "k"] | None = None

    @cached_property
    def model_scores(self) -> dict[str, Interval]:
        """The threshold-free scores; of two classes with costs per row also the ROC AUC weighted by the amounts."""
        cache = self.cache if self.prevalence is None else at_prevalence(self.cache, self.prevalence)
        index = None if self.positive is None else cache.classes.index(self.positive)
        scores = measure_scores(cache.logits, cache.labels, index, cache.sample_weight)
        if len(cache.classes) == 2 and cache.cost_fn is not None and cache.cost_fp is not None:
            index = 1 if index is None else index
            amounts = amounts_of(cache, index, "row_cost")
            scores["cost_weighted_roc_auc"] = measure_scores(cache.logits, cache.labels, index, amounts)["roc_auc"]
        return scores

    @cached_property
    def mis_before(self) -> Float64[np.ndarray, "k"]:
        """The model imbalance state without the point."""
        return model_imbalance_state(self.state_logits)

    @cached_property
    def mis_after(self) -> Float64[np.ndarray, "k"]:
        """The model imbalance state with the point."""
        return state_under(self.point, self.state_logits)

    @cached_property
    def rounding_rows(self) -> int:
        """How many rows are nearer to another decision than a float32 rounding step of their largest scaled logit.

        0 for a point that is not affine.
        """
        if not self.point.is_affine:
            return 0
        n, k = self.cache.logits.shape
        step = max(1, _CHUNK_CELLS // k)
        return sum(_near(self.point, self.cache.logits[start : start + step]) for start in range(0, n, step))

    @property
    def data_digest(self) -> str:
        """The digest of the fitting rows."""
        return self.whole.digest

    def computed(self) -> ComputedStatistics:
        """The same values, without the rows."""
        return ComputedStatistics(
            self.model_scores, self.mis_before, self.mis_after, self.data_digest, self.rounding_rows
        )


Statistics = ComputedStatistics | LazyStatistics


def _near(point: OperatingPoint, logits: Float[np.ndarray, "n k"]) -> int:
    longest = float(np.abs(logits).max()) * float(point.scale.max())
    if len(point.classes) == 2:
        # In the type of the logits first, with room for its rounding: next to no row is near.
        scale0, scale1 = point.scale.tolist()
        shift = float(point.bias[1] - point.bias[0])
        room = 4 * float(float32_step(np.array([longest + abs(shift)]))[0])
        rough = logits if longest < _NO_OVERFLOW else logits.astype(np.float64)
        logits = logits[np.abs(rough[:, 1] * scale1 - rough[:, 0] * scale0 + shift) <= room]
        if not len(logits):
            return 0
    margins = np.abs(point.margin(logits))
    near = np.flatnonzero(margins <= float32_step(np.array([longest]))[0])  # no row has a longer step
    largest = (np.abs(logits[near].astype(np.float64)) * point.scale).max(axis=1, initial=0.0)
    return int((margins[near] <= float32_step(largest)).sum())


def float32_step(sizes: Float64[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The distance between neighbouring float32 numbers at these sizes; the largest for what float32 cannot hold."""
    return np.asarray(np.spacing(np.minimum(sizes, 2.0**127).astype(np.float32)))
