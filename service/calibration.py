"""Calibration on request: the library's own fit, on data that came in for a version of a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calibrate.cache import FeatureCache, feature_cache
from calibrate.errors import BadCache
from calibrate.fit import fit
from calibrate.io.model import Head
from calibrate.labels import label_indices
from calibrate.logits import to_array, to_columns
from calibrate.methods import find_method
from calibrate.names import positions_by_name
from calibrate.operating_point import check_classes
from calibrate.origin import Origin
from calibrate.prevalence import ByClass
from calibrate.result import FitResult
from service.domain import ModelVersion
from service.identity import identify, under_own_head
from service.inference import check_width, features_to_logits
from service.ports import Source


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
    allow_other_model: bool = False
    columns: Mapping[str, Any] | None = None  # of a table of scores: which hold what, as `read_scores` takes them


def spec_of(values: Mapping[str, Any]) -> Spec:
    """The spec that was told as plain JSON values."""
    listed = {name: values.get(name) for name in ("constraints", "prior", "cost_matrix")}
    return Spec(
        **{name: value for name, value in values.items() if name not in listed},
        constraints=tuple(listed["constraints"] or ()),
        prior=None if listed["prior"] is None else tuple(listed["prior"]),
        cost_matrix=None if listed["cost_matrix"] is None else tuple(map(tuple, listed["cost_matrix"])),
    )


def calibrate(
    spec: Spec,
    arrays: Mapping[str, Any],
    version: ModelVersion,
    source: Source,
    progress: Callable[[str], None] | None = None,
    *,
    origin: Origin | None = None,
) -> tuple[FitResult, FeatureCache]:
    """Fits a point on the arrays (`labels` with `features`, `logits` or `inputs`); the result, and the rows that it
    was fitted on. `origin` is what a file says of the model that made its rows.

    Raises: `OtherModel`, whatever `calibrate.fit` raises, and what `source` raises.
    """
    known = identify(version, arrays, origin, allow_other_model=spec.allow_other_model)
    rows = under_own_head(arrays) if known.is_other else arrays
    cache = replace(cache_of(version, source, rows), origin=known.origin)
    if cache.weight is None and find_method(spec.method).reads_head:
        head = source.head()
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
        progress=progress,
    )
    return replace(result, warnings=(*result.warnings, *known.warnings)), cache


def cache_of(version: ModelVersion, source: Source, arrays: Mapping[str, Any]) -> FeatureCache:
    """Return the arrays as a cache of this version: its classes, and its head where there are only features.

    Raises: `BadCache`, what `calibrate.feature_cache` and `source` raise.
    """
    given = [name for name in ("inputs", "features", "logits") if arrays.get(name) is not None]
    if arrays.get("labels") is None or not given:
        raise BadCache(
            f"data needs labels, and inputs, features or scores (logits, probabilities, margins); it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    arrays = _in_class_order(arrays, version.classes)
    if arrays.get("weight") is not None:
        _check_same_head(source.head(), arrays["weight"], arrays.get("bias"))
    features, logits = arrays.get("features"), arrays.get("logits")
    both = features is not None and logits is not None
    if logits is not None:  # of a cache with both, the logits
        made = to_columns(logits)
    elif features is not None:
        made = features_to_logits(features, source.head(), version)
    else:
        made = source.logits(arrays["inputs"])
    return feature_cache(
        logits=check_width(made, version),
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


def _in_class_order(arrays: Mapping[str, Any], classes: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the arrays with their class columns in the order of the model, where they name their classes.

    Raises: `WrongColumns` where those are not the model's.
    """
    own = arrays.get("classes")
    if own is None or tuple(own) == classes:
        return arrays
    names = check_classes(list(own))
    order = positions_by_name(names, classes, "the classes of the data")
    if order == list(range(len(classes))):  # they are numbers that count the model's
        return arrays
    moved = {**arrays, "labels": np.asarray(names)[label_indices(arrays["labels"], names)].tolist()}
    if arrays.get("logits") is not None:
        moved["logits"] = to_columns(arrays["logits"])[:, order]
    if arrays.get("prior") is not None:
        moved["prior"] = to_array(arrays["prior"], "prior", (1,))[order]
    for name, axes in (("weight", (1, 2)), ("bias", (1,))):
        if arrays.get(name) is not None:
            rows = to_array(arrays[name], name, axes)
            rows = rows[np.newaxis] if name == "weight" and rows.ndim == 1 else rows
            # The one row of two classes speaks for the second of them, which is now the first.
            moved[name] = rows[order] if len(rows) > 1 else -rows
    return moved


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
