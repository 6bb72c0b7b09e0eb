"""How true probabilities are: against scikit-learn, brute force and the figures of a perfectly calibrated model."""

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from calibrate import OperatingPoint, feature_cache
from calibrate.cache import FeatureCache
from calibrate.errors import BadPoint, UnknownClass
from calibrate.logits import softmax, to_columns
from calibrate.maps import fit_map
from calibrate.reliability import calibration_quality, equal_weight_bins

RNG = np.random.default_rng(0)
MARGINS = RNG.normal(-2, 2, 600)
LABELS = (RNG.random(600) < 1 / (1 + np.exp(-(0.6 * MARGINS + 0.5)))).astype(np.intp)
P = 1 / (1 + np.exp(-MARGINS))


def rows(**more: object) -> FeatureCache:
    """The rows as a cache of two classes."""
    return feature_cache(logits=MARGINS, labels=LABELS, classes=["clear", "fraud"], **more)  # type: ignore[arg-type]


def test_scores_and_skill_are_scikit_learns() -> None:
    """Log loss and Brier score, over those of the base rate; the parts of the Brier score add up to it."""
    found = calibration_quality(rows())
    base = np.full(600, LABELS.mean())
    assert found.log_loss == pytest.approx(sklearn_log_loss(LABELS, P))
    assert found.log_loss_skill == pytest.approx(1 - sklearn_log_loss(LABELS, P) / sklearn_log_loss(LABELS, base))
    assert found.brier == pytest.approx(brier_score_loss(LABELS, P))
    assert found.brier_skill == pytest.approx(1 - brier_score_loss(LABELS, P) / brier_score_loss(LABELS, base))
    fraud = found.classes["fraud"]
    parts = fraud.reliability - fraud.resolution + fraud.uncertainty + fraud.within
    assert parts == pytest.approx(fraud.brier)
    assert fraud.brier == pytest.approx(found.brier)


def test_bins_errors_and_parts_are_those_of_the_formulas() -> None:
    """Fifteen bins of forty rows: scikit-learn's curve, and each sum written down."""
    fraud = calibration_quality(rows()).classes["fraud"]
    observed, predicted = calibration_curve(LABELS, P, n_bins=15, strategy="quantile")
    assert np.allclose([each.observed for each in fraud.bins], observed)
    assert np.allclose([each.predicted for each in fraud.bins], predicted)
    assert [each.rows for each in fraud.bins] == [40] * 15
    assert all(each.low <= each.observed <= each.high for each in fraud.bins)
    off, bias = predicted - observed, observed * (1 - observed) / 39
    assert fraud.ece == pytest.approx(np.abs(off).mean())
    assert fraud.calibration_error == pytest.approx(np.sqrt(max(0, (off**2 - bias).mean())))
    base = LABELS.mean()
    assert fraud.reliability == pytest.approx((off**2 - bias).mean())
    assert fraud.resolution == pytest.approx(((observed - base) ** 2 - bias).mean() + base * (1 - base) / 599)
    assert fraud.uncertainty == pytest.approx(base * (1 - base) * 600 / 599)


def test_slope_and_intercept_are_the_logistic_regressions() -> None:
    """Without a penalty; and the intercept with the slope held makes the mean probability the base rate."""
    fraud = calibration_quality(rows()).classes["fraud"]
    line = LogisticRegression(C=np.inf, tol=1e-10).fit(MARGINS[:, None], LABELS)
    assert fraud.slope == pytest.approx(line.coef_[0, 0], rel=1e-5)
    assert fraud.intercept == pytest.approx(line.intercept_[0], rel=1e-4)
    assert (1 / (1 + np.exp(-(MARGINS + fraud.intercept_at_slope_1)))).mean() == pytest.approx(LABELS.mean())
    mapped = calibration_quality(rows(), fit_map("bias_corrected_temperature", to_columns(MARGINS), LABELS))
    assert mapped.classes["fraud"].slope == pytest.approx(1, abs=0.02)
    apart = feature_cache(logits=[-2.0, -1.0, 1.0, 2.0], labels=[0, 0, 1, 1], classes=["clear", "fraud"])
    assert np.isnan(calibration_quality(apart).classes["fraud"].slope)
    assert json.dumps(calibration_quality(apart).to_dict(), allow_nan=False)


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_never_split_and_bins_hold_their_share(seed: int) -> None:
    """By brute force over the sorted values: a bin ends only where the next probability is another."""
    rng = np.random.default_rng(seed)
    p, w = np.sort(rng.integers(0, 12, 200) / 12), rng.uniform(0.1, 2, 200)
    starts = equal_weight_bins(p, w, 6)
    assert starts[0] == 0
    assert all(p[start - 1] < p[start] for start in starts[1:])
    largest_tie = max(w[p == value].sum() for value in np.unique(p))
    for part in np.split(w, starts[1:]):
        assert part.sum() <= w.sum() / 6 + largest_tie
        assert part.size >= 2


