"""Bias adjustment: a free bias per class, chosen for the metric and nothing else.

The default in two classes is `committee`, the median of three rules (`calibrate.methods.cuts`), up to 1,000 rows of the
rarer class, and `exact` above. The exact cut catches up slowly: on twelve shapes of drawn scores its mean F1 is below
the committee's by .0126 with 12 positives, .0046 with 50, .0019 with 400 and .0006 with 1,000, and the G-mean by .0132,
.0046, .0008 and .0007. On real sets it is below by .0023 and .0018 with 200 positives (five sets), and on the only set
with so many by .0008 and .0004 with 3,200. Above 1,000 there is little left to gain, and the exact cut is simpler and
cheaper (docs/few-positives.md). In more classes the default is `exact`.

`search="exact"` sweeps the cut itself in two classes. In more it climbs by exact one-class sweeps, and because free
biases of rare classes overfit, it does no harm: the climb's biases, and half the way to them, are weighed against the
best tau of logit adjustment and against argmax by cross-fitting, and each is kept only where it gains there. Under
constraints argmax, which aims at none, is left out, and of the others those that break a constraint on the fitting rows
are no candidates: `Infeasible` is raised only where all of them do.

`search="decimal"` is the paper's: the model imbalance state of the training rows is moved to a target r by a bias, and
the target is searched on the validation rows digit by digit: 0.1 to 0.9, then nine steps of 0.01 to each side of the
best, then of 0.001. With more than two classes the classes take turns, the others keeping their proportions, until no
turn gains. A coarse grid in the state regularises: it cannot put the cut where the model expects next to no positives.

Source: "Regulating imbalanced deep models with user-specified metrics".
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float64, Int

from calibrate.ascent import LARGE, Climb, coordinate_ascent
from calibrate.counts import rows_by_class
from calibrate.errors import Infeasible, MissingClass, NotConverged, UndefinedMetric, UnknownMethod
from calibrate.folds import parts_of_each_class, stratified_folds
from calibrate.methods.certified import fit_certified
from calibrate.methods.cuts import RULES, committee_rules
from calibrate.methods.cuts.committee import Bound, committee_cut
from calibrate.methods.cuts.nonempty import decides_none, keep_nonempty
from calibrate.methods.logit_adjustment import best_tau
from calibrate.methods.task import Fitted, Task, binary_rows, check_reached, exact_cut, on_the_margin, point_at
from calibrate.operating_point import OperatingPoint
from calibrate.state import bias_for_state, model_imbalance_state

FEW_OF_A_CLASS = 1000
_DIGITS = 3
_FOLDS = 3
_WEIGHED = ("free biases", "free biases shrunk halfway to the tau line", "tau line", "argmax")
_LEAST_SHARE = 1e-6  # what a class that the model never predicts starts from: no bias reaches a share of zero


def search_for(search: str | None, labels: Int[np.ndarray, "n"], classes: int) -> str:
    """The search that a name stands for on these rows: without one, and of `auto`, the default."""
    if search not in (None, "auto"):
        return str(search)
    few = classes == 2 and rows_by_class(labels, 2).min() <= FEW_OF_A_CLASS
    return "committee" if few else "exact"


def fit_bias_adjustment(task: Task) -> Fitted:
    """The best bias of the search that the task names; under certified constraints the best of those that keep them.

    Raises: `UndefinedMetric`, `Infeasible`, `UnknownMethod` for an unknown search or a bad number of digits.
    """
    if task.objective.certified:
        return fit_certified(task)
    if task.search not in SEARCHES:
        raise UnknownMethod(f"search must be one of {', '.join(SEARCHES)}; got {str(task.search)[:100]!r}")
    if task.digits is not None and task.search != "decimal":
        raise UnknownMethod(f"search '{task.search}' has no option 'digits'")
    if task.search == "expected":
        task.check_probabilities()
    return _with_decides_none(task, SEARCHES[task.search](task))


Key = tuple[float, float]
_WORST: Key = (-np.inf, -np.inf)


def best_rate(score: Callable[[float], Key], digits: int) -> tuple[float, Key]:
    """The rate between 0 and 1 with the best score, searched digit by digit, and its score; ties go to the lowest."""
    units, value = 0, _WORST
    for digit in range(1, digits + 1):
        whole = 10**digit
        candidates = range(max(1, 10 * units - 9), min(whole - 1, 10 * units + 9) + 1)
        values = [score(candidate / whole) for candidate in candidates]
        value = max(values)
        units = candidates[values.index(value)]
    return units / 10**digits, value


def _auto(task: Task) -> Fitted:
    return SEARCHES[search_for(None, task.labels, len(task.classes))](task)


def _with_decides_none(task: Task, fitted: Fitted) -> Fitted:
    """Add the probability that the point decides nobody in a new sample, in two classes with few rows of one."""
    if len(task.classes) != 2 or np.bincount(task.labels, minlength=2).min() > FEW_OF_A_CLASS:
        return fitted
    bias = fitted.point.bias
    sign = 1.0 if task.objective.measured.positive == 1 else -1.0
    probability = decides_none(binary_rows(task), sign * float(bias[0] - bias[1]))
    return replace(fitted, parameters={**fitted.parameters, "decides_none": probability})


def _by_rules(name: str | None, task: Task, bound: Bound | None = None) -> Fitted:
    """Return the cut of one rule, or without a name that of the committee, moved by `bound`."""
    if len(task.classes) != 2:
        raise UnknownMethod(
            f"search '{task.search}' is for two classes, these are {len(task.classes)}: use exact or decimal"
        )
    placed = on_the_margin(
        task,
        lambda rows: committee_cut(
            rows, task.objective, committee_rules(rows, task.objective) if name is None else {name: RULES[name]}, bound
        ),
    )
    sign = 1.0 if task.objective.positive == 1 else -1.0
    members = {f"cut[{member}]": sign * at for member, at in placed.members.items() if name is None}
    parameters = {"cut": sign * placed.at, "gap": placed.gap.gap, **members}
    return Fitted(point_at(sign * placed.at, task.classes), parameters, placed.notes)


def _exact(task: Task) -> Fitted:
    if len(task.classes) == 2:
        cut = exact_cut(task)
        return Fitted(point_at(cut.at(), task.classes), {"cut": cut.at(), "gap": cut.gap})
    climb, *others = _climb_and_shrink(task)
    candidates = [climb.bias, *others]
    chosen, notes = _choose(task, candidates)
    reason = f"coordinate ascent: {climb.reason}"
    point = OperatingPoint(task.classes, np.ones(climb.bias.size), candidates[chosen])
    return Fitted(point, {"rounds": float(climb.rounds)}, (reason, *notes))


def _climb_and_shrink(task: Task) -> tuple[Climb, Float64[np.ndarray, "k"], Float64[np.ndarray, "k"]]:
    """Return the climb, the biases halfway from it to the tau line, and those of the best tau.

    Raises: `MissingClass`; `UndefinedMetric`, `Infeasible` where no candidate reaches the objective.
    """
    k = len(task.classes)
    prior = np.bincount(task.labels, task.weights, k) / task.labels.size if task.prior is None else task.prior
    if not (prior > 0).all():
        raise MissingClass(f"class '{task.classes[int(prior.argmin())]}' has no rows, wanted at least one of each")
    log_prior = np.log(prior)
    tau = -best_tau(task, log_prior) * log_prior
    large = task.logits.size > LARGE
    climb = coordinate_ascent(task.sample, task.objective, [tau, np.zeros(k), -log_prior], best_start_only=large)
    shrunk = (climb.bias + tau) / 2
    if not any(_feasible(task, bias) for bias in (climb.bias, shrunk, tau)):
        check_reached(task, climb.bias, "by coordinate ascent")
    return climb, shrunk, tau


def _feasible(task: Task, bias: Float64[np.ndarray, "k"]) -> bool:
    """Whether the bias meets every constraint on the rows of the task, and the metric is defined there."""
    return task.sample.score(bias, task.objective).feasible


def _choose(task: Task, candidates: list[Float64[np.ndarray, "k"]]) -> tuple[int, tuple[str, ...]]:
    """Return which of free, half shrunk, tau and argmax to keep, and the notes on it: of those that are feasible on the
    fitting rows the best by cross-fitting, the free ones only where they do not lose to tau on the fitting rows.
    """
    on_rows = [task.sample.score(bias, task.objective) for bias in candidates]
    feasible = [i for i, score in enumerate(on_rows) if score.feasible]
    folds = min(_FOLDS, int(parts_of_each_class(task.labels, task.groups, len(task.classes)).min()))
    if folds < 2:
        unit = "row" if task.groups is None else "group"
        return feasible[0], (f"a class has one {unit}, so whether free biases gain could not be tried: they are kept",)
    assigned = stratified_folds(task.labels, folds, np.random.default_rng(0), task.groups)
    decided = np.empty((len(candidates), task.labels.size), dtype=np.intp)
    for fold in range(folds):
        kept, left = np.flatnonzero(assigned != fold), np.flatnonzero(assigned == fold)
        part = task.with_rows(left)
        try:
            climb, *others = _climb_and_shrink(task.with_rows(kept))
        except (UndefinedMetric, Infeasible, MissingClass) as error:
            return feasible[0], (
                f"whether free biases gain could not be tried, they are kept: without a part of the rows, {error}",
            )
        decided[:, left] = [part.sample.decide(bias) for bias in (climb.bias, *others)]
    scores = [task.objective.score(task.sample.counts(row)) for row in decided]
    fair = [i for i in feasible if on_rows[i].key >= on_rows[-1].key]
    if not task.objective.constraints:
        argmax = np.zeros(len(task.classes))
        scores.append(task.sample.score(argmax, task.objective))
        candidates.append(argmax)
        fair += [len(candidates) - 1] * scores[-1].feasible
    best = max(fair, key=lambda i: (scores[i].key, i))
    name = task.objective.metric.name
    sign = 1 if task.objective.metric.larger_is_better else -1
    said = ", ".join(f"{what} {sign * float(score.gain):.4f}" for what, score in zip(_WEIGHED, scores, strict=False))
    return best, (f"kept {_WEIGHED[best]}: cross-fitted '{name}' of {said}",)


def _decimal(task: Task) -> Fitted:
    digits = _DIGITS if task.digits is None else task.digits
    if not isinstance(digits, int) or not 1 <= digits <= 6:
        raise UnknownMethod(f"digits must be a whole number from 1 to 6, got {digits!r}")
    state = np.maximum(model_imbalance_state(task.state_logits), _LEAST_SHARE)
    target, value = state / state.sum(), _WORST
    turns: Sequence[int] = [task.objective.positive] if len(task.classes) == 2 else range(len(task.classes))
    bias = None
    tried: dict[float, tuple[Key, Float64[np.ndarray, "k"]]] = {}

    def score(held: Float64[np.ndarray, "k"], index: int, rate: float) -> Key:
        nonlocal bias
        if rate not in tried:
            try:
                bias = bias_for_state(task.state_logits, _with_rate(held, index, rate), start=bias)
            except NotConverged:
                bias = None
                return _WORST
            tried[rate] = task.sample.score(bias, task.objective).key, bias
        return tried[rate][0]

    best_bias, gained = np.zeros(target.size), True
    while gained:
        gained = False
        for index in turns:
            tried.clear()
            rate, reached = best_rate(partial(score, target, index), digits)
            if reached > value:
                # The very bias that was scored: another solution of the same target differs by rounding.
                best_bias = tried[rate][1]
                target, value, gained = _with_rate(target, index, rate), reached, len(turns) > 1
    parameters = {f"target[{name}]": float(share) for name, share in zip(task.classes, target, strict=True)}
    check_reached(task, best_bias, "at a target of the decimal search")
    return Fitted(OperatingPoint(task.classes, np.ones(target.size), best_bias), parameters)


def _with_rate(target: Float64[np.ndarray, "k"], index: int, rate: float) -> Float64[np.ndarray, "k"]:
    """The target with one class at the rate and the others scaled to the rest."""
    others = np.delete(target, index)
    return np.insert(others * ((1 - rate) / others.sum()), index, rate)


SEARCHES: dict[str, Callable[[Task], Fitted]] = {
    "exact": _exact,
    "committee": partial(_by_rules, None),
    "nonempty": partial(_by_rules, None, bound=keep_nonempty),
    **{name: partial(_by_rules, name) for name in RULES},
    "decimal": _decimal,
    "auto": _auto,
}
