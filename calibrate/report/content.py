"""What a report says: every number of it, before anything is drawn or laid out.

Decided here: it speaks per 100,000 cases, because 0.2 % is read as nothing and 200 alerts are not. Every number has its
interval and says which rows it comes from. The curve is that of the rows at hand: the model's, which no point changes.
A point is marked where its cut lies on that curve; its numbers and their intervals come from its evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from calibrate.cache import FeatureCache
from calibrate.curve import Curve, curve
from calibrate.logits import binary_margins
from calibrate.metrics import Metric
from calibrate.naming import parse_metric
from calibrate.operating_point import OperatingPoint
from calibrate.reliability import calibration_quality
from calibrate.uncertainty import Interval, Kind, Table, measure

CASES = 100_000
PLAIN = "plain model"
KINDS: dict[Kind, str] = {
    "held_out": "The numbers come from rows that had no part in choosing this operating point.",
    "optimism_corrected": (
        "The numbers are about this operating point, on the rows that chose it. What choosing it on them flatters was "
        "measured with points that were chosen without a part of the rows, and taken off."
    ),
    "simultaneous": (
        "The numbers are about this operating point, on the rows that chose it. Their intervals are simultaneous "
        "bands, which hold wherever the cut was chosen and are wide."
    ),
    "cross_fitted": (
        "The numbers are cross-fitted: the rows were dealt into parts, and each part was decided by a point that was "
        "chosen on the others. They score the procedure that chose this operating point, not this very point, which "
        "was chosen on all rows."
    ),
    "certified": "The numbers are guarantees for new cases from the same source.",
    "submitted": "The numbers were submitted from outside and have not been checked.",
}
_CURVE_POINTS = 400
_CONFIDENCE = 0.95
_MOST_DIAGRAMS = 4
Quality = Mapping[str, Sequence[Mapping[str, float]]]
_NEIGHBOURS = 3


@dataclass(frozen=True, eq=False)
class Column:
    """One way of deciding, with its decisions on the evidence rows, and which kind of rows those are."""

    name: str
    point: OperatingPoint
    table: Table
    kind: Kind


@dataclass(frozen=True, eq=False)
class Content:
    """All that a report says.

    `facts` are lines for the head of the page. `cases` has for each way of deciding the numbers per 100,000 cases, by
    class in more than two, `evidence` its metrics. `states` are model imbalance states by name, (k,). `curve` is there
    in two classes, with the margin of each way's cut in `cuts` and its precision, recall and fpr in `points`: their
    values are those of the curve at the cut, their intervals those of the evidence.
    `purposes` has for each point by name what it was fitted for and whether its bounds hold (`purpose.described`).
    `quality` are bins of a reliability diagram by what they are of: `predicted`, `observed`, `low`, `high`, `rows`.
    """

    title: str
    facts: Mapping[str, str]
    classes: tuple[str, ...]
    rows: Mapping[str, int]
    columns: tuple[Column, ...]
    cases: Mapping[str, Mapping[str, Interval]]
    evidence: Mapping[str, Mapping[str, Interval]]
    states: Mapping[str, Float64[np.ndarray, "k"]]
    metric: str
    positive: str = ""
    prevalence: str = ""
    model_scores: Mapping[str, Any] = field(default_factory=dict)
    curve: Curve | None = None
    cuts: Mapping[str, float] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    quality: Quality = field(default_factory=dict)
    purposes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    guarantees: tuple[str, ...] = ()
    gain: Mapping[str, Interval] = field(default_factory=dict)
    neighbours: tuple[Mapping[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; undefined numbers are None."""
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "classes": list(self.classes),
            "positive": self.positive,
            "metric": self.metric,
            "prevalence": self.prevalence,
            "rows": dict(self.rows),
            "kinds": {column.name: column.kind for column in self.columns},
            "points": {column.name: column.point.to_dict() for column in self.columns},
            f"per_{CASES}": {name: _plain(found) for name, found in self.cases.items()},
            "evidence": {name: _plain(found) for name, found in self.evidence.items()},
            "gain": _plain(self.gain),
            "purposes": {name: dict(purpose) for name, purpose in self.purposes.items()},
            "guarantees": list(self.guarantees),
            "states": {name: state.tolist() for name, state in self.states.items()},
            "model_scores": {
                name: score.to_dict() if isinstance(score, Interval) else score
                for name, score in self.model_scores.items()
            },
            "quality": {name: [dict(one) for one in bins] for name, bins in self.quality.items()},
            "curve": None if self.curve is None else [_numbers(row) for row in self.curve.rows()],
            "cuts": dict(self.cuts),
            "neighbours": [_numbers(row) for row in self.neighbours],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def _plain(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_dict() for name, interval in found.items()}


