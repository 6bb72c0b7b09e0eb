"""95 % means 95 %: intervals on held-out rows cover the truth as often as they say."""

import numpy as np
from scipy.stats import norm

from calibrate import OperatingPoint, fit
from calibrate.evidence import held_out
from calibrate.metrics import standard_metrics

PREVALENCE, SHIFT, CUT, ROWS = 0.2, 1.5, 0.5, 400


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Margins from two normals, with as many positives as the prevalence says."""
    labels = np.repeat([0, 1], [round(n * (1 - PREVALENCE)), round(n * PREVALENCE)])
    return rng.normal(labels * SHIFT), labels


def test_held_out_intervals_cover_the_truth() -> None:
    """1,000 draws of 400 rows: exact intervals at least 95 %, bootstrapped ones at least 92 %."""
    rng = np.random.default_rng(0)
    recall, fpr = norm.sf(CUT - SHIFT), norm.sf(CUT)
    precision = PREVALENCE * recall / (PREVALENCE * recall + (1 - PREVALENCE) * fpr)
    truth = {
        "recall": recall,
        "specificity": 1 - fpr,
        "precision": precision,
        "g_mean": np.sqrt(recall * (1 - fpr)),
        "f1": 2 * precision * recall / (precision + recall),
        "balanced_accuracy": (recall + 1 - fpr) / 2,
    }
    point = OperatingPoint(("0", "1"), np.ones(2), np.array([0.0, -CUT]))
    metrics = [metric for metric in standard_metrics(point.classes) if metric.name in truth]
    covered = dict.fromkeys(truth, 0)
    draws = 1000
    for _ in range(draws):
        margins, labels = draw(rng, ROWS)
        logits = np.stack([margins * 0, margins], axis=1)
        for name, interval in held_out(point, logits, labels, metrics, rng).point.items():
            covered[name] += interval.low <= truth[name] <= interval.high
    for name in ("recall", "specificity", "precision"):
        assert covered[name] >= 0.95 * draws - 2 * np.sqrt(draws * 0.05 * 0.95), (name, covered[name])
    for name in ("g_mean", "f1", "balanced_accuracy"):
        assert covered[name] >= 0.92 * draws, (name, covered[name])


def test_cross_fitted_f1_is_not_biased_upwards() -> None:
    """The mean of the cross-fitted value is at most the mean true value of the fitted points, within noise."""
    rng = np.random.default_rng(1)
    claimed, true = [], []
    for _ in range(200):
        margins, labels = draw(rng, 150)
        result = fit(logits=margins, labels=labels, metric="f1", rng=rng)
        claimed.append(result.evidence["f1"].value)
        cut = -(result.point.bias[1] - result.point.bias[0])
        tp, fp = PREVALENCE * norm.sf(cut - SHIFT), (1 - PREVALENCE) * norm.sf(cut)
        true.append(2 * tp / (tp + fp + PREVALENCE))
    assert np.mean(claimed) <= np.mean(true) + 2 * np.std(claimed) / np.sqrt(len(claimed))