def test_the_other_class_is_the_mirror_and_a_weight_is_a_row_repeated() -> None:
    """Two classes: what is true of one is of the other. Integer weights: the same bins and errors as repeated rows."""
    quality = calibration_quality(rows(), positive="clear").classes["clear"]
    fraud = calibration_quality(rows()).classes["fraud"]
    assert quality.slope == pytest.approx(fraud.slope, rel=1e-5)
    assert quality.intercept == pytest.approx(-fraud.intercept, rel=1e-4)
    assert quality.base_rate == pytest.approx(1 - fraud.base_rate)
    times = RNG.integers(0, 3, 600)
    weighted = calibration_quality(rows(sample_weight=times.astype(float)), bins=5).classes["fraud"]
    repeated = feature_cache(logits=np.repeat(MARGINS, times), labels=np.repeat(LABELS, times), classes=["no", "yes"])
    again = calibration_quality(repeated, bins=5).classes["yes"]
    for name in ("brier", "ece", "slope", "intercept_at_slope_1", "within"):
        assert getattr(weighted, name) == pytest.approx(getattr(again, name), rel=1e-5), name


def test_the_null_level_of_a_perfectly_calibrated_model() -> None:
    """1 % prevalence, normals two apart, 1,000 rows: ECE 0.0054 and 0.0027 debiased, against a base rate of 0.01.

    The null level is what labels drawn from the probabilities themselves give, in the mean over draws.
    """
    rng = np.random.default_rng(1)
    scores = rng.normal(2.0 * (rng.random(1000) < 0.01))
    margins = np.log(0.01 / 0.99) + 2 * scores - 2
    p = 1 / (1 + np.exp(-margins))
    found = []
    for _ in range(15):
        labels = (rng.random(1000) < p).astype(int)
        cache = feature_cache(logits=margins, labels=labels, classes=["clear", "fraud"])
        fraud = calibration_quality(cache).classes["fraud"]
        found.append([fraud.ece, fraud.null_ece, fraud.calibration_error, fraud.null_calibration_error])
        assert fraud.null_ece_95 > fraud.null_ece
    ece, null_ece, error, null_error = np.mean(found, axis=0)
    assert ece == pytest.approx(null_ece, rel=0.15)
    assert null_ece == pytest.approx(0.0054, rel=0.1)
    assert error == pytest.approx(null_error, rel=0.5)
    assert null_error == pytest.approx(0.0027, abs=0.001)


def test_near_the_cut() -> None:
    """The tenth of the rows whose margins are nearest to a point's cut; the same rows behind a map."""
    point = OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0.0, 1.0]))
    near = calibration_quality(rows(), point=point).classes["fraud"].near
    nearest = np.argsort(np.abs(MARGINS + 1))[:60]
    assert near is not None
    assert near.rows == 60
    assert near.predicted == pytest.approx(P[nearest].mean())
    assert near.observed == pytest.approx(LABELS[nearest].mean())
    by = fit_map("temperature", to_columns(MARGINS), LABELS)
    behind = calibration_quality(rows(), by, point=point).classes["fraud"].near
    assert behind is not None
    assert behind.observed == pytest.approx(near.observed)


def test_more_classes_are_each_taken_against_the_rest() -> None:
    """Overall scores are of all classes; a class's Brier score is that of its column."""
    z = RNG.normal(size=(300, 3)) * 2
    labels = np.array([RNG.choice(3, p=row) for row in softmax(z)])
    cache = feature_cache(logits=z, labels=labels, classes=["a", "b", "c"])
    found = calibration_quality(cache)
    assert found.log_loss == pytest.approx(sklearn_log_loss(labels, softmax(z)))
    assert list(found.classes) == ["a", "b", "c"]
    for i, name in enumerate(cache.classes):
        assert found.classes[name].brier == pytest.approx(brier_score_loss(labels == i, softmax(z)[:, i]))
    assert sum(each.brier for each in found.classes.values()) == pytest.approx(found.brier)
    assert list(calibration_quality(cache, positive="b").classes) == ["b"]


def test_what_does_not_fit_is_named() -> None:
    """A class that is not there, a point of other classes."""
    with pytest.raises(UnknownClass, match="got 'frod'"):
        calibration_quality(rows(), positive="frod")
    with pytest.raises(BadPoint, match="clear, fraud"):
        calibration_quality(rows(), point=OperatingPoint.argmax(("a", "b")))
