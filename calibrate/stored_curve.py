"""A curve as plain JSON values and back, so that a curve that was kept can be moved to another prevalence.

Rows are not kept, nor needed: the counts at each cut, the metrics' names, the cost matrix and how many rows a unit of
weight counts for are all that `Curve.at_prevalence` reads.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from calibrate.curve import Curve
from calibrate.metrics import Metric
from calibrate.naming import parse_metric

_CUTS = ("margin", "threshold", "tp", "fp", "fn", "tn")


def curve_to_dict(curve: Curve, classes: Sequence[str]) -> dict[str, Any]:
    """Return a curve as JSON values: columns by name, what is undefined None."""
    columns: dict[str, list[float | None]] = {}
    for row in curve.rows():
        for name, value in row.items():
            columns.setdefault(name, []).append(value if math.isfinite(value) else None)
    return {
        "positive": classes[curve.positive],
        "prevalence": curve.prevalence,
        "confidence": curve.confidence,
        "best": dict(curve.best),
        "columns": columns,
        "worth": list(curve.worth),
        "cost_matrix": None if curve.cost_matrix is None else curve.cost_matrix.tolist(),
    }


def curve_from_dict(value: Mapping[str, Any], classes: Sequence[str]) -> Curve:
    """Return the curve that `curve_to_dict` wrote, of the metrics that can be computed again.

    What was written without `worth`, by an earlier release, has no bands: how sure its weighted counts are is unknown.
    """
    columns = {name: _column(values) for name, values in value["columns"].items()}
    bands = {
        name: (columns[f"{name} low"], columns[f"{name} high"])
        for name in columns
        if {f"{name} low", f"{name} high"} <= columns.keys()
    }
    costs = value.get("cost_matrix")
    edges = {f"{name} {edge}" for name in bands for edge in ("low", "high")}
    names = [name for name in columns if name not in {*_CUTS, *edges}]
    parsed = [parse_metric(name, classes, value["positive"]) for name in names]
    kept = [metric for metric in parsed if _computable(metric, costs is not None)]
    worth = value.get("worth")
    return Curve(
        **{name: columns[name] for name in _CUTS},
        metrics={metric.name: columns[name] for name, metric in zip(names, parsed, strict=True) if metric in kept},
        best={metric.name: value["best"][metric.name] for metric in kept if metric.name in value["best"]},
        prevalence=value["prevalence"],
        confidence=None if worth is None else value["confidence"],
        bands={} if worth is None else bands,
        parsed=tuple(kept),
        positive=list(classes).index(value["positive"]),
        cost_matrix=None if costs is None else np.array(costs, dtype=np.float64),
        worth=(1.0, 1.0) if worth is None else (float(worth[0]), float(worth[1])),
    )


def stored_at_prevalence(value: Mapping[str, Any], classes: Sequence[str], prevalence: float) -> dict[str, Any]:
    """Return a written curve where a share `prevalence` is positive, with whatever else it holds.

    Raises: `BadPrior` where the share is not between 0 and 1.
    """
    moved = curve_from_dict(value, classes).at_prevalence(prevalence)
    confidence = {"confidence": value["confidence"]}  # of an earlier release's curve, which has no bands now
    return {**value, **curve_to_dict(moved, classes), **confidence}


def _column(values: Sequence[float | None]) -> Float64[np.ndarray, "m"]:
    return np.array([np.nan if each is None else each for each in values], dtype=np.float64)


def _computable(metric: Metric, has_costs: bool) -> bool:
    return metric.reads != "cost" or has_costs
