"""Saved points on new labelled rows: what they achieve now, and whether they still keep what they were fitted for.

Decided here: a constraint *holds* where its whole interval keeps the bound, is *broken* where none of it does, and is
*unsure* in between. It is of the point's own positive class and of the prevalence that the point was fitted for. A
point that was fitted on these very rows is marked and judged by nothing: they flatter it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from calibrate.cache import FeatureCache, counted_rows
from calibrate.counts import rows_by_class
from calibrate.errors import SetpointError
from calibrate.evidence import held_out
from calibrate.kept_bounds import kept_bounds
from calibrate.metrics import Metric
from calibrate.naming import parse_metric, standard_metrics
from calibrate.objective import Constraint, parse_constraint
from calibrate.operating_point import OperatingPoint
from calibrate.origin import Origin
from calibrate.purpose import KeptBound, Purpose
from calibrate.samples import frequencies, sample_of
from calibrate.uncertainty import Interval, clopper_pearson
from service.calibration import cache_of
from service.domain import ModelVersion
from service.identity import identify, under_own_head
from service.ports import Source

Holds = Literal["yes", "no", "unsure"]


@dataclass(frozen=True)
class EvaluatedPoint:
    """A point as it is published: its label, its rule, and what a fit said of it."""

    label: str
    state: str
    point: OperatingPoint
    details: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The reply as plain JSON values, and what a page of it shows."""

    reply: dict[str, Any]
    rows: FeatureCache
    points: Mapping[str, OperatingPoint]
    purposes: Mapping[str, Purpose]


def evaluate(
    points: Sequence[EvaluatedPoint],
    arrays: Mapping[str, Any],
    version: ModelVersion,
    source: Source,
    *,
    origin: Origin | None = None,
    metrics: Sequence[str] = (),
    positive: str | None = None,
    allow_other_model: bool = False,
) -> Evaluation:
    """Measure points on rows that did not fit them; `metrics` are shown beside the usual ones and the points' own.

    Raises: `OtherModel`, `UnknownMetric`, what `calibrate.feature_cache` and `source` raise.
    """
    known = identify(version, arrays, origin, allow_other_model=allow_other_model)
    rows = replace(cache_of(version, source, under_own_head(arrays) if known.is_other else arrays), origin=known.origin)
    training = frequencies(rows) if rows.prior is None else rows.prior.tolist()
    shown = [parse_metric(text, rows.classes, positive, training) for text in metrics]
    counted = counted_rows(rows)
    listed = [_evaluated(each, rows, counted, shown, positive, training) for each in points]
    reply = {
        "rows": counted.rows,
        "data_digest": rows.digest,
        "classes": _classes(counted),
        "points": listed,
        "warnings": [*known.warnings, *_absent(counted)],
    }
    return Evaluation(
        reply,
        rows,
        {each.label: each.point for each in points},
        {each.label: Purpose.of(each.details, rows.classes) for each in points},
    )


def holds(constraint: Constraint, interval: Interval) -> Holds:
    """Return whether a measured interval keeps a bound: all of it, none of it, or some of it.

    >>> constraint = parse_constraint("recall >= 0.8", ["clear", "fraud"])
    >>> [holds(constraint, Interval(0.8, low, high, 0.95, 50, "held_out")) for low, high in ((0.8, 0.9), (0.7, 0.9))]
    ['yes', 'unsure']
    """
    ends = (interval.low, interval.high)
    if any(math.isnan(end) for end in ends):
        return "unsure"
    kept = [bool(constraint.shortfall_of(np.asarray(end)) == 0) for end in ends]
    return "yes" if all(kept) else "unsure" if any(kept) else "no"


