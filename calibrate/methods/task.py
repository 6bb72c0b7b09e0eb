"""What every method is given and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.ascent import Sample
from calibrate.certify import Guarantee
from calibrate.counts import Counts
from calibrate.errors import Infeasible, MissingCosts, MissingHead, MissingPrior, Nearest, UndefinedMetric
from calibrate.logits import binary_margins
from calibrate.map_choice import Calibration
from calibrate.objective import Objective
from calibrate.operating_point import OperatingPoint
from calibrate.sweep import Cut, Rows, sweep_cut


@dataclass(frozen=True, eq=False)
class Task:
    """Rows to fit on and what to fit for.

    `logits` (n, k) and `labels` (n,) are the fitting rows, with `weights` (n,) and `amounts` at stake (n,), weighted,
    where there are any: those of `at_stake` as the positive class; rows of one of `groups` (n,) belong together.
    `state_logits` are the rows on which the model imbalance state and the bias that reaches a target are taken: the
    training rows where there are any, else the fitting rows. `prevalence` (k,) is how frequent the classes are where
    the point is used, if that is known: the weights hold it already. `head_weight` (k, d) and `head_bias` (k,) are the
    model's last layer, where the cache has it.
    """

    logits: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    classes: tuple[str, ...]
    objective: Objective
    state_logits: Float[np.ndarray, "m k"]
    weights: Float64[np.ndarray, "n"] | None = None
    amounts: Float64[np.ndarray, "n"] | None = None
    at_stake: int = 1
    prior: Float64[np.ndarray, "k"] | None = None
    search: str = "exact"
    digits: int | None = None
    tau: float | None = None
    head_weight: Float[np.ndarray, "k d"] | None = None
    head_bias: Float[np.ndarray, "k"] | None = None
    groups: Int[np.ndarray, "n"] | None = None
    prevalence: Float64[np.ndarray, "k"] | None = None

    def check_probabilities(self) -> None:
        """Raises `MissingPrior` where the probabilities cannot be those of the prevalence, for want of the prior."""
        if self.prevalence is not None and self.prior is None:
            raise MissingPrior(
                "this method rests on the model's probabilities, and moving them to another prevalence needs the prior "
                "that they were trained under: pass prior=, or a cache that has one"
            )

    def needed_prior(self) -> Float64[np.ndarray, "k"]:
        """The prior. Raises: `MissingPrior` where there is none."""
        if self.prior is None:
            raise MissingPrior(
                "this method needs the prior, the class frequencies that the model was trained under: "
                "pass prior=, or a cache that has one"
            )
        return self.prior

    def needed_head(self) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, "k"]]:
        """Weight and bias of the model's last layer, in float64. Raises: `MissingHead` where there is none."""
        if self.head_weight is None or self.head_bias is None:
            raise MissingHead(
                "this method needs the model's last layer: a cache with its weight (k, d) and bias (k,), "
                "beside features or logits"
            )
        return self.head_weight.astype(np.float64), self.head_bias.astype(np.float64)

    def needed_costs(self) -> Float64[np.ndarray, "k k"]:
        """The cost matrix, or in two classes that of the metric `cost(fp=..., fn=...)`, a row for each decision.

        Raises: `MissingCosts` where there is neither.
        """
        if self.objective.cost_matrix is not None:
            return self.objective.cost_matrix
        costs = self.objective.metric.arguments
        if len(self.classes) != 2 or not {"fp", "fn"} <= costs.keys():
            raise MissingCosts("this method needs costs: pass cost_matrix=, or the metric cost(fp=..., fn=...)")
        matrix = np.array([[costs["tn"], costs["fn"]], [costs["fp"], costs["tp"]]])
        return matrix if self.objective.metric.positive == 1 else np.ascontiguousarray(matrix[::-1, ::-1])

    @cached_property
    def margins(self) -> Float[np.ndarray, "n"]:
        """The margins `z1 - z0` of a two-class task, in the type they are exact in. Raises: `NotFinite`."""
        return binary_margins(self.logits)

    @cached_property
    def sample(self) -> Sample:
        """The fitting rows as a class sweep wants them."""
        costs = self.objective.cost_matrix if self.objective.reads("cost") else None
        return Sample(self.logits, self.labels, self.weights, self.amounts, costs, self.at_stake, self.groups)

    def with_rows(self, rows: Int[np.ndarray, "m"]) -> "Task":
        """The same task on some of its rows; the rows of the state too where they are the fitting rows."""
        logits = self.logits[rows]
        return replace(
            self,
            logits=logits,
            labels=self.labels[rows],
            weights=None if self.weights is None else self.weights[rows],
            amounts=None if self.amounts is None else self.amounts[rows],
            groups=None if self.groups is None else self.groups[rows],
            state_logits=logits if self.state_logits is self.logits else self.state_logits,
        )


