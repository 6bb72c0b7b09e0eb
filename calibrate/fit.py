"""`fit`: from a cache and a metric to an operating point with its evidence.

Decided here: the rows that fitted a point never score it. Evidence is cross-fitted unless other rows are given for it,
or the method did not look at the rows at all (a prior threshold); then they are held-out rows as they stand.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from calibrate.cache import FeatureCache, check_every_class_has_rows, check_prior, feature_cache
from calibrate.errors import BadCache, UnknownMethod
from calibrate.evidence import NO_EVIDENCE, cross_fitted, held_out
from calibrate.methods import Fitted, Task, find_method
from calibrate.metrics import parse_metric, standard_metrics
from calibrate.operating_point import OperatingPoint
from calibrate.state import model_imbalance_state
from calibrate.uncertainty import Interval

FEW_ROWS = 30


@dataclass(frozen=True, eq=False)
class FitResult:
    """An operating point and what can be said of it.

    `evidence` holds an interval per metric on rows that did not fit the point; `before` the same for the plain model
    (argmax) on the same rows. `mis_before` and `mis_after` (k,) are the model imbalance state without and with the
    point, on the `train` rows where there were any, else on the `fitting` rows (`mis_rows`). `data_digest` names the
    fitting rows.
    """

    point: OperatingPoint
    method: str
    metric: str
    options: Mapping[str, Any]
    parameters: Mapping[str, float]
    prior: Float64[np.ndarray, "k"] | None
    positive: str | None
    evidence: Mapping[str, Interval]
    before: Mapping[str, Interval]
    mis_before: Float64[np.ndarray, "k"]
    mis_after: Float64[np.ndarray, "k"]
    mis_rows: Literal["train", "fitting"]
    rows: int
    data_digest: str
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; undefined numbers are None."""
        return {
            "point": self.point.to_dict(),
            "threshold": self.point.threshold,
            "method": self.method,
            "metric": self.metric,
            "options": dict(self.options),
            "parameters": {name: value if np.isfinite(value) else None for name, value in self.parameters.items()},
            "prior": None if self.prior is None else self.prior.tolist(),
            "positive": self.positive,
            "evidence": {name: interval.to_dict() for name, interval in self.evidence.items()},
            "before": {name: interval.to_dict() for name, interval in self.before.items()},
            "mis_before": self.mis_before.tolist(),
            "mis_after": self.mis_after.tolist(),
            "mis_rows": self.mis_rows,
            "rows": self.rows,
            "data_digest": self.data_digest,
            "warnings": list(self.warnings),
        }

    def save(self, path: str | Path) -> None:
        """Writes `to_dict` as JSON; `OperatingPoint.load` reads the point out of it, `setpoint publish` all of it."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fit(
    cache: FeatureCache | None = None,
    *,
    metric: str,
    method: str = "bias_adjustment",
    train: FeatureCache | None = None,
    search: str | None = None,
    digits: int | None = None,
    tau: float | None = None,
    positive: str | None = None,
    prior: ArrayLike | None = None,
    evidence: FeatureCache | bool = True,
    rng: np.random.Generator | None = None,
    logits: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> FitResult:
    """Fits an operating point for a metric on a cache, or on `logits`, `labels` and `classes`.

    `train` is a cache of the model's training rows, on which the model imbalance state is taken. `prior` (k,) is from
    the call, else from the cache, else from `train`. `search` ("exact", "decimal") and `digits` belong to
    bias adjustment, `tau` to logit adjustment. `evidence` is True for cross-fitted evidence, a cache for evidence on
    those held-out rows, False for none. `rng` draws folds and intervals; without one the draw is the same
    every time.

    Raises: `InputError` of the kind that fits what is wrong with the input, `UndefinedMetric`, `NotConverged`.

    >>> result = fit(logits=[-2.0, -1.5, 0.1, -1.0], labels=[0, 0, 1, 1], classes=["clear", "fraud"], metric="f1")
    >>> result.point.decide([-1.2, -1.4])
    array([1, 0])
    """
    cache = _one_cache(cache, logits, labels, classes)
    check_every_class_has_rows(cache)
    if later := [name for name in ("sample_weight", "cost_fp", "cost_fn") if getattr(cache, name) is not None]:
        raise BadCache(f"key '{later[0]}' is not used by this version; leave it out to treat every row alike")
    chosen = find_method(method)
    given = {"search": search, "digits": digits, "tau": tau}
    options = {name: value for name, value in given.items() if value is not None}
    if foreign := sorted(options.keys() - chosen.options):
        raise UnknownMethod(f"method '{method}' has no option '{foreign[0]}'")
    priors = [given for given in (prior, cache.prior, None if train is None else train.prior) if given is not None]
    task = Task(
        logits=cache.logits,
        labels=cache.labels,
        classes=cache.classes,
        metric=parse_metric(metric, cache.classes, positive),
        state_logits=cache.logits if train is None else _same_model(train, cache, "train").logits,
        prior=check_prior(priors[0], cache.classes) if priors else None,
        search=search or "exact",
        digits=digits,
        tau=tau,
    )
    if isinstance(evidence, FeatureCache):
        _same_model(evidence, cache, "evidence")
        if evidence.digest == cache.digest:
            raise BadCache("the evidence rows are the fitting rows; pass other rows, or True for cross-fitting")
    fitted = chosen.fit(task)
    metrics = standard_metrics(cache.classes, positive)
    metrics += [task.metric] * (task.metric.name not in {standard.name for standard in metrics})
    found = NO_EVIDENCE
    if isinstance(evidence, FeatureCache):
        found = held_out(fitted.point, evidence.logits, evidence.labels, metrics, rng)
    elif evidence:
        found = cross_fitted(task, fitted, chosen.fit, metrics, state_rows=train is None, rng=rng)
    return FitResult(
        point=fitted.point,
        method=method,
        metric=task.metric.name,
        options={"search": task.search, **options} if "search" in chosen.options else options,
        parameters=fitted.parameters,
        prior=task.prior,
        positive=positive,
        evidence=found.point,
        before=found.argmax,
        mis_before=model_imbalance_state(task.state_logits),
        mis_after=fitted.point.adjusted(task.state_logits).mean(axis=0),
        mis_rows="fitting" if train is None else "train",
        rows=cache.rows,
        data_digest=cache.digest,
        warnings=(*_warnings(task, fitted), *found.warnings),
    )


def _one_cache(
    cache: FeatureCache | None, logits: ArrayLike | None, labels: ArrayLike | None, classes: Sequence[str] | None
) -> FeatureCache:
    arrays = {"logits": logits, "labels": labels, "classes": classes}
    given = [name for name, value in arrays.items() if value is not None]
    if cache is not None and given:
        raise BadCache(f"pass a cache or arrays, not both; got a cache and {', '.join(given)}")
    if cache is not None:
        return cache
    if logits is None or labels is None:
        raise BadCache(f"pass a cache, or logits and labels; got {', '.join(given) or 'neither'}")
    return feature_cache(logits=logits, labels=labels, classes=classes)


def _same_model(other: FeatureCache, cache: FeatureCache, name: str) -> FeatureCache:
    if other.classes != cache.classes:
        raise BadCache(f"{name} has classes {', '.join(other.classes[:20])}, wanted {', '.join(cache.classes[:20])}")
    return other


def _warnings(task: Task, fitted: Fitted) -> list[str]:
    warnings = []
    for name, rows in zip(task.classes, np.bincount(task.labels).tolist(), strict=True):
        if rows < FEW_ROWS:
            warnings.append(f"class '{name}' has {rows} rows: the point and its evidence may be far off on new data")
    decided = np.unique(fitted.point.decide(task.logits))
    if decided.size == 1:
        warnings.append(
            f"every fitting row is decided '{task.classes[decided[0]]}': '{task.metric.name}' alone asks for that"
        )
    cut, gap = fitted.parameters.get("cut"), fitted.parameters.get("gap")
    if cut is not None and gap is not None and gap < 4 * np.spacing(np.float32(abs(cut))):
        warnings.append(f"the margins beside the cut are {gap:.3g} apart: a float32 model may decide them either way")
    return warnings
