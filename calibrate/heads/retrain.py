"""`retrain_head`: from a cache of training features to a new last layer with the evidence of a fit.

Decided here: a retrained head is not an operating point but a new model version, so its result carries a head, and the
evidence is that of the plain model (argmax) with it, beside the old head on the same rows. The rows that trained a head
never score it: evidence is on a validation cache, and without one there is none. Cross-fitting the training rows would
not do: the features were themselves learned on those rows and flatter every head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from calibrate.cache import FeatureCache, check_every_class_has_rows
from calibrate.errors import BadCache, NotConverged, WrongShape
from calibrate.fit import fit
from calibrate.heads.class_means import class_means
from calibrate.heads.methods import find_head, training_of
from calibrate.heads.samplers import SAMPLERS
from calibrate.heads.trainer import train_head
from calibrate.logits import head_logits, to_array
from calibrate.naming import MetricText
from calibrate.one_model import model_doubt
from calibrate.result import FitResult
from calibrate.uncertainty import Interval


@dataclass(frozen=True, eq=False)
class RetrainedHead:
    """A new last layer, `logits = features @ weight.T + bias`, and what can be said of it.

    `weight` (k, d) and `bias` (k,) are float64; `prior` (k,) are the class frequencies that its training saw, for logit
    adjustment on top of it. `result` is the fit of `argmax` on the validation rows (evidence held out), `before` the
    same intervals of the head that the validation cache came with; None and empty where there were no such rows.
    """

    method: str
    classes: tuple[str, ...]
    weight: Float64[np.ndarray, "k d"]
    bias: Float64[np.ndarray, "k"]
    prior: Float64[np.ndarray, "k"]
    source: str
    changed: str
    rows: int
    data_digest: str
    options: Mapping[str, Any] = field(default_factory=dict)
    result: FitResult | None = None
    before: Mapping[str, Interval] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def evidence(self) -> Mapping[str, Interval]:
        """What the plain model with this head achieves on the validation rows."""
        return {} if self.result is None else self.result.evidence

    def logits(self, features: ArrayLike) -> Float64[np.ndarray, "n k"]:
        """The new logits of features (n, d). Raises: `WrongShape`, `NoRows`, `NotFinite`."""
        rows = to_array(features, "features", (2,))
        if rows.shape[1] != self.weight.shape[1]:
            raise WrongShape(f"features: wanted {self.weight.shape[1]} columns, got {rows.shape[1]}")
        return head_logits(rows, self.weight, self.bias)

    def cache_of(self, cache: FeatureCache) -> FeatureCache:
        """The same rows under this head: new logits, weight, bias and prior, of no known model; the rest as it is.

        Raises: `BadCache` where the cache has no features or other classes, `WrongShape`.
        """
        if cache.classes != self.classes:
            raise BadCache(
                f"the cache has classes {', '.join(cache.classes[:20])}, the head {', '.join(self.classes[:20])}"
            )
        return replace(
            cache,
            logits=self.logits(_features(cache)),
            weight=self.weight,
            bias=self.bias,
            prior=self.prior,
            origin=None,
        )

    def write_onnx(self, model: bytes, *, output: str | None = None) -> bytes:
        """The ONNX model with its head replaced by this one, and this prior in its description where it has one.

        `output` says which output the head is behind, where there are several. Raises: `BadModel`, `NoHead`.
        """
        from calibrate.io.replace_head import replace_head

        return replace_head(model, self.weight, self.bias, prior=self.prior, output=output)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the weight as plain JSON values."""
        return {
            "method": self.method,
            "classes": list(self.classes),
            "prior": self.prior.tolist(),
            "source": self.source,
            "changed": self.changed,
            "rows": self.rows,
            "data_digest": self.data_digest,
            "options": dict(self.options),
            "evidence": {name: interval.to_dict() for name, interval in self.evidence.items()},
            "before": {name: interval.to_dict() for name, interval in self.before.items()},
            "warnings": list(self.warnings),
        }


def retrain_head(
    cache: FeatureCache,
    *,
    method: str = "crt",
    validation: FeatureCache | None = None,
    metric: MetricText = "balanced_accuracy",
    positive: str | None = None,
    l2: float | None = None,
    full_batch: int | None = None,
    batch_rows: int | None = None,
    rng: np.random.Generator | None = None,
) -> RetrainedHead:
    """A new last layer on the features of a cache of training rows (not on validation rows: points are fitted there).

    `method` is a row of `calibrate.heads.HEADS`. The evidence is for `metric` and the usual ones, on the `validation`
    rows. Trained heads take `l2`, the weight decay (5e-4), `full_batch`, up to how many numbers the rows are trained on
    as a whole (2^28), and `batch_rows`, the rows of a batch beyond that (1024), which `rng` draws; without one the
    draws are the same every time. Needs torch, but for the class means.

    Raises: `UnknownMethod`, `BadCache`, `MissingClass`, `NotConverged`, and what `fit` raises for the metric.

    >>> from calibrate import feature_cache
    >>> rows = feature_cache(features=[[0.0], [1.0], [5.0]], weight=[[1.0]], labels=[0, 0, 1], classes=["no", "yes"])
    >>> head = retrain_head(rows, method="nearest_class_mean")
    >>> head.logits([[2.7], [2.8]]).argmax(axis=1)
    array([0, 1])
    """
    chosen = find_head(method)
    options = {"l2": l2, "full_batch": full_batch, "batch_rows": batch_rows}
    training = training_of(method, options)
    doubt = None if validation is None else model_doubt(validation, cache, ("validation", "the training rows"))
    check_every_class_has_rows(cache)
    features, k = _features(cache), len(cache.classes)
    counts = np.bincount(cache.labels, cache.sample_weight, k).astype(np.float64)
    if training is not None:
        rng = np.random.default_rng(0) if rng is None else rng
        weight, bias = train_head(features, cache.labels, cache.sample_weight, k, training, rng)
        drawn = SAMPLERS[training.sampler](counts)
        prior = drawn if training.loss == "cross_entropy" else np.full(k, 1 / k)
    elif chosen.from_means is not None:
        weight, bias = chosen.from_means(class_means(features, cache.labels, cache.sample_weight, k))
        prior = np.full(k, 1 / k)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise NotConverged(f"head '{method}' has weights that are not finite: are the features of one order?")
    head = RetrainedHead(
        method=method,
        classes=cache.classes,
        weight=weight,
        bias=bias,
        prior=prior,
        source=chosen.source,
        changed=chosen.changed,
        rows=cache.rows,
        data_digest=cache.digest,
        options={name: value for name, value in options.items() if value is not None},
    )
    if validation is None:
        return replace(head, warnings=("no evidence: pass validation rows, which trained neither body nor head",))
    if validation.digest == cache.digest:
        raise BadCache("the validation rows are the training rows, which would flatter the head; pass other rows")
    said: dict[str, Any] = {"method": "argmax", "metric": metric, "positive": positive}
    found = fit(head.cache_of(validation), **said)
    warnings = found.warnings if doubt is None else (*found.warnings, doubt)
    return replace(head, result=found, before=fit(validation, **said).evidence, warnings=warnings)


def _features(cache: FeatureCache) -> Float[np.ndarray, "n d"]:
    if cache.features is None:
        raise BadCache("a head is trained on features: this cache has logits alone")
    return cache.features
