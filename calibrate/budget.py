"""A budget of alerts that is kept: the k highest rows of a batch, whatever their scores.

Decided here: a cut fitted under `alerts <= 200 per 100000` meets its budget on average, and a batch may have more or
fewer alerts. A team that can work through 200 cases a day ranks the day's batch and takes the first 200: then the
number is kept, and the lowest probability of an alert changes from day to day. The two are different promises, so they
are different functions. Rows are ranked by the margin of a point, whose order no bias changes.
"""

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from calibrate.errors import WrongShape
from calibrate.metrics import class_index
from calibrate.operating_point import OperatingPoint


def decide_top(
    point: OperatingPoint, logits: ArrayLike, alerts: int, *, positive: str | None = None
) -> Int[np.ndarray, "n"]:
    """Return decisions (n,) in which exactly `alerts` rows of a batch are decided `positive`; all, where it has fewer.

    Args:
        point: An operating point of two classes: its scale ranks the rows, its cut is not used.
        logits: (n, 2), or (n,) for the one logit of two classes: the whole batch, as of one day.
        alerts: The budget of this batch, a whole number of at least 0.
        positive: The class that is an alert; the second unless named.

    Of rows with equal margins those that come first are taken.

    Raises: `WrongShape` for more than two classes or a budget that is no whole number; `UnknownClass`; what
    `OperatingPoint.decide` raises.

    >>> point = OperatingPoint.argmax(["clear", "fraud"])
    >>> decide_top(point, [-3.0, -1.0, -2.0, -4.0], 2)
    array([0, 1, 1, 0])
    """
    if len(point.classes) != 2:
        raise WrongShape(f"a budget of alerts is for two classes, the point has {len(point.classes)}")
    if isinstance(alerts, bool) or not isinstance(alerts, int | np.integer) or alerts < 0:
        raise WrongShape(f"alerts must be a whole number of at least 0, got {alerts!r}")
    index = 1 if positive is None else class_index(positive, point.classes)
    margins = point.margin(logits)
    decided = np.full(margins.size, 1 - index, dtype=np.intp)
    decided[np.argsort(-margins if index == 1 else margins, kind="stable")[: int(alerts)]] = index
    return decided
