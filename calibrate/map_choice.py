"""Whether a calibration map does good: it is kept only where it gains on rows that did not fit it.

On a few hundred rows every map makes the log loss of a good share of models worse (42 % to 61 % of the experiments of a
published comparison under 1,000 rows), most of all of those that were calibrated already. So a map is tried by
cross-fitting, in five stratified folds: per row, how much log loss it saves against the logits as they are, and the
mean of that must be more than its own standard error (that of the sums of groups, where rows belong together) above
zero. Else the identity stays, and it is said why.

A margin of one standard error, by simulation: of calibrated samples of 100 to 1,000 rows, which every map makes worse,
a margin of zero keeps a map on 17 % to 45 %, of one on 0 % to 5 %, of two on none. Of samples that are over-confident
by x 1.8, one keeps 37 % to 53 % at 100 rows, 92 % to 98 % at 300 and all at 1,000; two 2 % to 7 % and 38 % to 70 %.
`tests/statistics/test_maps.py` holds it to that.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from calibrate.errors import NotConverged, UnknownMethod
from calibrate.folds import parts_of_each_class, stratified_folds
from calibrate.maps import MAPS, CalibrationMap, Weights, fit_map
from calibrate.ranking import log_losses

Groups = Int[np.ndarray, "n"] | None

AUTO = "auto"
_FOLDS = 5
_MARGIN = 1.0
# What `auto` tries in more classes and in two, where vector scaling has nothing to add: the margin is one number.
_TRIED = (
    ("temperature", "bias_corrected_temperature", "vector_scaling"),
    ("temperature", "bias_corrected_temperature", "platt"),
)


@dataclass(frozen=True)
class Trial:
    """What a map gains on rows that did not fit it: the mean log loss saved per row, and its standard error."""

    name: str
    gain: float
    standard_error: float

    @property
    def keeps(self) -> bool:
        """Whether harm is unlikely: the gain is more than one standard error above zero."""
        return self.gain > _MARGIN * self.standard_error

    def __str__(self) -> str:
        return f"{self.name} {self.gain:+.4f} (standard error {self.standard_error:.4f})"


@dataclass(frozen=True, eq=False)
class Calibration:
    """What became of the calibration that a fit was asked for: the map that was kept, which the point contains, or None
    for the logits as they are; every trial; and what is to be said of them.
    """

    kept: CalibrationMap | None
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rejected(self) -> tuple[Trial, ...]:
        """The trials of maps that were not kept."""
        return tuple(trial for trial in self.trials if self.kept is None or trial.name != self.kept.name)

    def to_dict(self) -> dict[str, Any]:
        """`name`, `scale` and `bias` of the map, each None where none was kept, and the `trials`."""
        none = {"name": None, "scale": None, "bias": None}
        return {
            **(none if self.kept is None else self.kept.to_dict()),
            "trials": [asdict(each) for each in self.trials],
        }


def check_calibration(name: str | None, classes: int) -> None:
    """Raises: `UnknownMethod` for a name that is neither a map's nor `auto`; for Platt's in more than two classes."""
    if name is None or name == AUTO:
        return
    if not isinstance(name, str) or name not in MAPS:
        raise UnknownMethod(f"calibration must be one of {', '.join(MAPS)}, {AUTO}; got {str(name)[:100]!r}")
    if name == "platt" and classes > 2:
        raise UnknownMethod(f"calibration 'platt' is for two classes, got {classes}: try bias_corrected_temperature")


def choose_map(
    calibration: str,
    logits: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    weights: Weights = None,
    groups: Groups = None,
) -> Calibration:
    """The map of that name if it gains, with `auto` the one that gains most, else the identity.

    Raises: `UnknownMethod`, `NotConverged` where a named map is kept and does not converge on all rows.
    """
    check_calibration(calibration, logits.shape[1])
    names = [calibration] if calibration != AUTO else list(_TRIED[logits.shape[1] == 2])
    trials, untried = [], []
    for name in names:
        try:
            trials.append(try_map(name, logits, labels, weights, groups))
        except NotConverged as error:
            untried.append(f"calibration '{name}' is left out: {error}")
    good = [trial for trial in trials if trial and trial.keeps]
    best = max(good, key=lambda trial: trial.gain, default=None)
    kept = None if best is None else fit_map(best.name, logits, labels, weights)
    found = tuple(trial for trial in trials if trial is not None)
    return Calibration(kept, found, (*untried, _said(best, found, names)))


def try_map(
    name: str,
    logits: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    weights: Weights = None,
    groups: Groups = None,
) -> Trial | None:
    """A map by cross-fitting against the identity; None where a class has one row or group, which cannot be left out.

    Raises: `NotConverged`.
    """
    k = logits.shape[1]
    folds = min(_FOLDS, int(parts_of_each_class(labels, groups, k).min()))
    if folds < 2:
        return None
    assigned = stratified_folds(labels, folds, np.random.default_rng(0), groups)
    mapped = np.empty(logits.shape)
    for fold in range(folds):
        kept, left = assigned != fold, assigned == fold
        if not np.bincount(labels[kept], minlength=k).all():
            return None
        part = fit_map(name, logits[kept], labels[kept], None if weights is None else weights[kept])
        mapped[left] = part.apply(logits[left])
    saved = log_losses(logits, labels) - log_losses(mapped, labels)
    w = np.ones(labels.size) if weights is None else weights
    mean = float(w @ saved / w.sum())
    off = w * (saved - mean)
    if groups is not None:
        off = np.bincount(groups, off)
    return Trial(name, mean, float(np.sqrt(off @ off) / w.sum()))


def harm(
    name: str,
    logits: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    weights: Weights = None,
    groups: Groups = None,
) -> tuple[str, ...]:
    """A warning where a map that is applied whatever comes does not gain on rows that did not fit it."""
    trial = try_map(name, logits, labels, weights, groups)
    if trial is None:
        return (f"whether '{name}' gains could not be tried: a class has one row",)
    if trial.keeps:
        return ()
    return (f"'{name}' may do harm on new rows: log loss saved per row, cross-fitted: {trial}",)


def _said(best: Trial | None, trials: Sequence[Trial], names: Sequence[str]) -> str:
    if not trials:
        return f"calibration: {', '.join(names)} could not be tried, so the logits stay as they are"
    told = "log loss saved per row, cross-fitted: " + ", ".join(map(str, trials))
    if best is None:
        return f"calibration rejected, the logits stay as they are: a gain of one standard error is asked for; {told}"
    return f"calibration '{best.name}' kept; {told}"
