"""A curve that went through JSON tells the same at another prevalence as the curve itself."""

import json
from typing import Any

import numpy as np
import pytest

from calibrate import Curve, curve, feature_cache
from calibrate.stored_curve import curve_from_dict, curve_to_dict, stored_at_prevalence

RNG = np.random.default_rng(7)
LABELS = np.concatenate([np.zeros(150, int), np.ones(40, int)])
LOGITS = RNG.normal(size=190) + LABELS
CLASSES = ["ill", "well"]
METRICS = ("f1", "recall", "mcc", "cost(fp=1, fn=8)", "2*tp/(2*tp + fp + 3*fn)", "mean_cost", "savings")


def table(positive: str | None, **columns: Any) -> Curve:
    """A curve with bands, costs and amounts."""
    cache = feature_cache(
        logits=LOGITS, labels=LABELS, classes=CLASSES, cost_fp=np.full(190, 2.0), cost_fn=1 + RNG.random(190), **columns
    )
    costs = np.array([[0.0, 9.0], [1.0, 0.0]])
    return curve(cache, METRICS, positive, confidence=0.9, cost_matrix=costs).thinned(60)


@pytest.mark.parametrize("positive", [None, "ill"])
@pytest.mark.parametrize("columns", [{}, {"sample_weight": 0.5 + RNG.random(190)}], ids=["plain", "weighted"])
def test_a_stored_curve_moves_as_the_curve_does(positive: str | None, columns: dict[str, Any]) -> None:
    """Metrics, bands and best cuts, to the last bit."""
    kept = table(positive, **columns)
    stored = json.loads(json.dumps({**curve_to_dict(kept, CLASSES), "rows": 190}))
    moved, expected = stored_at_prevalence(stored, CLASSES, 0.01), kept.at_prevalence(0.01)
    assert moved == {**curve_to_dict(expected, CLASSES), "rows": 190}
    assert moved["columns"]["recall low"] == expected.bands["recall"][0].tolist()
    assert (moved["prevalence"], moved["confidence"]) == (0.01, 0.9)
    cut = 30  # Bayes' rule at one cut
    tpr, fpr = kept.tp[cut] / kept.tp[-1], kept.fp[cut] / kept.fp[-1]
    cost = (0.99 * fpr * 1 + 0.01 * (1 - tpr) * 8) / 1
    assert moved["columns"]["cost(fp=1, fn=8)"][cut] == pytest.approx(cost, rel=1e-12)


def test_an_earlier_release_s_curve_has_no_bands() -> None:
    """It did not write how many rows its weights count for, nor the costs."""
    stored = {**curve_to_dict(table(None), CLASSES), "rows": 190}
    del stored["worth"], stored["cost_matrix"]
    moved = stored_at_prevalence(stored, CLASSES, 0.01)
    assert moved["columns"].keys() == {"margin", "threshold", "tp", "fp", "fn", "tn", *METRICS} - {"mean_cost"}
    assert moved["confidence"] == 0.9
    assert curve_from_dict(stored, CLASSES).bands == {}
