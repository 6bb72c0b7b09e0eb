"""Where the model will be used, and how it was trained: corrections of the class frequencies.

Three frequencies meet here. The *prior* is that of the training rows, as the trainer counted them after any sampling.
The *prevalence* is that of the cases which the point will decide. The rows at hand have their own, which tells nothing.

A prevalence weights the rows: those of each class count for more or for less, until the classes are as frequent as they
will be. Precision, F1, alerts and costs are then those of that place; the rates within a class stay what they are. Rows
that were sampled (one in ten of the negatives kept, say) are the same case, or that of `sample_weight`.

What shifts the model's own probabilities is a bias, and becomes part of the point: `-log(rate)` for a class that was
kept at a rate in training, `-log(weight)` for one that was weighted in the loss, and `log(prevalence / prior)` where
both are known. A cut that is searched does not care; what rests on probabilities does: minimum risk, the plug-in rule,
and with more than two classes where a search starts. The prior that the corrected logits stand for is handed on with
them: `prior / rate`, scaled to 1, or the prevalence. So prior thresholds divide by what the logits hold, and decide as
the same model trained on rows as they come would have decided: they do not move with the prevalence.

Source: Elkan (2001), theorem 2; Saerens, Latinne & Decaestecker (2002), eq. 4; Dal Pozzolo et al. (2015), eq. 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from calibrate.cache import FeatureCache, check_prior
from calibrate.errors import BadCorrection, BadPrior, Infeasible, UnknownClass
from calibrate.logits import to_array
from calibrate.map_choice import Calibration
from calibrate.methods import Fitted, Task
from calibrate.metrics import class_index
from calibrate.paired import class_factors

ByClass = float | Sequence[float] | Float64[np.ndarray, "k"] | Mapping[str, float]


def read_prevalence(
    prevalence: ByClass, classes: tuple[str, ...], positive: str | None = None
) -> Float64[np.ndarray, "k"]:
    """The share of each class where a point is used, (k,): from a mapping by name, from (k,) numbers, or in two classes
    from the share of the positive class alone.

    Raises: `BadPrior`, `UnknownClass`.

    >>> read_prevalence(0.02, ("clear", "fraud")).tolist()
    [0.98, 0.02]
    """
    if isinstance(prevalence, Mapping):
        return check_prior(_in_order(prevalence, classes, "prevalence", BadPrior), classes, "prevalence")
    if np.ndim(prevalence) > 0:
        return check_prior(prevalence, classes, "prevalence")
    if len(classes) != 2:
        raise BadPrior(f"prevalence: wanted {len(classes)} entries, one per class, got one number")
    share = float(to_array(np.atleast_1d(prevalence), "prevalence", (1,))[0])
    if not 0 < share < 1:
        raise BadPrior(f"prevalence of one class must be above 0 and below 1, got {share:g}")
    index = 1 if positive is None else class_index(positive, classes)
    return np.array([1 - share, share] if index == 1 else [share, 1 - share])


def at_prevalence(cache: FeatureCache, shares: Float64[np.ndarray, "k"]) -> FeatureCache:
    """The rows weighted so that the classes are as frequent as `shares` (k,) says; their weight in all is kept."""
    weights = np.ones(cache.rows) if cache.sample_weight is None else cache.sample_weight
    actual = np.bincount(cache.labels, weights, len(cache.classes))
    return replace(cache, sample_weight=weights * class_factors(actual, shares)[cache.labels])


@dataclass(frozen=True, eq=False)
class Correction:
    """A shift of the model's logits that a point contains: `bias` (k,), 0 for the first class, and what it is made of,
    in words. `prior` (k,) is what the shifted logits stand for, where that is known.
    """

    bias: Float64[np.ndarray, "k"]
    words: tuple[str, ...]
    prior: Float64[np.ndarray, "k"] | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        prior = None if self.prior is None else self.prior.tolist()
        return {"bias": self.bias.tolist(), "words": list(self.words), "prior": prior}


def correction_of(
    classes: tuple[str, ...],
    *,
    positive: str | None = None,
    negatives_kept: ByClass | None = None,
    class_weights: ByClass | None = None,
    prior: Float64[np.ndarray, "k"] | None = None,
    prevalence: Float64[np.ndarray, "k"] | None = None,
) -> Correction | None:
    """The shift that sampling and weights in training, and another prevalence, ask for; None where there is none.

    `negatives_kept` is the rate at which training rows of each class were kept, or in two classes that of the negatives
    alone; `class_weights` the weight of each class in the training loss. `prior` is that of the training rows as they
    were counted: after the sampling, without the weights.

    Raises: `BadCorrection`, naming the class; `UnknownClass`.
    """
    bias, words = np.zeros(len(classes)), []
    if negatives_kept is not None:
        rates = _kept(negatives_kept, classes, positive)
        bias -= np.log(rates)
        prior = None if prior is None else prior / rates / (prior / rates).sum()
        words.append(f"training kept these shares of the rows: {_listed(rates, classes)}")
    if class_weights is not None:
        weights = _positive_numbers(class_weights, classes, "class_weights")
        bias -= np.log(weights)
        words.append(f"the training loss weighted the classes: {_listed(weights, classes)}")
    if prevalence is not None and prior is not None:
        bias += np.log(prevalence) - np.log(prior)
        words.append(f"moved from {_listed(prior, classes)} to the prevalence {_listed(prevalence, classes)}")
        prior = prevalence
    return Correction(bias - bias[0], tuple(words), prior) if words else None


def corrected(fit: Callable[[Task], Fitted], correction: Correction | None) -> Callable[[Task], Fitted]:
    """A method that sees the corrected logits and gives a point on the model's own."""
    if correction is None:
        return fit
    bias = correction.bias
    turn = float(bias[1] - bias[0])

    def fitted(task: Task) -> Fitted:
        logits = task.logits.astype(np.float64) + bias
        same = task.state_logits is task.logits
        state_logits = logits if same else task.state_logits.astype(np.float64) + bias
        prior = task.prior if correction.prior is None else correction.prior
        try:
            head_bias = None if task.head_bias is None else task.head_bias.astype(np.float64) + bias
            found = fit(replace(task, logits=logits, state_logits=state_logits, prior=prior, head_bias=head_bias))
        except Infeasible as error:
            nearest = (replace(each, cut=None if each.cut is None else each.cut - turn) for each in error.nearest)
            raise Infeasible(str(error), tuple(nearest)) from None
        point = replace(found.point, bias=found.point.bias + found.point.scale * bias)
        parameters = {
            name: value - turn if name.split("[")[0] == "cut" else value for name, value in found.parameters.items()
        }
        return replace(found, point=point, parameters=parameters, calibration=_behind(found.calibration, bias))

    return fitted


