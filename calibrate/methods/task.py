"""What every method is given and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float64, Int

from calibrate.errors import MissingPrior
from calibrate.logits import binary_margins
from calibrate.metrics import Metric
from calibrate.operating_point import OperatingPoint
from calibrate.search import Cut, sweep_cut


@dataclass(frozen=True, eq=False)
class Task:
    """Rows to fit on and what to fit for.

    `logits` (n, k) and `labels` (n,) are the fitting rows. `state_logits` are the rows on which the model imbalance
    state and the bias that reaches a target are taken: the training rows where there are any, else the fitting rows.
    """

    logits: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    classes: tuple[str, ...]
    metric: Metric
    state_logits: Float[np.ndarray, "m k"]
    prior: Float64[np.ndarray, "k"] | None = None
    search: str = "exact"
    digits: int | None = None
    tau: float | None = None

    def needed_prior(self) -> Float64[np.ndarray, "k"]:
        """The prior. Raises: `MissingPrior` where there is none."""
        if self.prior is None:
            raise MissingPrior(
                "this method needs the prior, the class frequencies that the model was trained under: "
                "pass prior=, or a cache that has one"
            )
        return self.prior

    def with_rows(self, rows: Int[np.ndarray, "m"], state_rows: bool) -> "Task":
        """The same task on some of its rows; the rows of the state too where they are the fitting rows."""
        logits = self.logits[rows]
        return replace(
            self,
            logits=logits,
            labels=self.labels[rows],
            state_logits=logits if state_rows else self.state_logits,
        )


@dataclass(frozen=True)
class Fitted:
    """The point, the few numbers of its method by name (`tau`, `cut`, `gap`, `target[fraud]`), and whether the fitting
    rows had a say: where they had none, they are held-out rows for it.
    """

    point: OperatingPoint
    parameters: Mapping[str, float] = field(default_factory=dict)
    rows_had_a_say: bool = True


def exact_cut(task: Task) -> Cut:
    """The best cut of a two-class task on the margin `z1 - z0`, whichever of its classes the metric calls positive."""
    margins = binary_margins(task.logits)
    positive = task.metric.positive
    cut = sweep_cut(margins if positive == 1 else -margins, task.labels == positive, task.metric)
    return cut if positive == 1 else cut.mirrored()


def point_at(cut: float, classes: tuple[str, ...]) -> OperatingPoint:
    """The point that decides the second of two classes where the margin is above the cut."""
    return OperatingPoint(classes, np.ones(2), np.array([0.0, -cut]))
