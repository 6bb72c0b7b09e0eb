"""How true a model's probabilities are: log loss and Brier score with their skill, and the reliability diagram.

Decided here:

- Skill is against the base rate: at 1 % prevalence every score looks tiny. 0 is the base rate's own, 1 is perfect.
- Bins hold equal weight and are cut between different probabilities, so a tie is never split. What they cannot see, the
  spread inside a bin, is a term of its own, so the parts of the Brier score add up to it.
- Errors over bins are too large on a sample: the mean of a bin misses its truth by chance. The debiased error takes
  that away (Ferro & Fricker, per bin `y (1 - y) / (n - 1)`); beside both stands the null level, what a model gets whose
  probabilities are exactly true: labels drawn anew from them.
- In two classes all is of the positive class. In more, log loss and Brier score are of all classes, and the rest is
  there for every class against the rest: the top label alone would say nothing of a rare class.
- Weighted rows count as sum(w)^2 / sum(w^2), as in intervals.

Source: Ferro & Fricker, "A bias-corrected decomposition of the Brier score" (2012); Kumar, Liang & Ma, "Verified
uncertainty calibration" (2019), the debiased error; Cox (1958), slope and intercept.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from calibrate.cache import FeatureCache, check_every_class_has_rows
from calibrate.errors import BadPoint, NotConverged, UnknownClass
from calibrate.logits import binary_margins, sigmoid
from calibrate.maps import CalibrationMap, logistic_line
from calibrate.operating_point import OperatingPoint
from calibrate.ranking import brier, log_loss, log_odds
from calibrate.uncertainty import clopper_pearson

BINS = 15
_DRAWS = 200
_NEAR_SHARE, _NEAR_ROWS = 0.1, 30


@dataclass(frozen=True)
class Bin:
    """Rows of like probability: their share of all, mean probability, the share that is positive, with its interval."""

    share: float
    predicted: float
    observed: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class ClassCalibration:
    """How true the probabilities of one class are.

    `brier` is `reliability - resolution + uncertainty + within`, the first three bias-corrected. `ece` is the mean
    distance of the bins, `calibration_error` the root of their debiased squared distance; `null_ece` and
    `null_calibration_error` are the means of the same where the probabilities are exactly true, `null_ece_95` what one
    such model in twenty exceeds. `slope` and `intercept` are of the logistic regression of the labels on the log-odds
    (1 and 0 are right; NaN where the sides are separable), `intercept_at_slope_1` of that with the slope held. `near`
    are the rows nearest to the cut, where one was given.
    """

    base_rate: float
    mean_predicted: float
    brier: float
    brier_skill: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float
    ece: float
    null_ece: float
    null_ece_95: float
    calibration_error: float
    null_calibration_error: float
    slope: float
    intercept: float
    intercept_at_slope_1: float
    bins: tuple[Bin, ...]
    near: Bin | None


@dataclass(frozen=True)
class CalibrationQuality:
    """Log loss and Brier score with their skill over the base rates, and the calibration of each class by name."""

    log_loss: float
    log_loss_skill: float
    brier: float
    brier_skill: float
    rows: int
    classes: Mapping[str, ClassCalibration]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; undefined numbers are None."""
        return dict(_plain(asdict(self)))