def _numbers(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in row.items()}


def content_of(
    rows: FeatureCache,
    columns: Sequence[Column],
    *,
    metric: Metric,
    standard: Sequence[Metric],
    title: str,
    positive: str | None = None,
    facts: Mapping[str, str] | None = None,
    states: Mapping[str, Float64[np.ndarray, "k"]] | None = None,
    model_scores: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    prevalence: Float64[np.ndarray, "k"] | None = None,
) -> Content:
    """Everything a report says of these ways of deciding; the first column is what the others are compared with.

    `rows` are those of the curve; `metric` is the objective, `standard` what is shown beside it; `prevalence` (k,) says
    how frequent the classes are where the point is used, which the tables hold already.
    """
    counted = np.bincount(rows.labels, minlength=len(rows.classes)).tolist()
    shown = list({each.name: each for each in (metric, *standard)}.values())
    per_case = _per_case(rows.classes, positive, metric)
    content = Content(
        title=title,
        facts=dict(facts or {}),
        classes=rows.classes,
        positive=positive or rows.classes[1],
        rows=dict(zip(rows.classes, counted, strict=True)),
        columns=tuple(columns),
        cases={c.name: _per_hundred_thousand(c, per_case) for c in columns},
        evidence={c.name: _measured(c, shown) for c in columns},
        states=dict(states or {}),
        metric=metric.name,
        prevalence="" if prevalence is None else _listed(rows.classes, prevalence),
        quality=_quality(rows, positive),
        model_scores=dict(model_scores or {}),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )
    if len(rows.classes) > 2:
        return content
    share = None if prevalence is None else float(prevalence[rows.classes.index(content.positive)])
    return _with_curve(content, rows, metric, share)


def _quality(rows: FeatureCache, positive: str | None) -> Quality:
    """The bins of a reliability diagram, of the positive class of two or the most frequent few of more."""
    found = calibration_quality(rows, positive=positive).classes
    frequent = sorted(found, key=lambda name: -int((rows.labels == rows.classes.index(name)).sum()))[:_MOST_DIAGRAMS]
    return {name: [asdict(each) for each in found[name].bins] for name in frequent}


def _listed(classes: tuple[str, ...], shares: Float64[np.ndarray, "k"]) -> str:
    return ", ".join(f"{name} {share:.4g}" for name, share in zip(classes, shares.tolist(), strict=True))


def _with_curve(content: Content, rows: FeatureCache, metric: Metric, prevalence: float | None) -> Content:
    """What there is only in two classes: the curve, where each way of deciding lies on it, and the cuts beside it."""
    named = [parse_metric(name, rows.classes, content.positive) for name in ("precision", "recall", "fpr")]
    alert_rate = parse_metric("alert_rate", rows.classes, content.positive)
    everything = curve(
        rows,
        list({each.name: each for each in (*named, alert_rate, metric)}.values()),
        content.positive,
        cost_matrix=content.columns[0].table.cost_matrix,
    )
    everything = everything if prevalence is None else everything.at_prevalence(prevalence)
    found = {column.name: cut_of(column.point, rows, content.positive) for column in content.columns}
    cuts = {name: cut for name, cut in found.items() if cut is not None}
    return replace(
        content,
        curve=everything.thinned(_CURVE_POINTS).with_bands(_CONFIDENCE),
        cuts=cuts,
        points={
            column.name: _marked(_measured(column, named), everything, rows, cuts.get(column.name))
            for column in content.columns
        },
        neighbours=_neighbours(everything, rows, cuts.get(content.columns[-1].name), metric.name),
    )


