"""What a certified constraint says of rows: which of them are its trials, and which decisions on them are its errors.

A share of rows asks of a row only whether it is of the share's class and whether it is decided as it, so it is two
tables of two by two, read off the metric's own definition. Where the trials do not depend on the decision and the
errors all lie on one side (recall, fnr, specificity, fpr, alert_rate), the share moves one way with the cut: then the
order statistics of the trials' margins say which cuts keep the promise, all of them at once. Everything else
(precision, npv, accuracy, error_rate) is tested at points that were fixed before the rows were looked at.

Rows of one group are one trial, if any of them is, and an error if any of those is: the worst row counts.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from calibrate.certify import (
    Guarantee,
    Rule,
    Unit,
    allowed_misses,
    certifiable_rate,
    complement,
    p_value,
    rows_needed,
    tail,
    units_of,
)
from calibrate.counts import Counts, Values
from calibrate.errors import Nearest
from calibrate.objective import Constraint


@dataclass(frozen=True, eq=False)
class Promise:
    """A certified constraint on k classes, with its tables (2, 2): is the row of class `index`, is it decided as it?

    An `index` of None is of all classes alike: the row is of "the class", and decided as it where decided rightly.
    """

    constraint: Constraint
    index: int | None
    trials: Bool[np.ndarray, "2 2"]
    errors: Bool[np.ndarray, "2 2"]

    @classmethod
    def of(cls, constraint: Constraint, k: int) -> "Promise":
        """The promise of a constraint whose metric is a share of rows."""
        metric = constraint.metric
        if metric.rate is None:
            raise TypeError(f"metric '{metric.name}' is not a share of rows")
        of_all = metric.symmetric
        width, index = (2, 1) if of_all else (k, metric.positive)
        other = (index + 1) % width
        hits, predicted, actual = (np.zeros((2, 2, width)) for _ in range(3))
        for label in (0, 1):
            for decided in (0, 1):
                true, said = (index if label else other), (index if decided else other)
                actual[label, decided, true] = predicted[label, decided, said] = 1
                hits[label, decided, true] = float(true == said)
        counts = Counts(hits, predicted, actual)
        trials = metric.rate.trials(counts) > 0.5
        right = (metric.rate.successes(counts) > 0.5) == constraint.at_least
        return cls(constraint, None if of_all else index, trials, trials & ~right)

    @property
    def rate(self) -> float:
        """The least share of trials without an error."""
        return self.constraint.bound if self.constraint.at_least else complement(self.constraint.bound)

    @property
    def delta(self) -> float:
        """The most risk that it fails; 0 where it is only about the average."""
        return 0.0 if self.constraint.confidence is None else complement(self.constraint.confidence)

    @cached_property
    def errs_when(self) -> Literal["decided", "left"] | None:
        """Whether a trial goes wrong when its row is decided as the class, or when it is left; None where neither."""
        fixed = (self.trials[:, 0] == self.trials[:, 1]).all()
        if self.index is None or not fixed:
            return None
        left, decided = self.errors[self.trials[:, 0]].T
        if left.all() and not decided.any():
            return "left"
        return "decided" if decided.all() and not left.any() else None

    @property
    def class_index(self) -> int:
        """The class, of a share that has one."""
        if self.index is None:
            raise TypeError(f"'{self.constraint.text}' is of all classes")
        return self.index

    def trials_among(self, labels: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which rows are trials, where that does not depend on the decision."""
        return np.asarray(self.trials[:, 0][(labels == self.index).astype(np.intp)])

    def count(
        self, labels: Int[np.ndarray, "n"], decided: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"] | None
    ) -> tuple[int, int]:
        """How many trials these decisions have, and how many errors: in rows, or in groups."""
        right = labels == decided
        is_class = np.ones(right.size, dtype=np.intp) if self.index is None else (labels == self.index).astype(np.intp)
        as_class = right.astype(np.intp) if self.index is None else (decided == self.index).astype(np.intp)
        return (
            int(units_of(self.trials[is_class, as_class], groups, np.maximum).sum()),
            int(units_of(self.errors[is_class, as_class], groups, np.maximum).sum()),
        )

    def expected_p(self, counts: Counts, scale: float) -> Values:
        """The p-values to expect of tests with `scale` times these rows; 1 where the trials are too few to pass."""
        rate = self.constraint.metric.rate
        if rate is None:
            raise TypeError(f"metric '{self.constraint.metric.name}' is not a share of rows")
        trials, successes = rate.trials(counts), rate.successes(counts)
        errors = trials - successes if self.constraint.at_least else successes
        needed = rows_needed(self.rate, self.constraint.confidence) or np.inf
        return np.where(trials * scale < needed, 1.0, tail(errors * scale, trials * scale, self.rate))

    def passes(self, trials: int, errors: int) -> bool:
        """Whether so many errors certify the bound at a point that was fixed before the trials were looked at."""
        return trials > 0 and p_value(errors, trials, self.rate) <= self.delta

    def allowed(self, trials: int) -> int:
        """How many errors so many trials may have; -1 where they are too few."""
        return allowed_misses(trials, self.rate, self.constraint.confidence)

    def guarantee(self, rule: Rule, unit: Unit, trials: int, errors: int, together: float | None) -> Guarantee:
        """The record of a promise that is kept."""
        each = self.constraint
        share = 1 - errors / trials if each.at_least else errors / trials
        kind: Literal["confidence", "average"] = "average" if each.confidence is None else "confidence"
        return Guarantee(
            each.text, each.metric.name, each.at_least, each.bound, kind, each.confidence, rule, unit, trials,
            self.allowed(trials), errors, share, together,
        )  # fmt: skip

    def shortage(self, trials: int, unit: str, *, errors: int = 0, alone: bool = True) -> Nearest:
        """What it needs, what there is, and what could be promised now."""
        best = certifiable_rate(trials, self.constraint.confidence, errors) if trials else 0.0
        value = best if self.constraint.at_least else 1 - best
        needed = rows_needed(self.rate, self.constraint.confidence)
        return Nearest(self.constraint.text, value, None, alone, needed, trials, unit, value)

    def what(self, classes: tuple[str, ...], groups: bool) -> str:
        """What its trials are called, for a message."""
        of = "groups with " if groups else ""
        if self.index is None or self.trials.all():
            return "groups" if groups else "rows"
        name = classes[self.index]
        if self.errs_when is None:
            return f"{of}rows decided '{name}'" if self.trials[:, 1].any() else f"{of}rows not decided '{name}'"
        return f"{of}rows of '{name}'" if self.trials[1, 0] else f"{of}rows not of '{name}'"


