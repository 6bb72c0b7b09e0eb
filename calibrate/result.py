"""What a fit gives back: the point, and what can be said of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from calibrate.cache import FeatureCache
from calibrate.certify import Guarantee
from calibrate.errors import BadCache
from calibrate.evidence import NO_EVIDENCE, Evidence
from calibrate.fitted_rows import Statistics
from calibrate.map_choice import Calibration
from calibrate.operating_point import OperatingPoint
from calibrate.origin import Origin
from calibrate.prevalence import ByClass, Correction, read_prevalence
from calibrate.purpose import Purpose
from calibrate.report import Report
from calibrate.report.fitted import fitted_report
from calibrate.uncertainty import Interval


@dataclass(frozen=True, eq=False)
class FitResult:
    """An operating point and what can be said of it.

    `evidence` holds an interval per metric about this very point; `before` the same for the plain model (argmax) on the
    same rows, `gain` how much better the point is there (above 0 is better), the rows being paired; `procedure` what
    the procedure that chose the point gives, cross-fitted. All are pointwise, and those of the `prevalence` (k,) where
    one was given, else of the class frequencies of the rows;
    what is promised of the metrics in `survives` holds at any. `correction` is what the point corrects of the model's
    training, `found` the decisions that the evidence rests on. `model_scores` are what no point changes: ROC AUC,
    average precision, log loss and Brier score of the model on the fitting rows, at the prevalence. `guarantees` are
    the promises that the point keeps, each with what it rests on. `compared` is the objective's metric under each
    method that `auto` weighed, cross-fitted. `notes` tell how the search ended and what it rejected. `rounding_rows` is
    how many fitting rows lie so near their decision that a float32 model may take it either way. `mis_before` and
    `mis_after` (k,) are the model imbalance state without and with the point, on the `train` rows where there were any,
    else on the `fitting` rows (`mis_rows`). `data_digest` names the fitting rows.
    `calibration` tells which calibration map the point contains and which were rejected, where one was asked for.
    `shown_rows` are the rows whose curve a report draws: those of the evidence, or the fitting rows. `origin` says
    which model made the fitting rows, None where that is unknown.
    `positive` is the class that unqualified metrics are of: in two classes always, in more where one was named.

    `model_scores`, `mis_before`, `mis_after`, `rounding_rows` and `data_digest` are computed on first access, from the
    arrays that were passed to `fit`: do not change those before.
    """

    point: OperatingPoint
    method: str
    metric: str
    constraints: tuple[str, ...]
    options: Mapping[str, Any]
    parameters: Mapping[str, float]
    prior: Float64[np.ndarray, "k"] | None
    positive: str | None
    evidence: Mapping[str, Interval]
    before: Mapping[str, Interval]
    mis_rows: Literal["train", "fitting"]
    rows: int
    statistics: Statistics = field(repr=False)
    gain: Mapping[str, Interval] = field(default_factory=dict)
    procedure: Mapping[str, Interval] = field(default_factory=dict)
    prevalence: Float64[np.ndarray, "k"] | None = None
    survives: tuple[str, ...] = ()
    correction: Correction | None = None
    found: Evidence = field(default=NO_EVIDENCE, repr=False)
    compared: Mapping[str, Interval] = field(default_factory=dict)
    guarantees: tuple[Guarantee, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    calibration: Calibration | None = None
    shown_rows: FeatureCache | None = field(default=None, repr=False)
    origin: Origin | None = None

    @property
    def model_scores(self) -> Mapping[str, Interval]:
        """The threshold-free scores of the model on the fitting rows."""
        return self.statistics.model_scores

    @property
    def mis_before(self) -> Float64[np.ndarray, "k"]:
        """The model imbalance state without the point, (k,)."""
        return self.statistics.mis_before

    @property
    def mis_after(self) -> Float64[np.ndarray, "k"]:
        """The model imbalance state with the point, (k,)."""
        return self.statistics.mis_after

    @property
    def rounding_rows(self) -> int:
        """How many fitting rows a float32 model may decide either way."""
        return self.statistics.rounding_rows

    @property
    def data_digest(self) -> str:
        """The digest of the fitting rows."""
        return self.statistics.data_digest

    @property
    def purpose(self) -> Purpose:
        """What the point was fitted for: metric, constraints, positive class and prevalence, in words too."""
        shares = None if self.prevalence is None else tuple(self.prevalence.tolist())
        return Purpose(self.point.classes, self.metric, self.constraints, self.positive, shares)

    @property
    def threshold(self) -> float | None:
        """The point's threshold on the probability of the second class: the calibrated one where there is a map."""
        kept = None if self.calibration is None else self.calibration.kept
        return (self.point if kept is None else kept.rest_of(self.point)).threshold

    def at_prevalence(self, prevalence: ByClass) -> "FitResult":
        """The same point where the classes are that frequent: evidence, before and gain anew, without the rows.

        What survives a change of prevalence keeps its interval; `model_scores` and `compared` stay what they are. The
        point is not fitted again: `fit(prevalence=...)` does that. `prevalence` is as `fit` takes it.

        Raises: `BadPrior`, `UnknownClass`; `BadCache` where there is no evidence.
        """
        if self.found.paired is None:
            raise BadCache("there is no evidence to tell for another prevalence: fit with evidence")
        shares = read_prevalence(prevalence, self.point.classes, self.positive)
        found = self.found.at_prevalence(shares)
        kept = tuple(each for each in self.guarantees if each.metric in self.survives)
        lost = tuple(
            f"'{each.constraint}' is no longer promised: it does not survive a change of prevalence"
            for each in self.guarantees
            if each not in kept
        )
        return replace(
            self,
            evidence=found.point,
            before=found.argmax,
            gain=found.gain,
            procedure=found.procedure,
            found=found,
            prevalence=shares,
            guarantees=kept,
            warnings=(*self.warnings, *lost),
        )

    def report(self, title: str | None = None) -> Report:
        """A page to sign: what happens to 100,000 cases under the point and under the plain model, with intervals.

        Raises: `BadReport` where there is no evidence.
        """
        words = self.purpose.words or self.metric
        search = self.options.get("search")
        return fitted_report(
            self.found,
            self.shown_rows,
            self.point,
            metric=self.metric,
            title=title or f"Operating point for {words}",
            positive=self.positive,
            facts={
                "fitted for": words,
                **({} if self.positive is None else {"positive class": self.positive}),
                "method": f"{self.method} ({search})" if search else self.method,
                "point": self.point.digest,
                "fitting rows": self.data_digest,
            },
            states={"plain model": self.mis_before, "this point": self.mis_after},
            model_scores=self.model_scores,
            guarantees=self.guarantees,
            notes=self.notes,
            warnings=self.warnings,
            prevalence=self.prevalence,
            purpose=self.purpose,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; undefined numbers are None."""
        return {
            "point": self.point.to_dict(),
            "threshold": self.threshold,
            "method": self.method,
            "metric": self.metric,
            "constraints": list(self.constraints),
            "options": dict(self.options),
            "parameters": {name: value if np.isfinite(value) else None for name, value in self.parameters.items()},
            "prior": None if self.prior is None else self.prior.tolist(),
            "positive": self.positive,
            "evidence": {name: interval.to_dict() for name, interval in self.evidence.items()},
            "before": {name: interval.to_dict() for name, interval in self.before.items()},
            "gain": {name: interval.to_dict() for name, interval in self.gain.items()},
            "procedure": {name: interval.to_dict() for name, interval in self.procedure.items()},
            "prevalence": None if self.prevalence is None else self.prevalence.tolist(),
            "survives": list(self.survives),
            "correction": None if self.correction is None else self.correction.to_dict(),
            "model_scores": {name: interval.to_dict() for name, interval in self.model_scores.items()},
            "mis_before": self.mis_before.tolist(),
            "mis_after": self.mis_after.tolist(),
            "mis_rows": self.mis_rows,
            "rows": self.rows,
            "data_digest": self.data_digest,
            "model_digest": None if self.origin is None else self.origin.file_digest,
            "origin": None if self.origin is None else asdict(self.origin),
            "rounding_rows": self.rounding_rows,
            "compared": {name: interval.to_dict() for name, interval in self.compared.items()},
            "guarantees": [each.to_dict() for each in self.guarantees],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON, indented, with a newline at its end."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes `to_json`; `OperatingPoint.load` reads the point out of it, `setpoint publish` all of it."""
        Path(path).write_text(self.to_json(), encoding="utf-8")
