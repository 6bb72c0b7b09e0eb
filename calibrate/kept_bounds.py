"""Whether a point still keeps the bounds that it was fitted under, on rows that did not fit it.

Decided here: a bound is about the point's own positive class and the prevalence that the point was fitted for, whatever
the table beside it shows. The measured value counts, as in the constraint itself; its interval stands beside it.
"""

from dataclasses import replace

import numpy as np

from calibrate.cache import FeatureCache, counted_rows
from calibrate.evidence import table_of
from calibrate.operating_point import OperatingPoint
from calibrate.prevalence import at_prevalence
from calibrate.purpose import KeptBound, Purpose
from calibrate.samples import frequencies, sample_of
from calibrate.uncertainty import measure


def kept_bounds(purpose: Purpose, point: OperatingPoint, rows: FeatureCache) -> tuple[KeptBound, ...]:
    """Return for each constraint whether the point keeps it on these rows.

    Left out are a constraint that cannot be read, one of a metric of costs or amounts, and all of them where the point
    is for a prevalence and a class has no rows.
    """
    known = frequencies(rows) if rows.prior is None else rows.prior.tolist()
    metrics = [metric for metric in purpose.bounded(known) if metric.reads == "rows"]
    rows = counted_rows(rows)
    if not metrics or (purpose.prevalence is not None and np.unique(rows.labels).size < len(rows.classes)):
        return ()
    if purpose.prevalence is not None:
        rows = at_prevalence(rows, np.asarray(purpose.prevalence))
    table = table_of(point.decide(rows.logits), sample_of(rows, metrics))
    table = replace(table, known_prevalence=purpose.prevalence is not None)
    return purpose.bounds(measure(table, metrics, "held_out", np.random.default_rng(0)), known)