def together(ordered: list[Promise], tested: list[Promise]) -> float | None:
    """The confidence with which all of them hold: the risks of order statistics add up, tests stop at the first failure
    of any, so of those only the largest counts. None where each is about the average.
    """
    risks = [each.delta for each in ordered if each.delta]
    risks += [max(each.delta for each in tested)] if tested else []
    return max(0.0, complement(float(f"{sum(risks):.12g}"))) if risks else None


def safe_range(
    promises: list[Promise],
    margins: Float[np.ndarray, "n"],
    labels: Int[np.ndarray, "n"],
    groups: Int[np.ndarray, "n"] | None,
    toward: int,
) -> tuple[float, float, list[tuple[Promise, Float[np.ndarray, "_units"]]]]:
    """The cuts that keep every promise of these rows: low <= cut < high, on margins (n,) towards class `toward`.

    Also each promise with the worst margin of each of its units, ascending. A promise that its units are too few for
    puts no bound: `Promise.allowed` tells.
    """
    low, high, trials = -np.inf, np.inf, []
    for promise in promises:
        rises = (promise.errs_when == "left") == (promise.index == toward)  # the cut's errors are those below it
        rows = promise.trials_among(labels)
        worst = units_of(margins[rows], None if groups is None else groups[rows], np.minimum if rises else np.maximum)
        worst = np.sort(worst)
        trials.append((promise, worst))
        misses = promise.allowed(worst.size)
        if misses >= 0 and rises:
            high = min(high, float(worst[misses]))
        elif misses >= 0:
            low = max(low, float(worst[worst.size - 1 - misses]))
    return low, high, trials


def errors_at(promise: Promise, worst: Float[np.ndarray, "m"], cut: float, toward: int) -> int:
    """How many units go wrong at a cut, from their worst margins, ascending."""
    below = int(np.searchsorted(worst, np.float64(cut), side="right"))
    return below if (promise.errs_when == "left") == (promise.index == toward) else worst.size - below


def smoothed_counts(
    margins: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n"], cuts: Float64[np.ndarray, "m"]
) -> Counts:
    """The counts of two classes to expect at cuts, from margins smoothed class by class with a Gaussian kernel of
    Silverman's width: a few rows say more so about where a test will pass.
    """
    from scipy.special import ndtr

    above, totals = [], []
    for label in (0, 1):
        side = margins[labels == label].astype(np.float64)
        spread = np.subtract(*np.quantile(side, [0.75, 0.25])) / 1.349 if side.size else 0.0
        spread = min(float(side.std()), spread) if spread > 0 else float(side.std()) if side.size else 0.0
        width = max(1.06 * spread * max(side.size, 1) ** -0.2, float(np.spacing(np.abs(side).max(initial=1.0))))
        above.append(np.array([ndtr((side - cut) / width).sum() for cut in cuts]))
        totals.append(float(side.size))
    return Counts.of_binary(above[1], above[0], totals[1], totals[0], 1)