def _behind(calibration: Calibration | None, bias: Float64[np.ndarray, "k"]) -> Calibration | None:
    """A calibration of corrected logits as one of the model's own: the map takes the correction in."""
    if calibration is None or calibration.kept is None:
        return calibration
    kept = calibration.kept
    return replace(calibration, kept=replace(kept, bias=kept.bias + kept.scale * bias))


def _kept(value: ByClass, classes: tuple[str, ...], positive: str | None) -> Float64[np.ndarray, "k"]:
    if not isinstance(value, Mapping) and np.ndim(value) == 0:
        if len(classes) != 2:
            raise BadCorrection(f"negatives_kept: wanted {len(classes)} rates, one per class, got one number")
        index = 1 if positive is None else class_index(positive, classes)
        rates = np.ones(2)
        rates[1 - index] = to_array(np.atleast_1d(value), "negatives_kept", (1,))[0]
    else:
        rates = _positive_numbers(value, classes, "negatives_kept")
    for name, rate in zip(classes, rates.tolist(), strict=True):
        if not 0 < rate <= 1:
            raise BadCorrection(f"negatives_kept of class '{name}' must be above 0 and at most 1, got {rate:g}")
    return rates


def _positive_numbers(value: ByClass, classes: tuple[str, ...], name: str) -> Float64[np.ndarray, "k"]:
    listed = _in_order(value, classes, name, BadCorrection) if isinstance(value, Mapping) else value
    array = to_array(listed, name, (1,)).astype(np.float64)
    if array.size != len(classes):
        raise BadCorrection(f"{name}: wanted {len(classes)} entries, one per class, got {array.size}")
    for label, number in zip(classes, array.tolist(), strict=True):
        if number <= 0:
            raise BadCorrection(f"{name} of class '{label}' must be > 0, got {number:g}")
    return array


def _in_order(
    value: Mapping[str, float], classes: tuple[str, ...], name: str, error: type[BadPrior | BadCorrection]
) -> list[float]:
    if unknown := [key for key in value if key not in classes]:
        raise UnknownClass(f"{name} is by class, one of {', '.join(classes[:20])}; got {str(unknown[0])[:100]!r}")
    if missing := [label for label in classes if label not in value]:
        raise error(f"{name} of class '{missing[0]}' is missing")
    return [value[label] for label in classes]


def _listed(values: Float64[np.ndarray, "k"], classes: tuple[str, ...]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in zip(classes[:20], values.tolist(), strict=False)]
    return ", ".join(shown) + (", ..." if len(classes) > 20 else "")
