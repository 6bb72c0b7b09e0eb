"""Minimum risk: the decision of least expected cost, in closed form from a cost matrix.

`cost[i, j]` is what deciding class i costs where class j is true. In two classes that is one threshold on the
probability, `p* = (c10 - c00) / (c10 - c00 + c01 - c11)`, hence a bias; in more it is the rule `argmin(cost @ q)`. It
is only as good as the probabilities are calibrated; the fitted cut for the same costs stands beside it as
`bias_adjustment` with the metric `cost(fp=..., fn=...)` or `mean_cost`.

Source: Elkan, "The foundations of cost-sensitive learning" (2001), equations 1 and 2.
"""

import numpy as np

from calibrate.errors import BadCosts
from calibrate.methods.task import Fitted, Task
from calibrate.operating_point import OperatingPoint


def fit_minimum_risk(task: Task) -> Fitted:
    """The rule of least expected cost.

    Raises: `MissingCosts` without a cost matrix, `MissingPrior` for a prevalence without a prior, `BadCosts` where in
    two classes a wrong decision is not dearer than the right one, so that one class is never worth deciding.
    """
    cost = task.needed_costs()
    task.check_probabilities()
    k = len(task.classes)
    if k > 2:
        return Fitted(OperatingPoint(task.classes, np.ones(k), np.zeros(k), cost=cost), rows_had_a_say=False)
    false_alarm, miss = cost[1, 0] - cost[0, 0], cost[0, 1] - cost[1, 1]
    for name, extra in zip(task.classes, (false_alarm, miss), strict=True):
        if extra <= 0:
            raise BadCosts(f"a wrong decision on class '{name}' must cost more than the right one, got {extra:g} more")
    # p* = false_alarm / (false_alarm + miss), so the bias -logit(p*) is log(miss / false_alarm).
    bias = float(np.log(miss) - np.log(false_alarm))
    point = OperatingPoint(task.classes, np.ones(2), np.array([0.0, bias]))
    return Fitted(point, {"threshold": float(false_alarm / (false_alarm + miss))}, rows_had_a_say=False)
