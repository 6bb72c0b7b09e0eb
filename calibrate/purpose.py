"""What a point was fitted for, in the same words wherever points are listed.

Decided here: a metric is never shown without the constraints that it was fitted under, nor without the prevalence where
one was given: two points are not comparable by name alone. In two classes the positive class is always named, since
an unqualified `recall` means nothing without it. A saved result or a stored point of an earlier release is read too;
what it lacks, or holds in a form that cannot be read, is left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibrate.errors import SetpointError
from calibrate.metrics import Metric
from calibrate.objective import Constraint, parse_constraint
from calibrate.uncertainty import Interval

_MOST_SHOWN = 5  # classes of a prevalence


@dataclass(frozen=True)
class KeptBound:
    """A constraint on rows that did not choose the point: whether the measured value keeps it; None where undefined."""

    constraint: str
    holds: bool | None
    measured: Interval

    @property
    def words(self) -> str:
        """As `recall >= 0.8 is broken: 0.76 [0.71, 0.81]`."""
        if self.holds is None:
            return f"{self.constraint} cannot be checked: the metric is undefined on these rows"
        one = self.measured
        verb = "holds" if self.holds else "is broken"
        return f"{self.constraint} {verb}: {one.value:.4g} [{one.low:.4g}, {one.high:.4g}]"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with the words."""
        return {
            "constraint": self.constraint,
            "holds": self.holds,
            "words": self.words,
            "measured": self.measured.to_dict(),
        }


@dataclass(frozen=True)
class Purpose:
    """What a point was fitted for: the metric, its constraints, the positive class, and where the point will be used.

    `positive` is a class's name in two classes always, in more where one was named. `prevalence` (k,) are the class
    frequencies that the fit was for, where they were given.
    """

    classes: tuple[str, ...]
    metric: str | None = None
    constraints: tuple[str, ...] = ()
    positive: str | None = None
    prevalence: tuple[float, ...] | None = None

    @classmethod
    def of(cls, details: Mapping[str, Any], classes: Sequence[str]) -> "Purpose":
        """Read what a result's `to_dict`, or a stored point's details, says.

        >>> details = {"metric": "precision", "constraints": ["recall >= 0.8"], "prevalence": [0.995, 0.005]}
        >>> Purpose.of(details, ["clear", "fraud"]).words
        'precision with recall >= 0.8, for a prevalence of 0.5 %'
        """
        metric, constraints = details.get("metric"), details.get("constraints")
        positive, prevalence = details.get("positive"), details.get("prevalence")
        listed = constraints if isinstance(constraints, list | tuple) else ()
        shares = prevalence if isinstance(prevalence, list | tuple) and len(prevalence) == len(classes) else ()
        numbers = [share for share in shares if isinstance(share, int | float) and 0 < share <= 1]
        return cls(
            tuple(classes),
            metric if isinstance(metric, str) else None,
            tuple(text for text in listed if isinstance(text, str)),
            positive_class(classes, positive if isinstance(positive, str) and positive in classes else None),
            tuple(map(float, numbers)) if len(numbers) == len(classes) else None,
        )

    @property
    def words(self) -> str | None:
        """The metric, its constraints and the prevalence, on one line; None where no metric is known."""
        return None if self.metric is None else fitted_for(self.metric, self.constraints, self.prevalence_words)

    @property
    def prevalence_words(self) -> str:
        """As `a prevalence of 0.5 %`, of the positive class of two, or of each class; empty where none was given."""
        if self.prevalence is None:
            return ""
        if len(self.classes) == 2 and self.positive is not None:
            return prevalence_in_words(self.prevalence[self.classes.index(self.positive)])
        return prevalence_in_words(dict(zip(self.classes, self.prevalence, strict=True)))

    def bounded(self, frequencies: Sequence[float] | None = None) -> list[Metric]:
        """Return the metrics of the constraints that can be read.

        `frequencies` (k,) are the class frequencies in training, for `recall_tail` and the like.
        """
        found = [constraint.metric for constraint in self._read(frequencies)]
        return list({metric.name: metric for metric in found}.values())

    def bounds(
        self, evidence: Mapping[str, Interval], frequencies: Sequence[float] | None = None
    ) -> tuple[KeptBound, ...]:
        """Return for each constraint whether the measured value keeps it; `evidence` is by the name of the metric."""
        kept = []
        for constraint in self._read(frequencies):
            measured = evidence.get(constraint.metric.name)
            if measured is not None:
                short = float(constraint.shortfall_of(np.asarray(measured.value)))
                kept.append(KeptBound(constraint.text, None if math.isnan(measured.value) else short == 0, measured))
        return tuple(kept)

    def _read(self, frequencies: Sequence[float] | None) -> list[Constraint]:
        read = []
        for text in self.constraints:
            try:
                read.append(parse_constraint(text, self.classes, self.positive, frequencies))
            except SetpointError:
                continue
        return read


def described(purpose: Purpose, bounds: Sequence[KeptBound] = ()) -> dict[str, Any]:
    """Return a purpose and whether its bounds hold as plain JSON values."""
    return {
        "fitted_for": purpose.words,
        "positive": purpose.positive,
        "prevalence": None if purpose.prevalence is None else list(purpose.prevalence),
        "bounds": [bound.to_dict() for bound in bounds],
    }


def fitted_for(metric: str, constraints: Sequence[str], prevalence: str = "") -> str:
    """Return a metric, its constraints and the prevalence, which is in words, on one line.

    >>> fitted_for("precision", ["recall >= 0.8", "alert_rate <= 0.01"], "a prevalence of 2 %")
    'precision with recall >= 0.8 and alert_rate <= 0.01, for a prevalence of 2 %'
    """
    bounds = f" with {' and '.join(constraints)}" if constraints else ""
    return metric + bounds + (f", for {prevalence}" if prevalence else "")


def prevalence_in_words(prevalence: float | Sequence[float] | Mapping[str, float] | None) -> str:
    """Return a prevalence as `fit` takes it in words, the first five classes of it; empty for None."""
    if prevalence is None:
        return ""
    if isinstance(prevalence, int | float):
        return f"a prevalence of {100 * prevalence:.3g} %"
    pairs = list(prevalence.items()) if isinstance(prevalence, Mapping) else [("", share) for share in prevalence]
    shown = ", ".join(f"{100 * share:.3g} % {name}".strip() for name, share in pairs[:_MOST_SHOWN])
    return f"a prevalence of {shown}{', ...' if len(pairs) > _MOST_SHOWN else ''}"


def positive_class(classes: Sequence[str], positive: str | None = None) -> str | None:
    """Return the name of the class that unqualified metrics are of: the named one, else the second of two classes."""
    return classes[1] if positive is None and len(classes) == 2 else positive
