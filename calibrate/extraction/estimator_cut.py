"""The cut of a scikit-learn classifier that has one of its own, as an operating point on the logits of `extract`.

`FixedThresholdClassifier` and `TunedThresholdClassifierCV` wrap a classifier of two classes and decide the positive
class where its score is at least a threshold. `extract` gives the wrapped classifier's logits, so the threshold would
be lost; here it becomes a point.

Decided here: a threshold on a probability becomes the smallest log-odds whose sigmoid reaches it, less a few rounding
steps, so that a row whose probability equals the threshold is decided as the classifier decides it. `extract` gives
log-odds of that very probability for such a classifier, whatever its decision function is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from calibrate.errors import BadModel, BadPoint
from calibrate.logits import least_log_odds
from calibrate.operating_point import OperatingPoint

_LARGEST = 1e300


@dataclass(frozen=True)
class EstimatorCut:
    """The rule of a wrapped classifier: the positive class where its score is at least `threshold`.

    `positive` is the index of the positive class, `on` what the score is.
    """

    threshold: float
    positive: int
    on: Literal["predict_proba", "decision_function"]


def point_from_estimator(model: Any, *, classes: Sequence[str] | None = None) -> OperatingPoint:
    """Return the cut of a fitted `FixedThresholdClassifier` or `TunedThresholdClassifierCV` as an operating point.

    Args:
        model: The classifier, alone, as the last step of a pipeline, or as the best of a search.
        classes: Names for its two classes, in the order of its `classes_`, where `extract` was given names too.

    It decides the logits of `extract(model, ...)` as `model.predict` decides the rows, ties included.

    Raises: `BadModel` where the model has no cut of its own, or is not fitted; `BadPoint` where `classes` do not fit.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import FixedThresholdClassifier
    >>> model = FixedThresholdClassifier(LogisticRegression(), threshold=0.2).fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    >>> round(point_from_estimator(model).threshold, 6)
    0.2
    """
    cut = cut_of(model)
    if cut is None:
        raise BadModel(
            f"wanted a FixedThresholdClassifier or a TunedThresholdClassifierCV, got {type(model).__name__}, which has "
            "no threshold of its own: its rule is OperatingPoint.argmax(classes)"
        )
    names = tuple(map(str, _values(model).tolist())) if classes is None else tuple(classes)
    if len(names) != 2:
        raise BadPoint(f"classes: wanted 2 names, got {len(names)}")
    margin = cut.threshold if cut.on == "decision_function" else least_log_odds(cut.threshold)
    margin = max(-_LARGEST, min(margin, _LARGEST))
    return OperatingPoint.from_threshold(margin, names, positive=names[cut.positive], on="margin")


def cut_of(model: Any) -> EstimatorCut | None:
    """Return the cut that a classifier has of its own, None where it has none. Raises: `BadModel` if not fitted."""
    wrapper = next((each for each in _within(model) if is_thresholded(each)), None)
    if wrapper is None:
        return None
    values = _values(wrapper)
    if hasattr(wrapper, "threshold"):
        threshold, positive = wrapper.threshold, wrapper.pos_label
    elif hasattr(wrapper, "best_threshold_"):
        threshold, positive = wrapper.best_threshold_, _tuned_label(wrapper)
    else:
        raise BadModel(f"this {type(wrapper).__name__} instance is not fitted yet")
    inner = wrapped(wrapper)
    method = wrapper.response_method
    if method == "auto":
        method = "predict_proba" if hasattr(inner, "predict_proba") else "decision_function"
    if threshold == "auto":
        threshold = 0.5 if method == "predict_proba" else 0.0
    index = 1 if positive is None else int(np.flatnonzero(values == positive)[0])
    return EstimatorCut(float(threshold), index, method)


def is_thresholded(model: Any) -> bool:
    """Return whether a classifier wraps another and cuts its scores itself."""
    return type(model).__name__ in ("FixedThresholdClassifier", "TunedThresholdClassifierCV")


def wrapped(model: Any) -> Any:
    """Return the fitted classifier within a wrapper."""
    return getattr(model, "estimator_", model.estimator)


def _within(model: Any) -> Iterator[Any]:
    """Yield the model, what a search found, and the last step of a pipeline."""
    model = getattr(model, "best_estimator_", model)
    yield model
    if hasattr(model, "steps"):
        yield model.steps[-1][1]


def _values(model: Any) -> np.ndarray:
    """Raises: `BadModel` where the classifier is not fitted."""
    try:
        return np.asarray(model.classes_)
    except AttributeError:
        raise BadModel(f"this {type(model).__name__} instance is not fitted yet") from None


def _tuned_label(model: Any) -> Any:
    """The positive label of what was tuned: that of the scorer, the second class where it names none."""
    scorer = getattr(model, "_curve_scorer", None)
    return None if scorer is None else scorer._get_pos_label()