def _evaluated(
    each: EvaluatedPoint,
    rows: FeatureCache,
    counted: FeatureCache,
    shown: Sequence[Metric],
    positive: str | None,
    training: Sequence[float],
) -> dict[str, Any]:
    purpose, warnings = Purpose.of(each.details, rows.classes), list[str]()
    own = _own_metric(purpose, training, counted, warnings)
    side = positive if positive is not None else purpose.positive if len(rows.classes) == 2 else None
    wanted = [
        *standard_metrics(rows.classes, side),
        *purpose.bounded(training),
        *([] if own is None else [own]),
        *shown,
    ]
    metrics = list({metric.name: metric for metric in wanted if metric.reads == "rows" or metric is own}.values())
    evidence = held_out(each.point, sample_of(counted, [] if own is None else [own]), metrics)
    flattered = each.details.get("data_digest") == rows.digest
    if flattered:
        warnings.append("it was fitted on these very rows, which flatter it: send rows that it has not seen")
    bounds = _bounds(purpose, kept_bounds(purpose, each.point, rows), each.details, training, warnings)
    judged: Holds | None = None
    if purpose.constraints:
        verdicts = {bound["holds"] for bound in bounds}
        complete = len(bounds) == len(purpose.constraints) and not flattered
        judged = "no" if "no" in verdicts and not flattered else "yes" if verdicts == {"yes"} and complete else "unsure"
    return {
        "operating_point": each.label,
        "state": each.state,
        "fitted_for": purpose.words,
        "metric": purpose.metric,
        "positive": purpose.positive,
        "prevalence": None if purpose.prevalence is None else list(purpose.prevalence),
        "measured": _plain(evidence.point),
        "argmax": _plain(evidence.argmax),
        "gain": _plain(evidence.gain),
        "at_fit": _at_fit(each.details, None if own is None else own.name),
        "bounds": bounds,
        "holds": judged,
        "fitted_on_these_rows": flattered,
        "warnings": warnings,
    }


def _own_metric(purpose: Purpose, training: Sequence[float], rows: FeatureCache, warnings: list[str]) -> Metric | None:
    """Return the metric that a point was fitted for, where these rows can tell it."""
    if purpose.metric is None:
        return None
    try:
        metric = parse_metric(purpose.metric, purpose.classes, purpose.positive, training)
        sample_of(rows, [metric])
    except SetpointError as error:
        warnings.append(f"{purpose.metric} is not measured: {error}")
        return None
    return metric


def _bounds(
    purpose: Purpose,
    kept: Sequence[KeptBound],
    details: Mapping[str, Any],
    training: Sequence[float],
    warnings: list[str],
) -> list[dict[str, Any]]:
    """Return each constraint with its bound, what is measured now, and what was at the fit."""
    measured = {each.constraint: each.measured for each in kept}
    found = []
    for text in purpose.constraints:
        try:
            constraint = parse_constraint(text, purpose.classes, purpose.positive, training)
        except SetpointError as error:
            warnings.append(f"{text} cannot be read: {error}")
            continue
        interval = measured.get(constraint.text)
        if interval is None:
            warnings.append(f"{text} is not measured: these rows do not have what it needs")
            continue
        found.append(
            {
                "constraint": constraint.text,
                "metric": constraint.metric.name,
                "at_least": constraint.at_least,
                "bound": constraint.bound,
                "measured": interval.to_dict(),
                "at_fit": _at_fit(details, constraint.metric.name),
                "holds": holds(constraint, interval),
            }
        )
    return found


def _at_fit(details: Mapping[str, Any], metric: str | None) -> dict[str, Any] | None:
    """Return the interval of a metric in the evidence of the fit, None where there is none."""
    evidence = details.get("evidence")
    interval = evidence.get(metric) if isinstance(evidence, Mapping) else None
    return dict(interval) if isinstance(interval, Mapping) else None


def _classes(rows: FeatureCache) -> list[dict[str, Any]]:
    """Return how many rows each class has, and its share of them; no interval of weighted or grouped rows."""
    weighted = rows_by_class(rows.labels, len(rows.classes), rows.sample_weight)
    counts = np.bincount(rows.labels, minlength=len(rows.classes))
    plain = rows.sample_weight is None and rows.group is None
    found = []
    for name, count, share in zip(rows.classes, counts.tolist(), (weighted / weighted.sum()).tolist(), strict=True):
        low, high = clopper_pearson(count, rows.rows) if plain else (None, None)
        found.append({"name": name, "rows": count, "share": share, "low": low, "high": high})
    return found


def _absent(rows: FeatureCache) -> list[str]:
    """Return a warning for each class without a row."""
    counts = np.bincount(rows.labels, minlength=len(rows.classes)).tolist()
    absent = [name for name, count in zip(rows.classes, counts, strict=True) if count == 0]
    return [f"there is no row of class '{name}': how the points decide them is unknown" for name in absent]


def _plain(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_dict() for name, interval in intervals.items()}
