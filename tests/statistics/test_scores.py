"""Intervals around what a model is worth before any point: they cover the truth, and agree with the field's own."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from calibrate.scores import measure_scores

DRAWS = 300


def two(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """One logit a row as two columns."""
    return np.stack([margins * 0, margins], axis=1)


@pytest.mark.parametrize(
    ("positives", "negatives", "shift"),
    [(15, 100, 1.5), (30, 200, 1.5), (30, 200, 3.3), (190, 400, 2.5)],
    ids=["15 positives", "30", "30, AUC 0.99", "190"],
)
def test_intervals_cover_the_truth(positives: int, negatives: int, shift: float) -> None:
    """ROC AUC and average precision at least 92 %, within noise, also where nothing was ranked wrongly."""
    rng = np.random.default_rng(1)
    grid = np.linspace(-8, 14, 200_001)
    hits, alarms = positives * norm.sf(grid - shift), negatives * norm.sf(grid)
    precision = np.divide(hits, hits + alarms, out=np.ones_like(hits), where=hits + alarms > 0)
    truth = {
        "roc_auc": norm.cdf(shift / np.sqrt(2)),
        "average_precision": np.trapezoid(norm.pdf(grid - shift) * precision, grid),
        "log_loss": sum(
            n * np.trapezoid(norm.pdf(grid - at) * np.logaddexp(0, sign * grid), grid)
            for n, at, sign in ((positives, shift, -1), (negatives, 0.0, 1))
        )
        / (positives + negatives),
    }
    labels = np.repeat([0, 1], [negatives, positives])
    covered = dict.fromkeys(truth, 0)
    for _ in range(DRAWS):
        found = measure_scores(two(rng.normal(labels * shift)), labels, rng=rng)
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    for name, times in covered.items():
        assert times >= 0.92 * DRAWS - 2 * np.sqrt(DRAWS * 0.08 * 0.92), (name, times)


def delong(margins: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """DeLong's standard error of the ROC AUC, pair by pair."""
    x, y = margins[labels == 1], margins[labels == 0]
    wins = (x[:, np.newaxis] > y) + 0.5 * (x[:, np.newaxis] == y)
    return float(np.sqrt(wins.mean(axis=1).var(ddof=1) / x.size + wins.mean(axis=0).var(ddof=1) / y.size))


def test_the_auc_spreads_as_delong_says_and_resampled_rows_do() -> None:
    """Standard errors within a tenth; the average precision and the losses against rows drawn again, with weights."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [900, 150])
    margins = np.round(rng.normal(labels * 1.3), 1)
    found = measure_scores(two(margins), labels)
    width = (found["roc_auc"].high - found["roc_auc"].low) / (2 * norm.ppf(0.975))
    assert width == pytest.approx(delong(margins, labels), rel=0.1)
    weights = rng.gamma(2, 1, labels.size)
    weighted = measure_scores(two(margins), labels, None, weights)
    drawn = []
    for _ in range(300):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)])
        some = measure_scores(two(margins[rows]), labels[rows], None, weights[rows])
        drawn.append([interval.value for interval in some.values()])
    for interval, spread in zip(weighted.values(), np.std(drawn, axis=0), strict=True):
        assert (interval.high - interval.low) / (2 * norm.ppf(0.975)) == pytest.approx(spread, rel=0.25)


def test_macro_means_spread_as_resampled_rows_do() -> None:
    """Three classes, of which each row is in every one-against-the-rest."""
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [200, 100, 60])
    logits = rng.normal(size=(360, 3)) + 1.2 * np.eye(3)[labels]
    found = measure_scores(logits, labels)
    drawn = []
    for _ in range(200):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(3)])
        drawn.append([interval.value for interval in measure_scores(logits[rows], labels[rows]).values()])
    for interval, spread in zip(found.values(), np.std(drawn, axis=0), strict=True):
        assert interval.low <= interval.value <= interval.high
        assert (interval.high - interval.low) / (2 * norm.ppf(0.975)) == pytest.approx(spread, rel=0.25)