@dataclass(frozen=True)
class Fitted:
    """The point, the few numbers of its method by name (`tau`, `cut`, `gap`, `target[fraud]`), what is to be said of
    the search, whether the fitting rows had a say (where they had none, they are held-out rows for it), and what became
    of a calibration map, if one was asked for: the point contains it. Where several methods were weighed, `method` is
    the winner's name and `compared` the cross-fitted decisions of each, (n,). `guarantees` are the promises that the
    point keeps.
    """

    point: OperatingPoint
    parameters: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows_had_a_say: bool = True
    method: str | None = None
    compared: Mapping[str, Int[np.ndarray, "n"]] = field(default_factory=dict)
    guarantees: tuple[Guarantee, ...] = ()
    calibration: Calibration | None = None


def binary_rows(task: Task) -> Rows:
    """The rows of a two-class task for a sweep, their margins towards the positive class."""
    margins, positive = task.margins, task.objective.measured.positive
    return Rows(
        margins if positive == 1 else -margins,
        task.labels == positive,
        task.weights,
        task.amounts if task.objective.reads("amounts") else None,
    )


T = TypeVar("T")


def on_the_margin(task: Task, find: Callable[[Rows], T]) -> T:
    """What a search finds on the rows of a two-class task, their margins turned towards its positive class.

    Raises: what `find` raises; the cuts of `Infeasible` are turned back to the margin `z1 - z0`.
    """
    try:
        return find(binary_rows(task))
    except Infeasible as error:
        raise turned(error, task.objective.positive) from None


def exact_cut(task: Task) -> Cut:
    """The best cut of a two-class task on the margin `z1 - z0`, whichever of its classes is positive.

    Raises: `UndefinedMetric`, `Infeasible`.
    """
    cut = on_the_margin(task, lambda rows: sweep_cut(rows, task.objective))
    return cut if task.objective.positive == 1 else cut.mirrored()


def turned(error: Infeasible, positive: int) -> Infeasible:
    """The error of a sweep towards `positive`, with its cuts on the margin `z1 - z0`."""
    if positive == 1:
        return error
    nearest = (replace(each, cut=None if each.cut is None else -each.cut) for each in error.nearest)
    return Infeasible(str(error), tuple(nearest))


def point_at(cut: float, classes: tuple[str, ...]) -> OperatingPoint:
    """The point that decides the second of two classes where the margin is above the cut."""
    return OperatingPoint(classes, np.ones(2), np.array([0.0, -cut]))


def check_reached(task: Task, bias: Float64[np.ndarray, "k"], where: str) -> None:
    """Refuses a bias under which the objective is undefined or a constraint is not met; `where` says what was searched.

    Raises: `UndefinedMetric`, `Infeasible`.
    """
    check_counts(task.objective, task.sample.counts(task.sample.decide(bias)), where)


def check_counts(objective: Objective, counts: Counts, where: str) -> None:
    """The same of the counts that a decision rule gives."""
    score = objective.score(counts)
    if score.feasible:
        return
    if score.shortfall == 0:
        raise UndefinedMetric(f"metric '{objective.metric.name}' is undefined (0/0) {where}")
    unmet = [c for c in objective.constraints if c.shortfall(counts) > 0]
    nearest = tuple(Nearest(c.text, float(c.metric.value(counts)), None, False) for c in unmet)
    said = "; ".join(f"'{each.constraint}' comes to {each.value:.6g}" for each in nearest)
    raise Infeasible(f"nothing found {where} meets every constraint on these rows: {said}", nearest)