def calibration_quality(
    cache: FeatureCache,
    by: CalibrationMap | None = None,
    *,
    point: OperatingPoint | None = None,
    positive: str | None = None,
    bins: int = BINS,
    rng: np.random.Generator | None = None,
) -> CalibrationQuality:
    """How true the probabilities are on the rows of a cache, which had better not have fitted the map.

    `by` is the map whose probabilities are looked at, else they are the model's own. `point`, of two classes, names the
    cut near which they are looked at too. `positive` is the class in two, the second unless named; in more it leaves
    the others out. `rng` draws the labels of the null level; without one the draw is the same every time.

    Raises: `UnknownClass`, `BadPoint` for a map or point of other classes, `MissingClass`.

    >>> from calibrate.cache import feature_cache
    >>> rows = feature_cache(logits=[-2.0, -1.5, 0.5, 1.0, -1.0, 2.0], labels=[0, 0, 1, 0, 0, 1], classes=["no", "yes"])
    >>> round(calibration_quality(rows).classes["yes"].mean_predicted, 3)
    0.467
    """
    check_every_class_has_rows(cache)
    k = len(cache.classes)
    if (by is not None and by.scale.size != k) or (point is not None and point.classes != cache.classes):
        raise BadPoint(f"the map and the point must be of the classes {', '.join(cache.classes[:20])}")
    if positive is not None and positive not in cache.classes:
        raise UnknownClass(f"positive must be one of {', '.join(cache.classes[:20])}; got {positive[:100]!r}")
    rng = np.random.default_rng(0) if rng is None else rng
    w = np.ones(cache.rows) if cache.sample_weight is None else cache.sample_weight
    there = w > 0
    logits, labels, w = cache.logits[there], cache.labels[there], w[there]
    cut = _cut(by, point) if k == 2 else None
    if by is not None:
        logits = by.apply(logits)
    shown = [1] if k == 2 else list(range(k))
    if positive is not None:
        shown = [cache.classes.index(positive)]
    if k == 2:
        sign = 1 if shown == [1] else -1
        odds = iter([sign * binary_margins(logits).astype(np.float64)])
        cut = None if cut is None else sign * cut
    else:
        odds = iter(log_odds(logits, shown))
    base = np.bincount(labels, w, k) / w.sum()
    loss, squares = log_loss(logits, labels, w), brier(logits, labels, w)
    plain_loss = -float(base[base > 0] @ np.log(base[base > 0]))
    plain_squares = float(1 - base @ base) / (2 if k == 2 else 1)
    return CalibrationQuality(
        loss,
        _skill(loss, plain_loss),
        squares,
        _skill(squares, plain_squares),
        cache.rows,
        {cache.classes[c]: _of_class(m, labels == c, w, cut, bins, rng) for c, m in zip(shown, odds, strict=True)},
    )


def equal_weight_bins(p: Float64[np.ndarray, "n"], w: Float64[np.ndarray, "n"], bins: int) -> Int[np.ndarray, "b"]:
    """Where each bin of the sorted p (n,) begins: equal weight as far as ties, which stay together, let it be.

    Each has two rows or more, if there are as many.

    >>> equal_weight_bins(np.array([0.1, 0.2, 0.2, 0.2, 0.8, 0.9]), np.ones(6), 3).tolist()
    [0, 4]
    """
    n = p.size
    wanted = w.sum() * np.arange(1, bins) / bins
    last = np.searchsorted(np.cumsum(w), wanted * (1 - 1e-12))  # the row with which each bin but the last is full
    ends = np.searchsorted(p, p[np.minimum(last, n - 1)], side="right")
    starts = [0]
    for end in np.unique(ends).tolist():
        if end - starts[-1] >= 2 and n - end >= 2:
            starts.append(end)
    return np.array(starts)


