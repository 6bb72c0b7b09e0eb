"""95 % means 95 %: intervals on held-out rows cover the truth as often as they say."""

import numpy as np
import pytest
from scipy.stats import norm

from calibrate import OperatingPoint, fit
from calibrate.ascent import Sample
from calibrate.evidence import held_out
from calibrate.naming import standard_metrics

PREVALENCE, SHIFT = 0.2, 1.5


def draw(rng: np.random.Generator, n: int, shift: float = SHIFT) -> tuple[np.ndarray, np.ndarray]:
    """Margins from two normals, with as many positives as the prevalence says."""
    labels = np.repeat([0, 1], [round(n * (1 - PREVALENCE)), round(n * PREVALENCE)])
    return rng.normal(labels * shift), labels


@pytest.mark.parametrize(
    ("rows", "shift", "cut"),
    [(400, 1.5, 0.5), (190, 3.0, 0.7), (190, 4.0, 1.9), (50, 3.0, 1.0)],
    ids=["80 positives", "38, recall 0.99", "38, recall 0.98 and few alarms", "10, recall 0.98"],
)
def test_held_out_intervals_cover_the_truth(rows: int, shift: float, cut: float) -> None:
    """Exact intervals of shares at least 95 %, others at least 92 %, within noise, also where nothing was missed."""
    rng = np.random.default_rng(0)
    recall, fpr = norm.sf(cut - shift), norm.sf(cut)
    precision = PREVALENCE * recall / (PREVALENCE * recall + (1 - PREVALENCE) * fpr)
    truth = {
        "recall": recall,
        "specificity": 1 - fpr,
        "precision": precision,
        "g_mean": np.sqrt(recall * (1 - fpr)),
        "f1": 2 * precision * recall / (precision + recall),
        "balanced_accuracy": (recall + 1 - fpr) / 2,
    }
    point = OperatingPoint(("0", "1"), np.ones(2), np.array([0.0, -cut]))
    metrics = [metric for metric in standard_metrics(point.classes) if metric.name in truth]
    covered = dict.fromkeys(truth, 0)
    draws = 300
    for _ in range(draws):
        margins, labels = draw(rng, rows, shift)
        logits = np.stack([margins * 0, margins], axis=1)
        for name, interval in held_out(point, Sample(logits, labels), metrics, rng=rng).point.items():
            covered[name] += interval.low <= truth[name] <= interval.high
    for name in ("recall", "specificity", "precision"):
        assert covered[name] >= 0.95 * draws - 2 * np.sqrt(draws * 0.05 * 0.95), (name, covered[name])
    for name in ("g_mean", "f1", "balanced_accuracy"):
        assert covered[name] >= 0.92 * draws - 2 * np.sqrt(draws * 0.08 * 0.92), (name, covered[name])


def test_cross_fitted_f1_is_not_biased_upwards() -> None:
    """The mean of the cross-fitted value is at most the mean true value of the fitted points, within noise."""
    rng = np.random.default_rng(1)
    claimed, true = [], []
    for _ in range(80):
        margins, labels = draw(rng, 150)
        result = fit(logits=margins, labels=labels, metric="f1", rng=rng)
        claimed.append(result.evidence["f1"].value)
        cut = -(result.point.bias[1] - result.point.bias[0])
        tp, fp = PREVALENCE * norm.sf(cut - SHIFT), (1 - PREVALENCE) * norm.sf(cut)
        true.append(2 * tp / (tp + fp + PREVALENCE))
    assert np.mean(claimed) <= np.mean(true) + 2 * np.std(claimed) / np.sqrt(len(claimed))
