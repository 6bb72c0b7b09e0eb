"""A curve is every cut, and thinning loses none of its corners."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from sklearn.metrics import precision_recall_curve, roc_curve

from calibrate import Curve, curve, feature_cache
from calibrate.cache import FeatureCache
from calibrate.errors import UnknownClass, WrongShape
from tests.problems import MULTICLASS
from tests.reference import binary_metric


def rows(n: int = 3000, seed: int = 0, digits: int | None = 2) -> FeatureCache:
    """Two overlapping normals, with ties unless `digits` is None."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.1).astype(int)
    margins = rng.normal(size=n) + 1.5 * labels
    return feature_cache(logits=margins if digits is None else np.round(margins, digits), labels=labels)


def test_every_cut_is_there_with_scikit_learns_counts() -> None:
    """From no alert to all; ties move together; each cut decides as its counts say."""
    cache = rows()
    found = curve(cache)
    margins = cache.logits[:, 1]
    fpr, tpr, thresholds = roc_curve(cache.labels, margins, drop_intermediate=False)
    assert found.cuts == thresholds.size
    assert np.allclose(found.tp / found.tp[-1], tpr)
    assert np.allclose(found.fp / found.fp[-1], fpr)
    precision, recall, _ = precision_recall_curve(cache.labels, margins)
    assert np.allclose(found.metrics["precision"][1:], precision[:-1][::-1])
    assert np.allclose(found.metrics["recall"][1:], recall[:-1][::-1])
    assert math.isnan(found.metrics["precision"][0])
    for i in range(0, found.cuts, 50):
        assert (margins > found.margin[i]).sum() == found.tp[i] + found.fp[i]
        cells = (int(found.tp[i]), int(found.fp[i]), int(found.fn[i]), int(found.tn[i]))
        assert math.isclose(found.metrics["f1"][i], binary_metric("f1", *cells))
    assert np.array_equal(np.argsort(-found.threshold, kind="stable"), np.arange(found.cuts))


def test_the_other_class_may_be_positive_and_rows_may_have_weights() -> None:
    """Weights of two are rows twice, and own expressions are columns too."""
    cache = rows(300)
    times = np.random.default_rng(1).integers(1, 4, 300)
    weighted = feature_cache(logits=cache.logits, labels=cache.labels, sample_weight=times)
    repeated = feature_cache(logits=np.repeat(cache.logits, times, axis=0), labels=np.repeat(cache.labels, times))
    one, other = (curve(each, ["f1", "tp - 2*fp"], positive="0") for each in (weighted, repeated))
    for name in ("margin", "tp", "fp", "fn", "tn"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert np.array_equal(one.metrics["tp - 2*fp"], one.tp - 2 * one.fp)


def near(kept: Curve, whole: Curve) -> float:
    """How far the loneliest cut is from a kept one, in shares of the positives and of the negatives."""
    place = np.searchsorted(kept.tp + kept.fp, whole.tp + whole.fp)
    below, above = np.maximum(place - 1, 0), np.minimum(place, kept.cuts - 1)
    off = [
        np.maximum(np.abs(kept.tp[p] - whole.tp) / whole.tp[-1], np.abs(kept.fp[p] - whole.fp) / whole.fp[-1])
        for p in (below, above)
    ]
    return float(np.minimum(*off).max())


@pytest.mark.parametrize("points", [10, 50, 400])
def test_a_thinned_curve_keeps_its_corners(points: int) -> None:
    """Ends, hull, the best cut of each metric, and no dropped cut is far from a kept one."""
    whole = curve(rows(20_000, digits=None))
    kept = whole.thinned(points)
    hull = ConvexHull(np.stack([np.append(whole.fp / whole.fp[-1], 1), np.append(whole.tp / whole.tp[-1], 0)], axis=1))
    corners = {float(whole.margin[i]) for i in hull.vertices if i < whole.cuts}
    assert corners <= set(kept.margin.tolist())
    for name, index in whole.best.items():
        assert kept.metrics[name][kept.best[name]] == whole.metrics[name][index]
    assert near(kept, whole) <= 4 / points
    assert kept.cuts <= points + 2 + len(corners) + len(whole.best)
    assert whole.thinned(whole.cuts) is whole


def test_a_curve_is_written_as_csv(tmp_path: Path) -> None:
    """Every number reads back exactly; undefined is empty."""
    found = curve(rows(50), ["precision", "f1"])
    found.write(tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["margin"]) for row in read] == found.margin.tolist()
    assert read[0]["precision"] == ""
    assert list(read[0]) == ["margin", "threshold", "tp", "fp", "fn", "tn", "precision", "f1"]


def test_what_has_no_curve_is_refused() -> None:
    """More than two classes, and thinning to nothing."""
    problem = MULTICLASS[0]
    with pytest.raises(UnknownClass, match="two classes, this cache has 3"):
        curve(feature_cache(logits=problem.logits, labels=problem.labels))
    with pytest.raises(WrongShape, match="10 points or more"):
        curve(rows(50)).thinned(3)