def _of_class(
    margins: Float64[np.ndarray, "n"],
    is_positive: Bool[np.ndarray, "n"],
    w: Float64[np.ndarray, "n"],
    cut: float | None,
    bins: int,
    rng: np.random.Generator,
) -> ClassCalibration:
    order = np.argsort(margins)
    m, y, w = margins[order], is_positive[order].astype(np.float64), w[order] / w.sum()
    p = sigmoid(m)
    starts = equal_weight_bins(p, w, bins)
    share = np.add.reduceat(w, starts)
    rows = share**2 / np.add.reduceat(w**2, starts)  # (b,), as many as the weights are worth
    predicted = np.add.reduceat(w * p, starts) / share
    base, n = float(w @ y), 1 / float(w @ w)

    def errors(y: Float64[np.ndarray, "n"]) -> tuple[float, float, Float64[np.ndarray, "b"], float]:
        """The mean distance, the debiased squared distance, the share of positives in each bin, and the bias."""
        observed = np.clip(np.add.reduceat(w * y, starts) / share, 0, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            bias = float(share @ (observed * (1 - observed) / (rows - 1)))
        off = predicted - observed
        return float(share @ np.abs(off)), float(share @ off**2) - bias, observed, bias

    ece, squared, observed, bias = errors(y)
    null = np.array([errors((rng.random(p.size) < p).astype(np.float64))[:2] for _ in range(_DRAWS)])
    resolution, uncertainty = float(share @ (observed - base) ** 2), base * (1 - base)
    score = float(w @ (p - y) ** 2)
    in_bin = np.repeat(predicted - observed, np.diff(np.append(starts, p.size)))
    slope, intercept = _line(m, y, w * n)
    return ClassCalibration(
        base_rate=base,
        mean_predicted=float(w @ p),
        brier=score,
        brier_skill=_skill(score, uncertainty),
        reliability=squared,
        resolution=resolution - bias + uncertainty / (n - 1),
        uncertainty=uncertainty + uncertainty / (n - 1),
        within=score - (float(w @ in_bin**2) - resolution + uncertainty),
        ece=ece,
        null_ece=float(null[:, 0].mean()),
        null_ece_95=float(np.quantile(null[:, 0], 0.95)),
        calibration_error=math.sqrt(max(squared, 0.0)),
        null_calibration_error=float(np.sqrt(np.maximum(null[:, 1], 0)).mean()),
        slope=slope,
        intercept=intercept,
        intercept_at_slope_1=_shift(m, y, w),
        bins=tuple(
            _bin(*each)
            for each in zip(share.tolist(), predicted.tolist(), observed.tolist(), rows.tolist(), strict=True)
        ),
        near=None if cut is None else _near(m, p, y, w, cut),
    )


def _bin(share: float, predicted: float, observed: float, rows: float) -> Bin:
    low, high = clopper_pearson(observed * rows, rows)
    return Bin(share, predicted, observed, low, high, round(rows))


def _near(
    m: Float64[np.ndarray, "n"],
    p: Float64[np.ndarray, "n"],
    y: Float64[np.ndarray, "n"],
    w: Float64[np.ndarray, "n"],
    cut: float,
) -> Bin:
    """The tenth of the rows, and 30 at least, whose log-odds are nearest to the cut."""
    away = np.abs(m - cut)
    wanted = min(m.size, max(_NEAR_ROWS, math.ceil(_NEAR_SHARE * m.size)))
    near = away <= np.partition(away, wanted - 1)[wanted - 1]
    share = float(w[near].sum())
    observed = min(1.0, float(w[near] @ y[near]) / share)
    return _bin(share, float(w[near] @ p[near]) / share, observed, share**2 / float(w[near] @ w[near]))


def _line(m: Float64[np.ndarray, "n"], y: Float64[np.ndarray, "n"], w: Float64[np.ndarray, "n"]) -> tuple[float, float]:
    """Slope and intercept of the labels on the log-odds; NaN where the sides are separable, so that there are none."""
    positives, negatives = m[y > 0], m[y == 0]
    if not (positives.size and negatives.size):
        return math.nan, math.nan
    if positives.min() >= negatives.max() or negatives.min() >= positives.max():
        return math.nan, math.nan
    try:
        return logistic_line(m, y, w)
    except NotConverged:
        return math.nan, math.nan


def _shift(m: Float64[np.ndarray, "n"], y: Float64[np.ndarray, "n"], w: Float64[np.ndarray, "n"]) -> float:
    """The intercept at slope 1: what must be added to the log-odds for the mean probability to be the base rate."""
    from scipy.optimize import brentq

    base = float(w @ y)
    if not 0 < base < 1:
        return math.nan
    middle = math.log(base / (1 - base))
    low, high = middle - float(m.max()) - 1, middle - float(m.min()) + 1
    return float(brentq(lambda shift: float(w @ sigmoid(m + shift)) - base, low, high, xtol=1e-12))


def _cut(by: CalibrationMap | None, point: OperatingPoint | None) -> float | None:
    """The log-odds of the second class at which a point of two classes turns, after the map; None where it has none."""
    if point is None:
        return None
    behind = point if by is None else by.rest_of(point)
    if not behind.is_affine or not math.isclose(behind.scale[0], behind.scale[1], rel_tol=1e-12):
        return None
    return float((behind.bias[0] - behind.bias[1]) / behind.scale[0])


def _skill(score: float, plain: float) -> float:
    return 1 - score / plain if plain > 0 else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
