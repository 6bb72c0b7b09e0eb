"""The share of new samples that a fit says will break a bound is the share that does, where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from calibrate.cache import feature_cache
from calibrate.cautions import FEW_BROKEN, share_broken
from calibrate.fit import fit
from calibrate.objective import parse_constraint

CLASSES = ("clear", "fraud")
FITS = 100


@pytest.mark.parametrize(
    ("metric", "bound", "separation", "binds"),
    [
        ("precision", "recall >= 0.8", 1.5, True),
        ("recall", "fpr <= 0.1", 1.5, True),
        ("f1", "recall >= 0.6", 2.0, False),
        ("f1", "recall >= 0.3", 2.0, False),
    ],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_the_share_is_that_of_new_samples(
    metric: str, bound: str, separation: float, binds: bool, held_out: bool
) -> None:
    """Two normal classes of 100 and 300: the rate at each fitted cut is known, so how often a new sample breaks the
    bound is a binomial tail. On average over the fits the stated share is that, to 6 of 100.
    """
    rng = np.random.default_rng(0)
    constraint = parse_constraint(bound, CLASSES)
    stated, true = [], []
    for _ in range(FITS):
        labels = np.repeat([0, 1], [300, 100])
        first, second = (rng.normal(separation * labels, 1.0) for _ in range(2))
        other = feature_cache(logits=second, labels=labels, classes=CLASSES)
        result = fit(
            logits=first, labels=labels, classes=CLASSES, metric=metric, constraints=bound, search="exact",
            evidence=other if held_out else True,
        )  # fmt: skip
        share = share_broken(constraint, result.evidence[constraint.metric.name])
        assert share is not None
        assert any("new samples" in text for text in result.warnings) == (share > FEW_BROKEN)
        stated.append(share)
        cut = float(-result.point.bias[1])
        if "recall" in bound:
            rows, rate = 100, stats.norm.sf(cut, separation)
            true.append(stats.binom.cdf(np.ceil(constraint.bound * rows - 1e-9) - 1, rows, rate))
        else:
            rows, rate = 300, stats.norm.sf(cut)
            true.append(stats.binom.sf(np.floor(constraint.bound * rows + 1e-9), rows, rate))
    assert np.mean(stated) == pytest.approx(np.mean(true), abs=0.06)
    assert (np.mean(true) > 0.3) == binds
