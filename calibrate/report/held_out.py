"""A report on rows that fitted none of the points: what `setpoint evaluate --html` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from calibrate.cache import FeatureCache, counted_rows
from calibrate.evidence import table_of
from calibrate.kept_bounds import kept_bounds
from calibrate.metrics import Metric
from calibrate.naming import MetricText, parse_metric, standard_metrics
from calibrate.operating_point import OperatingPoint
from calibrate.purpose import Purpose, described
from calibrate.report import Report
from calibrate.report.content import PLAIN, Column, content_of
from calibrate.samples import frequencies, sample_of
from calibrate.scores import measure_scores
from calibrate.state import model_imbalance_state


def held_out_report(
    rows: FeatureCache,
    points: Mapping[str, OperatingPoint],
    *,
    metrics: Sequence[MetricText] = ("f1",),
    positive: str | None = None,
    title: str = "Operating points",
    facts: Mapping[str, str] | None = None,
    purposes: Mapping[str, Purpose] | None = None,
) -> Report:
    """The plain model beside these points on rows that fitted none of them; the caller answers for that.

    The first of `metrics` is drawn against the cut. `purposes` are what the points were fitted for, by name: each of
    their constraints is checked on the rows.

    Raises: `UnknownMetric`, `BadExpression`, `UnknownClass`, `MissingCosts`.
    """
    rows = counted_rows(rows)
    known = frequencies(rows) if rows.prior is None else rows.prior.tolist()
    asked: list[Metric] = [parse_metric(text, rows.classes, positive, known) for text in metrics]
    sample = sample_of(rows, asked)
    all_points = {PLAIN: OperatingPoint.argmax(rows.classes), **points}
    columns = [
        Column(name, point, table_of(point.decide(rows.logits), sample), "held_out")
        for name, point in all_points.items()
    ]
    states = {
        name: model_imbalance_state(rows.logits)
        if name == PLAIN
        else np.asarray(point.adjusted(rows.logits).mean(axis=0))
        for name, point in all_points.items()
    }
    index = None if positive is None else rows.classes.index(positive)
    content = content_of(
        rows,
        columns,
        metric=asked[0],
        standard=[*asked[1:], *standard_metrics(rows.classes, positive)],
        title=title,
        positive=positive,
        facts={**(facts or {}), "rows digest": rows.digest},
        states=states,
        model_scores=measure_scores(rows.logits, rows.labels, index, rows.sample_weight),
    )
    known_purposes = purposes or {}
    checked = {
        name: described(purpose, kept_bounds(purpose, points[name], rows)) for name, purpose in known_purposes.items()
    }
    return Report(replace(content, purposes=checked))
