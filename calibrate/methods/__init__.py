"""The methods, one file a family, and the table that names them: each is a function from a task to a fitted point."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from calibrate.errors import UnknownMethod
from calibrate.maps import MAPS
from calibrate.methods.auto import fit_argmax, fit_auto
from calibrate.methods.bias_adjustment import fit_bias_adjustment
from calibrate.methods.calibration import after_map, fit_map_alone
from calibrate.methods.head_scaling import fit_lws, fit_tau_normalization
from calibrate.methods.logit_adjustment import fit_logit_adjustment
from calibrate.methods.minimum_risk import fit_minimum_risk
from calibrate.methods.plug_in import fit_plug_in
from calibrate.methods.prior_threshold import fit_prior_threshold
from calibrate.methods.task import Fitted, Task

__all__ = ["METHODS", "Fitted", "Method", "Task", "after_map", "find_method"]


@dataclass(frozen=True)
class Method:
    """One row of the table: what a method is, which options of a task it reads, and whether it reads the head.

    `by_order` tells whether nothing but the order of the margins decides on a task. Then a shift of the logits must not
    touch them: it would not move the point, and its rounding would tell rows apart that are tied.
    """

    title: str
    fit: Callable[[Task], Fitted]
    options: frozenset[str] = frozenset()
    keeps_constraints: bool = True
    certifies: bool = False
    reads_head: bool = False
    by_order: Callable[[Task], bool] = lambda _: False


METHODS: dict[str, Method] = {
    "bias_adjustment": Method(
        "a free bias per class, searched for the metric",
        fit_bias_adjustment,
        frozenset({"search", "digits"}),
        certifies=True,
        by_order=lambda task: task.objective.certified != () or (len(task.classes) == 2 and task.search == "exact"),
    ),
    "logit_adjustment": Method(
        "bias -tau log(prior), tau fitted for the metric or given", fit_logit_adjustment, frozenset({"tau"})
    ),
    "prior_threshold": Method(
        "each probability over its class's prior; nothing is fitted", fit_prior_threshold, keeps_constraints=False
    ),
    "minimum_risk": Method(
        "the decision of least expected cost under the model's own probabilities; nothing is fitted",
        fit_minimum_risk,
        keeps_constraints=False,
    ),
    "plug_in": Method(
        "a weight and an offset per class on the probabilities, climbed along the metric's gradient", fit_plug_in
    ),
    "tau_normalization": Method(
        "scale |w|^-tau of each class's weight, the head's bias dropped",
        fit_tau_normalization,
        frozenset({"tau"}),
        reads_head=True,
    ),
    "tau_normalization_keep_bias": Method(
        "the same, the head's bias kept",
        partial(fit_tau_normalization, keep_bias=True),
        frozenset({"tau"}),
        reads_head=True,
    ),
    "lws": Method(
        "a scale per class that also scales the head's bias, by class-balanced cross-entropy",
        fit_lws,
        keeps_constraints=False,
    ),
    "lws_keep_bias": Method(
        "the same, the head's bias kept as it is",
        partial(fit_lws, keep_bias=True),
        keeps_constraints=False,
        reads_head=True,
    ),
    **{
        name: Method("a calibration map, and argmax behind it", partial(fit_map_alone, name), keeps_constraints=False)
        for name in MAPS
    },
    "argmax": Method("the plain model's own decision; nothing is fitted", fit_argmax, keeps_constraints=False),
}

_BY_FREEDOM = ("argmax", "prior_threshold", "minimum_risk", "logit_adjustment", "bias_adjustment", "plug_in")
METHODS["auto"] = Method(
    "the best of " + ", ".join(_BY_FREEDOM) + " by cross-fitting",
    lambda task: fit_auto(task, _candidates(task), _unable(task)),
    frozenset({"search", "digits"}),
    certifies=True,
    by_order=lambda task: task.objective.certified != (),
)


def _candidates(task: Task) -> dict[str, Callable[[Task], Fitted]]:
    """What `auto` weighs: where a promise is asked for, those that can make one."""
    return {name: METHODS[name].fit for name in _BY_FREEDOM if METHODS[name].certifies or not task.objective.certified}


def _unable(task: Task) -> tuple[str, ...]:
    """What `auto` leaves out because it can make no promise."""
    return tuple(name for name in _BY_FREEDOM if task.objective.certified and not METHODS[name].certifies)


def find_method(name: str) -> Method:
    """The row of that name. Raises: `UnknownMethod`."""
    if not isinstance(name, str) or name not in METHODS:
        raise UnknownMethod(f"method must be one of {', '.join(METHODS)}; got {str(name)[:100]!r}")
    return METHODS[name]