def cut_of(point: OperatingPoint, rows: FeatureCache, positive: str) -> float | None:
    """Where a point of two classes cuts the margin towards the positive class; None where it is not one cut."""
    if not point.is_affine or (point.scale[0] != point.scale[1] and rows.logits[:, 0].any()):
        return None
    cut = float((point.bias[0] - point.bias[1]) / point.scale[1])
    return cut if rows.classes.index(positive) == 1 else -cut


def _per_case(classes: tuple[str, ...], positive: str | None, metric: Metric) -> dict[str, Metric]:
    """The shares of all cases that a person counts, by what they are called."""
    of = {"alerts": "alert_rate", "caught": "tp/n", "missed": "fn/n", "false alarms": "fp/n"}
    named = [positive or classes[1]] if len(classes) == 2 or positive is not None else list(classes)
    single = len(named) == 1
    found = {
        # Each moves one way with either rate, which a metric as written is not known to do.
        what if single else f"{what}: {name}": replace(parse_metric(text, classes, name), monotone=True)
        for name in named
        for what, text in of.items()
    }
    costs = metric.name.startswith("cost(") or metric.name in ("mean_cost", "row_cost")
    return {**found, "cost": metric} if costs else found


def _measured(column: Column, metrics: Sequence[Metric]) -> dict[str, Interval]:
    """Every column from the same draws, those of a fit: equal decisions have equal intervals."""
    return measure(column.table, metrics, column.kind, np.random.default_rng(0))


def _per_hundred_thousand(column: Column, per_case: Mapping[str, Metric]) -> dict[str, Interval]:
    renamed = [replace(metric, name=what) for what, metric in per_case.items()]
    return {
        what: replace(one, value=one.value * CASES, low=one.low * CASES, high=one.high * CASES)
        for what, one in _measured(column, renamed).items()
    }


def _marked(
    measured: Mapping[str, Interval], all_cuts: Curve, rows: FeatureCache, cut: float | None
) -> dict[str, Interval]:
    """The intervals of a point around its place on the curve; around its evidence where it is not one cut."""
    if cut is None:
        return dict(measured)
    place = _place_of(cut, all_cuts, rows)
    marked = {}
    for name, one in measured.items():
        value = float(all_cuts.metrics[name][place])
        marked[name] = replace(
            one, value=value, low=float(np.fmin(one.low, value)), high=float(np.fmax(one.high, value))
        )
    return marked


def _place_of(cut: float, all_cuts: Curve, rows: FeatureCache) -> int:
    """The index of a cut on the curve: cuts are in the order of how many distinct margins lie above."""
    margins = np.unique(binary_margins(rows.logits) * (1 if all_cuts.positive == 1 else -1))
    return int((margins > np.float64(cut)).sum())  # a float32 margin is compared in float64, as it is decided


def _neighbours(all_cuts: Curve, rows: FeatureCache, cut: float | None, metric: str) -> tuple[Mapping[str, float], ...]:
    """The chosen cut on the curve's rows, and on each side the nearest cuts that catch more, or fewer."""
    if cut is None:
        return ()
    chosen = _place_of(cut, all_cuts, rows)
    changes = np.flatnonzero(np.diff(all_cuts.tp) > 0) + 1
    below, above = changes[changes > chosen][:_NEIGHBOURS], changes[changes <= chosen][::-1]
    places = [*(int(i) - 1 for i in above[:_NEIGHBOURS][::-1]), chosen, *map(int, below)]
    columns = {
        "margin": all_cuts.margin,
        "threshold": all_cuts.threshold,
        "alerts": all_cuts.tp + all_cuts.fp,
        "caught": all_cuts.tp,
        "missed": all_cuts.fn,
        "false alarms": all_cuts.fp,
        metric: all_cuts.metrics[metric],
    }
    return tuple(
        {"chosen": float(place == chosen), **{name: float(values[place]) for name, values in columns.items()}}
        for place in places
    )
