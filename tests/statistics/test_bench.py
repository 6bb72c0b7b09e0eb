"""The tests of a benchmark err as often as they say: equally good rules are told apart in one of twenty at most."""

import numpy as np
import pytest
from scipy import stats

from calibrate.bench.summary import resampled_p
from calibrate.folds import stratified_folds

ROWS, SEEDS, DRAWS = 120, 10, 2000


@pytest.mark.parametrize(("folds", "fitting"), [(2, 1), (5, 4)])
def test_overlapping_splits_do_not_make_two_equal_rules_differ(folds: int, fitting: int) -> None:
    """Differences per row are noise around zero; each split sees its scoring rows. The plain t-test is fooled, which
    shows that the correction is needed.
    """
    rng = np.random.default_rng(0)
    labels = np.zeros(ROWS, dtype=np.int64)
    scored = []
    for seed in range(SEEDS):
        assigned = stratified_folds(labels, folds, np.random.default_rng(seed))
        scored += [(assigned - split) % folds >= fitting for split in range(folds)]
    differences = rng.normal(size=(DRAWS, ROWS))
    means = np.stack([differences[:, rows].mean(axis=1) for rows in scored], axis=1)
    ratio = (folds - fitting) / fitting
    found = np.mean([resampled_p(row, ratio, SEEDS * (folds - 1)) < 0.05 for row in means])
    fooled = np.mean(stats.ttest_1samp(means, 0, axis=1).pvalue < 0.05)
    assert found < 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)
    assert fooled > 0.3
