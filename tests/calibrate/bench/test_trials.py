"""Splits: every row fits equally often, no row does both, classes are spread."""

import numpy as np
import pytest

from calibrate import FeatureCache, feature_cache
from calibrate.bench import paired_trial, trials_of
from calibrate.bench.trials import fold_share
from calibrate.errors import BadCache, InputError, MissingClass


def numbered(rows: int = 100, positives: int = 20) -> FeatureCache:
    """Rows that can be told apart by their logit."""
    labels = (np.arange(rows) < positives).astype(np.int64)
    return feature_cache(
        logits=np.arange(rows) * 1.0,
        labels=labels,
        features=np.zeros((rows, 2)),
        classes=["no", "yes"],
        prior=[0.8, 0.2],
        cost_fn=np.arange(rows) * 2.0,
    )


@pytest.mark.parametrize(("share", "fitting", "folds"), [(0.5, 1, 2), (0.8, 4, 5), (0.3, 3, 10), (0.37, 3, 8)])
def test_every_row_fits_equally_often_and_never_scores_what_it_fitted(share: float, fitting: int, folds: int) -> None:
    """In every seed; the columns of a row stay together, the features stay behind."""
    cache = numbered()
    trials = list(trials_of("rows", cache, [3, 4], share))
    assert [(trial.seed, trial.split) for trial in trials] == [(seed, i) for seed in (3, 4) for i in range(folds)]
    for seed in (3, 4):
        fits = np.concatenate([trial.fit.logits[:, 1] for trial in trials if trial.seed == seed])
        assert np.bincount(fits.astype(int), minlength=100).tolist() == [fitting] * 100
    for trial in trials:
        both = np.concatenate([trial.fit.logits[:, 1], trial.score.logits[:, 1]])
        assert np.array_equal(np.sort(both), np.arange(100))
        assert trial.fit.labels.sum() == pytest.approx(20 * share, abs=2)
        assert trial.fit.cost_fn == pytest.approx(trial.fit.logits[:, 1] * 2)
        assert trial.fit.features is None
        assert trial.fit.prior == pytest.approx([0.8, 0.2])


def test_seeds_deal_anew_and_the_same_seed_the_same() -> None:
    """Randomness is the seed and nothing else."""
    cache = numbered()
    first, again, other = (next(trials_of("rows", cache, [seed])).fit.digest for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 0.001, 0.999, float("nan")])
def test_a_share_that_folds_do_not_give_is_refused(share: float) -> None:
    """It names what came."""
    with pytest.raises(InputError, match="share must be"):
        fold_share(share)


def test_a_class_needs_a_row_in_both_parts() -> None:
    """The data set and the part are named."""
    with pytest.raises(MissingClass, match=r"few, the \w+ing part of a split: class 'yes'"):
        list(trials_of("few", numbered(40, 1), [0]))


def test_pairs_are_of_one_model_and_of_different_rows() -> None:
    """What is wrong is said of the pair by name."""
    cache, other = numbered(), numbered(60)
    trial = paired_trial("both", cache, other)
    assert (trial.fit.rows, trial.score.rows) == (100, 60)
    with pytest.raises(BadCache, match="both: the scoring rows are the fitting rows"):
        paired_trial("both", cache, cache)
    foreign = feature_cache(logits=[0.0, 1.0], labels=[0, 1], classes=["no", "maybe"])
    with pytest.raises(BadCache, match="both: the fitting rows have classes no, yes"):
        paired_trial("both", cache, foreign)


def test_a_group_is_on_one_side() -> None:
    """In every split; and its numbers stay with its rows."""
    group = np.random.default_rng(0).integers(0, 40, 100)
    cache = feature_cache(logits=np.arange(100.0), labels=np.arange(100) % 2, classes=["no", "yes"], group=group)
    for trial in trials_of("grouped", cache, range(3), 0.5):
        fits, scores = (set(group[part.logits[:, 1].astype(int)]) for part in (trial.fit, trial.score))
        assert not fits & scores
        assert trial.fit.group is not None
        assert trial.fit.group.size == trial.fit.rows
