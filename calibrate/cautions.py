"""Warnings of a fit before anybody relies on its point: an unnamed positive class, bounds that new samples break.

Decided here: a bound without a confidence is a bound on the fitting rows. The best point under it lies just within it,
so about half of new samples break it, and readers of `recall >= 0.8` in a list do not expect that. The share
of new samples is estimated from the evidence. Both the point's true value and the value that a new sample of the same
size measures vary around it by the standard error of the evidence, so their difference varies by that times the root of
2: the share is that of a normal variable beyond the bound. `tests/statistics/test_broken_bounds.py` holds it to truth.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from calibrate.metrics import Metric
from calibrate.objective import Constraint, Objective
from calibrate.uncertainty import Interval

FEW_BROKEN = 0.1
_Z = 1.959964  # of the intervals, which are at 95 %
_EITHER_CLASS = ("youden",)  # of one class by its form, and of either class by its value


def unnamed_majority(rows: Sequence[int], classes: Sequence[str], objective: Objective) -> Iterator[str]:
    """Warn where unqualified metrics are of the second class of two, and that is the more frequent one.

    `rows` (2,) counts the fitting rows of each class; `positive` was not named.
    """
    unqualified = [metric.name for metric in objective.metrics if _is_unqualified(metric)]
    if len(classes) == 2 and unqualified and 2 * rows[1] > sum(rows):
        yield (
            f"the positive class is '{classes[1]}', the second of {', '.join(classes)}, and has "
            f"{100 * rows[1] / sum(rows):.3g} % of the rows: '{unqualified[0]}' is of '{classes[1]}'. Pass "
            f"positive='{classes[0]}' if that is the class meant, or positive='{classes[1]}'"
        )


def on_average(objective: Objective) -> Iterator[str]:
    """Note of each bound on alerts that a cut meets it on average: a batch of rows may have more."""
    for constraint in objective.constraints:
        if constraint.metric.name.partition("[")[0] == "alert_rate" and not constraint.at_least:
            yield (
                f"'{constraint.text}' is met on average: a batch may have more alerts. decide_top takes the highest k "
                "rows of a batch, which keeps a budget every time"
            )


def share_broken(constraint: Constraint, measured: Interval) -> float | None:
    """Return the share of new samples, as large as that of the evidence, that break a constraint.

    None where the metric is undefined or its interval has no width.
    """
    error = (measured.high - measured.low) / (2 * _Z)
    if not (math.isfinite(measured.value) and error > 0):
        return None
    slack = measured.value - constraint.bound if constraint.at_least else constraint.bound - measured.value
    return 0.5 * math.erfc(slack / (error * math.sqrt(2)) / math.sqrt(2))


def fragile_bounds(evidence: Mapping[str, Interval], objective: Objective, *, certifies: bool) -> Iterator[str]:
    """Warn of constraints without a confidence that more than one in ten new samples will break.

    `certifies` says whether the method can promise a bound for new rows.
    """
    for constraint in objective.constraints:
        measured = evidence.get(constraint.metric.name)
        share = None if measured is None or constraint.kind != "measured" else share_broken(constraint, measured)
        if measured is None or share is None or share <= FEW_BROKEN:
            continue
        can_promise = certifies and constraint.metric.rate is not None and 0 < constraint.bound < 1
        advice = f"'{constraint.text} @ 95%' is kept on new rows" if can_promise else "ask for a stricter bound"
        yield (
            f"'{constraint.text}' is kept on the fitting rows only: about {100 * share:.0f} of 100 new samples of this "
            f"size will break it ({constraint.metric.name} {measured.value:.3g} [{measured.low:.3g}, "
            f"{measured.high:.3g}], {measured.kind.replace('_', '-')}); {advice}"
        )


def _is_unqualified(metric: Metric) -> bool:
    """Whether a metric is of one class that its text does not name."""
    of_one = not metric.symmetric and (metric.of_class is not None or metric.reads == "amounts")
    return of_one and not metric.name.endswith("]") and metric.name not in _EITHER_CLASS
