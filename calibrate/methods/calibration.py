"""Calibration maps among the methods: as methods of their own, and as a stage before any other.

As a method a map is the whole point: rows are decided `argmax(scale * z + bias)`, and the metric has no say in it. As
a stage the map is fitted on the fitting rows, the method works on mapped logits, and the point that comes out contains
both. The stage is a function around a method's function, from a task to a fitted point, so that cross-fitting a method
cross-fits its map with it.

A map with biases also moves the class frequencies that the logits stand for to those of the fitting rows: these take
the place of the prior that the model was trained under, for the methods that divide by it.

A map behind which the method cannot meet the constraints is dropped where the logits as they are can meet them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from calibrate.errors import Infeasible
from calibrate.map_choice import Calibration, choose_map
from calibrate.maps import CalibrationMap, fit_map
from calibrate.methods.task import Fitted, Task
from calibrate.operating_point import OperatingPoint


def fit_map_alone(name: str, task: Task) -> Fitted:
    """The map of that name and argmax behind it. Raises: `UnknownMethod`, `NotConverged`."""
    found = fit_map(name, task.logits, task.labels, task.weights)
    point = found.then(OperatingPoint.argmax(task.classes))
    return Fitted(point, calibration=Calibration(found))


def after_map(fit: Callable[[Task], Fitted], calibration: str) -> Callable[[Task], Fitted]:
    """The method `fit` behind a calibration map, or behind none where none gains; `calibration` may be `auto`."""
    return partial(_fit_after_map, fit, calibration)


def _fit_after_map(fit: Callable[[Task], Fitted], calibration: str, task: Task) -> Fitted:
    found = choose_map(calibration, task.logits, task.labels, task.weights, task.groups)
    try:
        fitted = fit(task if found.kept is None else mapped(task, found.kept))
    except Infeasible as error:
        if found.kept is None:
            raise
        fitted = fit(task)  # raises its own error where the logits as they are cannot meet the constraints either
        note = f"calibration '{found.kept.name}' dropped: behind it, {error}"
        found = replace(found, kept=None, notes=(*found.notes, note))
    point, parameters = fitted.point, dict(fitted.parameters)
    if found.kept is not None:
        point = found.kept.then(point)
        if "cut" in parameters and point.is_affine and point.scale[0] == point.scale[1]:  # on the model's own margin
            parameters["cut"] = float((point.bias[0] - point.bias[1]) / point.scale[0])
            parameters["gap"] = parameters["gap"] / float(point.scale[0])
    return replace(
        fitted,
        point=point,
        parameters=parameters,
        notes=(*found.notes, *fitted.notes),
        rows_had_a_say=True,
        calibration=found,
    )


def mapped(task: Task, by: CalibrationMap) -> Task:
    """The task with mapped logits and head, and where the map has biases with the fitting rows' class frequencies as
    prior.
    """
    logits = by.apply(task.logits)
    prior = task.prior
    if prior is not None and by.bias.any():
        rows = np.bincount(task.labels, task.weights, len(task.classes))
        prior = rows / rows.sum()
    same = task.state_logits is task.logits
    weight, beta = task.head_weight, task.head_bias
    return replace(
        task,
        logits=logits,
        state_logits=logits if same else by.apply(task.state_logits),
        prior=prior,
        head_weight=None if weight is None else weight * by.scale[:, np.newaxis],
        head_bias=None if beta is None else beta * by.scale + by.bias,
    )
