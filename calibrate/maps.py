"""Calibration maps: a scale and a bias per class under which `softmax(scale * z + bias)` is a truer probability.

They are fitted on log loss alone and know nothing of a metric. Decided here:

- Only maps that are affine in the logits, with scales above zero, since an operating point can contain those. Isotonic,
  beta and matrix maps are not, and are out.
- The logits are taken as they come: a point has no centring either. So vector scaling, alone of all maps, is another
  map for a model whose rows are shifted by a constant each, though their softmax is the same.
- Every fit has a finite answer, separable rows and saturated logits included. Platt's has by its smoothed targets.
  Temperature pays `0.05 log(T)^2`, in units of one row's log loss, which costs nothing where rows overlap. The other
  two start at the temperature and pay `(b - mean b)^2 / 20` for biases and, vector scaling, `(s T - 1)^2 / 2` for
  scales that leave it: a class with few rows stays near its peers.
- Weights count as rows: an integer weight is a row repeated.

Source: Guo et al., "On calibration of modern neural networks" (2017), temperature and vector scaling; Platt (1999),
with the targets of Lin, Lin & Weng (2007); Alexandari et al. (2020), bias-corrected temperature.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from calibrate.errors import BadPoint, NotConverged, UnknownMethod
from calibrate.logits import binary_margins, sigmoid
from calibrate.operating_point import OperatingPoint

_LOG_SCALE_COST, _SCALE_COST, _BIAS_COST = 0.1, 1.0, 0.1
_LEAST_SLOPE = 1e-3  # of a scale, in units of the spread of the margins, or of the temperature's

Weights = Float64[np.ndarray, "n"] | None


@dataclass(frozen=True, eq=False)
class CalibrationMap:
    """The map `scale * z + bias` of logits (n, k): `scale` (k,) > 0 and `bias` (k,), with the name of its method."""

    name: str
    scale: Float64[np.ndarray, "k"]
    bias: Float64[np.ndarray, "k"]

    def apply(self, logits: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        """The mapped logits, (n, k)."""
        return np.asarray(logits * self.scale + self.bias)

    def then(self, point: OperatingPoint) -> OperatingPoint:
        """The point that decides plain logits as `point` decides mapped ones."""
        return replace(point, scale=self.scale * point.scale, bias=point.scale * self.bias + point.bias)

    def rest_of(self, point: OperatingPoint) -> OperatingPoint:
        """The point on mapped logits that decides as `point` does on plain ones: what is behind the map."""
        scale = point.scale / self.scale
        return replace(point, scale=scale, bias=point.bias - scale * self.bias)

    def to_dict(self) -> dict[str, Any]:
        """Name, scale and bias as plain values."""
        return {"name": self.name, "scale": self.scale.tolist(), "bias": self.bias.tolist()}

    @classmethod
    def from_dict(cls, value: Any, classes: tuple[str, ...]) -> "CalibrationMap | None":
        """The map that `to_dict` gave, for these classes; None where there is none. Raises: `BadPoint`."""
        if value is None or (isinstance(value, dict) and value.get("scale") is None):
            return None
        if not isinstance(value, dict) or not isinstance(value.get("name"), str) or "bias" not in value:
            raise BadPoint("a calibration map must have a name, a scale and a bias")
        checked = OperatingPoint.from_dict({"classes": list(classes), "scale": value["scale"], "bias": value["bias"]})
        return cls(value["name"], checked.scale, checked.bias)


def fit_map(
    name: str, logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights = None
) -> CalibrationMap:
    """The map of that name with the least (penalised) log loss on rows with labels (n,) and weights (n,).

    Raises: `UnknownMethod` for an unknown name, and for Platt's in more than two classes; `NotConverged`.

    >>> cold = fit_map("temperature", np.array([[0.0, 8.0], [0.0, -8.0], [0.0, 8.0]]), np.array([1, 0, 0]))
    >>> bool(cold.scale[0] < 0.2)
    True
    """
    if name not in MAPS:
        raise UnknownMethod(f"calibration must be one of {', '.join(MAPS)}; got {str(name)[:100]!r}")
    scale, bias = MAPS[name](logits, labels, weights)
    return CalibrationMap(name, scale, bias)


def fit_platt(
    margins: Float[np.ndarray, "n"], is_positive: Bool[np.ndarray, "n"], weights: Weights = None
) -> tuple[float, float]:
    """Platt's a and b: `sigmoid(a * margin + b)` has least log loss against the smoothed targets.

    The targets are (N+ + 1) / (N+ + 2) for positives and 1 / (N- + 2) for the others, so a and b are finite also where
    the sides are separable. a is kept above 0: where the margins rank the rows the wrong way, the line is all but flat
    (0.001 over their standard deviation).

    Raises: `NotConverged`.

    Source: Lin, Lin & Weng, "A note on Platt's probabilistic outputs for support vector machines" (2007).
    """
    w = np.ones(margins.size) if weights is None else weights
    total, positives = float(w.sum()), float(w @ is_positive)
    targets = np.where(is_positive, (positives + 1) / (positives + 2), 1 / (total - positives + 2))
    return logistic_line(margins, targets, w, least_slope=_LEAST_SLOPE)


def logistic_line(
    margins: Float[np.ndarray, "n"],
    targets: Float64[np.ndarray, "n"],
    weights: Weights = None,
    least_slope: float = -np.inf,
) -> tuple[float, float]:
    """The a and b with the least log loss of `sigmoid(a * margin + b)` against targets (n,) from 0 to 1.

    `least_slope` bounds a, in units of one over the standard deviation of the margins.

    Raises: `NotConverged`, as where labels are separable, so that there is no such line.
    """
    w = np.ones(margins.size) if weights is None else weights
    total = float(w.sum())
    middle = float(w @ margins.astype(np.float64)) / total
    centred = margins.astype(np.float64) - middle
    spread = float(np.sqrt(w @ centred**2 / total)) or 1.0
    u, share = centred / spread, float(w @ targets) / total

    def value(x: Float64[np.ndarray, "2"]) -> tuple[float, Float64[np.ndarray, "2"]]:
        f = x[0] * u + x[1]
        slopes = w * (sigmoid(f) - targets)
        return float(w @ (np.logaddexp(0, f) - targets * f)) / total, np.array([slopes @ u, slopes.sum()]) / total

    start = np.array([1.0, np.log(share / (1 - share))])
    a, b = _minimum(value, start, np.array([least_slope, -np.inf]), "the logistic line")
    return float(a / spread), float(b - a * middle / spread)


def _temperature(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights
) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """Equal scales: the root of the slope of the log loss in log(1 / T), which one bracket always holds."""
    from scipy.optimize import brentq

    k = logits.shape[1]
    w = np.ones(labels.size) if weights is None else weights
    z = logits.astype(np.float64).T
    ahead = z - z[labels, np.arange(labels.size)]  # (k, n): how far each class is ahead of the true one
    ahead, w = ahead[:, w > 0], w[w > 0]
    spread = float(w @ np.abs(ahead).max(axis=0)) / float(w.sum())
    if spread == 0:
        return np.ones(k), np.zeros(k)

    def slope(log_scale: float) -> float:
        scaled = np.exp(log_scale) * ahead
        p = np.exp(scaled - scaled.max(axis=0))
        return float(w @ ((p * scaled).sum(axis=0) / p.sum(axis=0))) + _LOG_SCALE_COST * log_scale

    low = high = -float(np.log(spread))
    step = 1.0
    while slope(low) > 0:
        low, step = low - step, 2 * step
    step = 1.0
    while slope(high) < 0:
        high, step = high + step, 2 * step
    return np.full(k, np.exp(brentq(slope, low, high, xtol=1e-10) if low < high else low)), np.zeros(k)


def _bias_corrected_temperature(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights
) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """One scale and a bias per class."""
    return _affine(logits, labels, weights, scales=1)


def _vector_scaling(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights
) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """A scale and a bias per class."""
    return _affine(logits, labels, weights, scales=logits.shape[1])


def _platt(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights
) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """Platt's line on the margin."""
    if logits.shape[1] != 2:
        raise UnknownMethod(
            f"platt is for two classes, got {logits.shape[1]}: bias_corrected_temperature is the same for more"
        )
    a, b = fit_platt(binary_margins(logits), labels == 1, weights)
    return np.full(2, a), np.array([0.0, b])


