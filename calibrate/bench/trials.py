"""Trials: which rows fit a rule and which score it.

Repeated stratified cross-validation: for each seed the rows are dealt into as many folds as the share that fits asks
for (0.5 is two, 0.8 five, 0.3 ten), and each split fits on the next few of them in a circle and scores on the rest. So
every row fits equally often. The features are left behind: a rule sees logits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from calibrate.cache import FeatureCache, check_every_class_has_rows
from calibrate.errors import BadCache, InputError, MissingClass
from calibrate.folds import stratified_folds

MOST_FOLDS = 20
_NEAR = 0.006
_PER_ROW = ("logits", "labels", "sample_weight", "cost_fp", "cost_fn", "group")


@dataclass(frozen=True, eq=False)
class Trial:
    """One split of a data set: the rows that fit and the rows that score."""

    data: str
    seed: int
    split: int
    fit: FeatureCache
    score: FeatureCache


def trials_of(data: str, cache: FeatureCache, seeds: Iterable[int], share: float = 0.5) -> Iterator[Trial]:
    """Every split of a cache for every seed; `share` of the rows fit, in steps of a whole number of folds.

    Raises: `InputError` for a share that at most 20 folds do not give; `MissingClass` where a class has too few rows
    for both parts to have one.

    >>> from calibrate.cache import feature_cache
    >>> cache = feature_cache(logits=[-2.0, -1.0, 1.0, 2.0], labels=[0, 1, 0, 1])
    >>> [(trial.seed, trial.split, trial.fit.rows, trial.score.rows) for trial in trials_of("tiny", cache, [0])]
    [(0, 0, 2, 2), (0, 1, 2, 2)]
    """
    fitting, folds = fold_share(share)
    for seed in seeds:
        assigned = stratified_folds(cache.labels, folds, np.random.default_rng(seed), cache.group)
        for split in range(folds):
            fits = (assigned - split) % folds < fitting
            yield Trial(
                data,
                seed,
                split,
                _part(data, cache, np.flatnonzero(fits), "fitting"),
                _part(data, cache, np.flatnonzero(~fits), "scoring"),
            )


def paired_trial(data: str, fit: FeatureCache, score: FeatureCache, seed: int = 0) -> Trial:
    """A trial of rows that are split already. Raises: `BadCache` where the two are not of one model, or are the same;
    `MissingClass`.
    """
    if fit.classes != score.classes:
        raise BadCache(
            f"{data}: the fitting rows have classes {', '.join(fit.classes[:20])}, "
            f"the scoring rows {', '.join(score.classes[:20])}"
        )
    if fit.digest == score.digest:
        raise BadCache(f"{data}: the scoring rows are the fitting rows")
    return Trial(
        data,
        seed,
        0,
        _part(data, fit, np.arange(fit.rows), "fitting"),
        _part(data, score, np.arange(score.rows), "scoring"),
    )


def fold_share(share: float) -> tuple[int, int]:
    """How many folds of how many fit: the fewest that come near the share. Raises: `InputError`."""
    for folds in range(2, MOST_FOLDS + 1):
        fitting = round(share * folds) if 0 < share < 1 else 0
        if 0 < fitting < folds and abs(fitting / folds - share) < _NEAR:
            return fitting, folds
    raise InputError(
        f"share must be a fraction of at most {MOST_FOLDS} folds, above 0 and below 1, as 0.5 or 0.8; got {share}"
    )


def _part(data: str, cache: FeatureCache, rows: Int[np.ndarray, "m"], what: str) -> FeatureCache:
    taken: dict[str, Any] = {name: getattr(cache, name)[rows] for name in _PER_ROW if getattr(cache, name) is not None}
    part = replace(cache, features=None, **taken)
    try:
        check_every_class_has_rows(part)
    except MissingClass as error:
        raise MissingClass(f"{data}, the {what} part of a split: {error}") from None
    return part
