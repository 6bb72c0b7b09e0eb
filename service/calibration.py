"""Calibration on request: the library's own fit, on data that came in, published as a new operating point."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calibrate.cache import FeatureCache, feature_cache
from calibrate.errors import BadCache
from calibrate.fit import fit
from calibrate.io.model import Head
from calibrate.logits import to_array
from calibrate.methods import find_method
from calibrate.prevalence import ByClass
from service.domain import ModelVersion, PointRecord, check_point_name
from service.inference import Rows, to_logits
from service.points import check_make_default
from service.registry import Registry


@dataclass(frozen=True)
class Spec:
    """What to fit and how to publish it."""

    model: str
    name: str
    metric: str
    constraints: tuple[str, ...] = ()
    method: str = "bias_adjustment"
    search: str | None = None
    digits: int | None = None
    tau: float | None = None
    positive: str | None = None
    prior: tuple[float, ...] | None = None
    prevalence: ByClass | None = None
    negatives_kept: ByClass | None = None
    class_weights: ByClass | None = None
    cost_matrix: tuple[tuple[float, ...], ...] | None = None
    calibration: str | None = None
    model_version: int | None = None
    make_default: bool = False
    reason: str = ""
    override: bool = False


def calibrate(spec: Spec, arrays: Mapping[str, Any], registry: Registry, actor: str) -> PointRecord:
    """Fits a point on the arrays (`labels` with `features`, `logits` or `inputs`) and publishes it.

    Raises: whatever `calibrate.fit` raises, and the registry on publishing.
    """
    check_point_name(spec.name)
    if spec.make_default:
        check_make_default(registry.approval)  # before the work, not after it
    version = registry.model(spec.model).version(spec.model_version)
    cache = _cache(version, registry, arrays)
    if cache.weight is None and find_method(spec.method).reads_head:
        head = registry.head(version)
        cache = cache if head is None else replace(cache, weight=head.weight, bias=head.bias)
    prior = spec.prior if spec.prior is not None else cache.prior
    result = fit(
        cache,
        metric=spec.metric,
        constraints=spec.constraints,
        method=spec.method,
        search=spec.search,
        digits=spec.digits,
        tau=spec.tau,
        positive=spec.positive,
        prior=version.prior if prior is None else prior,
        prevalence=spec.prevalence,
        negatives_kept=spec.negatives_kept,
        class_weights=spec.class_weights,
        cost_matrix=spec.cost_matrix,
        calibration=spec.calibration,
    )
    details = result.to_dict()
    del details["point"], details["threshold"]
    return registry.publish(
        spec.model,
        name=spec.name,
        point=result.point,
        details=details,
        model_version=version.version,
        actor=actor,
        make_default=spec.make_default,
        reason=spec.reason or f"calibrated for {result.metric}",
        override=spec.override,
    )


def _cache(version: ModelVersion, registry: Registry, arrays: Mapping[str, Any]) -> FeatureCache:
    """The arrays as a cache of this version: its classes, and its head where there are only features."""
    given = [name for name in ("inputs", "features", "logits") if arrays.get(name) is not None]
    if arrays.get("labels") is None or not given:
        raise BadCache(f"data needs labels, and inputs, features or logits; it has {', '.join(arrays) or 'nothing'}")
    classes = arrays.get("classes")
    if classes is not None and tuple(classes) != version.classes:
        raise BadCache(f"the data has classes {classes[:20]}, the model {list(version.classes[:20])}, in this order")
    if arrays.get("weight") is not None:
        _check_same_head(registry.head(version), arrays["weight"], arrays.get("bias"))
    features, logits = arrays.get("features"), arrays.get("logits")
    rows = Rows(**{given[-1]: arrays[given[-1]]})  # of a cache with both, the logits
    both = features is not None and logits is not None
    return feature_cache(
        logits=to_logits(rows, version, registry),
        features=features if both else None,
        weight=arrays.get("weight") if both else None,
        bias=arrays.get("bias") if both else None,
        labels=arrays["labels"],
        classes=version.classes,
        prior=arrays.get("prior"),
        sample_weight=arrays.get("sample_weight"),
        cost_fp=arrays.get("cost_fp"),
        cost_fn=arrays.get("cost_fn"),
        group=arrays.get("group"),
    )


def _check_same_head(head: Head | None, weight: ArrayLike, bias: ArrayLike | None) -> None:
    """A cache that was taken from another model is told apart by its head, where both have one."""
    if head is None:
        return
    theirs = to_array(weight, "weight", (1, 2)), np.zeros(1) if bias is None else to_array(bias, "bias", (1,))
    ours = head.weight, head.bias
    if theirs[0].ndim == 1 or theirs[0].shape[0] == 1:  # one logit: our first row is zeros
        ours = ours[0][-1], ours[1][-1:]
    same = all(
        np.size(one) == np.size(other) and np.allclose(np.ravel(one), np.ravel(other), rtol=1e-3, atol=1e-5)
        for one, other in zip(theirs, ours, strict=True)
    )
    if not same:
        raise BadCache("the data's weight and bias are not the head of this model version: it is of another model")