def _affine(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Weights, *, scales: int
) -> tuple[Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """The least log loss plus penalty over scales (one, or one a class) and biases; the bias of the first class is 0.

    The variables are the scales over the temperature's and the biases, so that the problem is convex and begins at
    (1, 0) whatever the unit of the logits.
    """
    n, k = logits.shape
    w = np.ones(n) if weights is None else weights
    total = float(w.sum())
    cold = _temperature(logits, labels, weights)[0]
    v = np.ascontiguousarray((logits * cold).T)
    rows = np.arange(n)

    def value(x: Float64[np.ndarray, "p"]) -> tuple[float, Float64[np.ndarray, "p"]]:
        s, b = x[:scales, np.newaxis], x[scales:]
        scores = v * s + b[:, np.newaxis]
        top = scores.max(axis=0)
        p = np.exp(scores - top)
        sums = p.sum(axis=0)
        loss = float(w @ (np.log(sums) + top - scores[labels, rows]))
        p /= sums
        p[labels, rows] -= 1
        p *= w
        by_class = (p * v).sum(axis=1)
        ds, db = (by_class if scales > 1 else by_class.sum(keepdims=True)), p.sum(axis=1)
        off, centred = s[:, 0] - 1, b - b.mean()
        loss += (_SCALE_COST * off @ off + _BIAS_COST * centred @ centred + b.mean() ** 2) / 2
        ds, db = ds + _SCALE_COST * off, db + _BIAS_COST * centred + b.mean() / k
        return loss / total, np.concatenate([ds, db]) / total

    start = np.concatenate([np.ones(scales), np.zeros(k)])
    least = np.concatenate([np.full(scales, _LEAST_SLOPE), np.full(k, -np.inf)])
    x = _minimum(value, start, least, "the scales and biases")
    return x[:scales] * cold, x[scales:] - x[scales]


def _minimum(
    value: Callable[[Float64[np.ndarray, "p"]], tuple[float, Float64[np.ndarray, "p"]]],
    start: Float64[np.ndarray, "p"],
    least: Float64[np.ndarray, "p"],
    what: str,
) -> Float64[np.ndarray, "p"]:
    """Where a convex function is least with each variable at its bound or above; `value` gives it and its gradient.

    Raises: `NotConverged` where the slope is not next to zero at the end.
    """
    from scipy.optimize import Bounds, minimize

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 20}
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=Bounds(least, np.inf), options=options)
    x = np.asarray(found.x, dtype=np.float64)
    gradient = value(x)[1]
    slope = float(np.abs(np.where(x > least, gradient, np.minimum(gradient, 0))).max())
    if not slope <= 1e-5:
        raise NotConverged(f"{what} stopped at a slope of {slope:.3g} per row, wanted 1e-5: {found.message}")
    return x


MAPS = {
    "temperature": _temperature,
    "bias_corrected_temperature": _bias_corrected_temperature,
    "platt": _platt,
    "vector_scaling": _vector_scaling,
}
