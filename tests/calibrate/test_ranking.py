"""The threshold-free measures against scikit-learn, against their definitions, and at the ends of the scale."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn import metrics as sklearn

from calibrate.errors import NotFinite
from calibrate.logits import binary_margins, softmax
from calibrate.ranking import average_precision, brier, log_loss, roc_auc, threshold_free
from tests.problems import BINARY, MULTICLASS, PROBLEMS, Problem

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def ranked_rows(draw: st.DrawFn) -> Rows:
    """Margins with many ties or few, in either float type, sides that may be empty, and weights that may be 0."""
    n = draw(st.integers(1, 30))
    margin = draw(st.sampled_from([st.integers(-3, 3).map(float), st.floats(-1, 1, width=32)]))
    unit = draw(st.sampled_from([1e-38, 1.0, 1e30]))
    margins = np.array(draw(st.lists(margin, min_size=n, max_size=n))) * unit
    is_positive = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    weight = draw(st.sampled_from([st.integers(0, 3).map(float), st.just(0.0) | st.floats(1e-3, 1e6)]))
    weights = np.array(draw(st.lists(weight, min_size=n, max_size=n)))
    return margins.astype(draw(st.sampled_from([np.float32, np.float64]))), np.array(is_positive), weights


@st.composite
def classified_rows(draw: st.DrawFn) -> Rows:
    """Logits of 2 to 5 classes with every class present, labels, and weights above 0."""
    k, n = draw(st.integers(2, 5)), draw(st.integers(10, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    logits = rng.normal(size=(n, k)) * draw(st.sampled_from([0.1, 1.0, 4.0]))
    labels = rng.permutation(np.arange(n) % k)
    return logits.astype(draw(st.sampled_from([np.float32, np.float64]))), labels, rng.uniform(0.1, 10, n)


def auc_by_pairs(margins: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> float:
    """Every pair of a positive and a negative, one by one."""
    won = total = 0.0
    for i in np.flatnonzero(is_positive):
        for j in np.flatnonzero(~is_positive):
            pair = float(weights[i]) * float(weights[j])
            total += pair
            won += pair * (1.0 if margins[i] > margins[j] else 0.5 if margins[i] == margins[j] else 0.0)
    return won / total if total else math.nan


def precision_by_cuts(margins: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> float:
    """The step-wise sum, cut by cut downwards."""
    total, value, before = float(weights[is_positive].sum()), 0.0, 0.0
    for cut in np.unique(margins)[::-1]:
        alerts = margins >= cut
        hits = float(weights[alerts & is_positive].sum())
        if hits > before:
            value += (hits - before) / total * hits / float(weights[alerts].sum())
        before = hits
    return value if total else math.nan


def same(ours: object, theirs: object) -> bool:
    """Equal to rounding, or both undefined."""
    return bool(np.allclose(np.array(ours), np.array(theirs), rtol=1e-9, atol=1e-12, equal_nan=True))


@settings(max_examples=200, deadline=None)
@given(ranked_rows())
def test_ranks_equal_their_definitions(rows: Rows) -> None:
    """With ties, an empty side, no weight at all; and never outside 0 to 1 by rounding."""
    margins, is_positive, weights = rows
    ones = np.ones(margins.size)
    for ours, theirs in ((roc_auc, auc_by_pairs), (average_precision, precision_by_cuts)):
        assert same(ours(margins, is_positive), theirs(margins, is_positive, ones))
        assert same(ours(margins, is_positive, weights), theirs(margins, is_positive, weights))
        assert not ours(margins, is_positive, weights) < 0
        assert not ours(margins, is_positive, weights) > 1
    unweighted = roc_auc(margins, is_positive)
    assert unweighted == auc_by_pairs(margins, is_positive, ones) or math.isnan(unweighted)


@settings(max_examples=200, deadline=None)
@given(ranked_rows())
def test_ranks_equal_scikit_learn(rows: Rows) -> None:
    """Where both sides are there; its precision is undefined over weights of 0, so those are left out."""
    margins, is_positive, weights = rows
    is_positive = np.concatenate([is_positive, [True, False]])
    margins, weights = np.concatenate([margins, margins[:1], margins[-1:]]), np.concatenate([weights, [1.0, 2.0]])
    assert same(roc_auc(margins, is_positive), sklearn.roc_auc_score(is_positive, margins))
    assert same(average_precision(margins, is_positive), sklearn.average_precision_score(is_positive, margins))
    kept = weights > 0
    m, y, w = margins[kept], is_positive[kept], weights[kept]
    assert same(roc_auc(margins, is_positive, weights), sklearn.roc_auc_score(y, m, sample_weight=w))
    expected = sklearn.average_precision_score(y, m, sample_weight=w)
    assert same(average_precision(margins, is_positive, weights), expected)


@settings(max_examples=200, deadline=None)
@given(ranked_rows())
def test_ranks_see_order_and_weight_alone(rows: Rows) -> None:
    """A rising transform changes nothing, a weight of 2 is the row twice, of 0 no row, and a mirror swaps the sides."""
    margins, is_positive, weights = rows
    whole = np.floor(weights) % 4
    repeated = np.repeat(np.arange(margins.size), whole.astype(int))
    ranks = np.unique(margins, return_inverse=True)[1].astype(np.float32)
    for measure in (roc_auc, average_precision):
        value = measure(margins, is_positive, weights)
        assert same(measure(np.exp(ranks / 8), is_positive, weights), value)
        assert same(measure(margins, is_positive, weights * 4), value)
        assert same(measure(margins, is_positive, whole), measure(margins[repeated], is_positive[repeated]))
        kept = weights > 0
        assert same(measure(margins[kept], is_positive[kept], weights[kept]), value)
    assert same(roc_auc(-margins, ~is_positive, weights), roc_auc(margins, is_positive, weights))
    assert same(roc_auc(-margins, is_positive), 1 - roc_auc(margins, is_positive))


def test_costs_as_weights_charge_each_lost_pair_its_product() -> None:
    """The one costly miss is lost to the one dear alarm: 6 * 5 of (6 + 1) * (5 + 1)."""
    margins, is_positive = np.array([0.0, 3.0, 1.0, -1.0]), np.array([True, True, False, False])
    assert roc_auc(margins, is_positive) == 0.75
    assert math.isclose(roc_auc(margins, is_positive, np.array([6.0, 1.0, 5.0, 1.0])), 1 - 30 / 42)


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1e160, 1e300])
def test_the_unit_of_the_weights_does_not_matter(unit: float) -> None:
    """Though the product of two of them is out of range."""
    margins, is_positive = np.array([0.0, 3.0, 1.0, -1.0]), np.array([True, True, False, False])
    for measure in (roc_auc, average_precision):
        assert same(measure(margins, is_positive, np.full(4, unit)), measure(margins, is_positive))


def test_float32_margins_are_not_parted_by_what_float32_cannot_hold() -> None:
    """Tied in float32, apart in float64."""
    margins, is_positive = np.array([1.0, 1.0 + 1e-9]), np.array([False, True])
    assert roc_auc(margins, is_positive) == 1.0
    assert roc_auc(margins.astype(np.float32), is_positive) == 0.5


def test_a_large_set_is_exact() -> None:
    """Counts of pairs far beyond 2^32, either side the smaller."""
    margins = np.arange(300_000, dtype=np.float32) // 3
    for share in (99_999, 200_001):
        is_positive = np.arange(300_000) >= 300_000 - share
        assert roc_auc(margins, is_positive) == 1.0
        assert roc_auc(margins, ~is_positive) == 0.0
        assert average_precision(margins, is_positive) == 1.0
    assert roc_auc(margins, np.arange(300_000) % 3 == 1) == 0.5


@settings(max_examples=100, deadline=None)
@given(classified_rows())
def test_losses_equal_scikit_learn(rows: Rows) -> None:
    """On the probabilities, in two classes and more, weighted or not."""
    logits, labels, weights = rows
    p = softmax(logits)
    for w in (None, weights):
        assert same(log_loss(logits, labels, w), sklearn.log_loss(labels, p, sample_weight=w))
        assert same(brier(logits, labels, w), sklearn.brier_score_loss(labels, p, sample_weight=w))
    counts = np.arange(labels.size) % 3
    repeated = np.repeat(np.arange(labels.size), counts)
    for loss in (log_loss, brier):
        assert same(loss(logits, labels, counts.astype(np.float64)), loss(logits[repeated], labels[repeated]))
        assert same(loss(logits.astype(np.float64) + 1, labels, weights), loss(logits, labels, weights))
        assert math.isnan(loss(logits, labels, np.zeros(labels.size)))


@settings(max_examples=50, deadline=None)
@given(classified_rows())
def test_the_summary_equals_scikit_learn_on_the_probabilities(rows: Rows) -> None:
    """Two classes either way round, one class against the rest, and the macro mean; float64 keeps the order of both."""
    logits, labels, weights = rows
    logits = logits.astype(np.float64)
    p, k = softmax(logits), logits.shape[1]
    one = np.eye(k, dtype=bool)[labels]
    for w in (None, weights):
        aucs = [sklearn.roc_auc_score(one[:, c], p[:, c], sample_weight=w) for c in range(k)]
        precisions = [sklearn.average_precision_score(one[:, c], p[:, c], sample_weight=w) for c in range(k)]
        for c in range(k):
            summary = threshold_free(logits, labels, c, w)
            assert same([summary["roc_auc"], summary["average_precision"]], [aucs[c], precisions[c]])
        summary = threshold_free(logits, labels, weights=w)
        macro = [np.mean(aucs), np.mean(precisions)] if k > 2 else [aucs[1], precisions[1]]
        assert same([summary["roc_auc"], summary["average_precision"]], macro)
        assert summary["log_loss"] == log_loss(logits, labels, w)
        assert summary["brier"] == brier(logits, labels, w)
    if k > 2:
        theirs = sklearn.roc_auc_score(labels, p, multi_class="ovr", average="macro")
        assert same(threshold_free(logits, labels)["roc_auc"], theirs)


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.logits.ndim == 2], ids=str)
def test_known_problems_are_ranked_by_log_odds(problem: Problem) -> None:
    """Each class by `z_c - logsumexp(others)` written out, rounded so that what ties in theory ties here."""
    logits, k = problem.logits.astype(np.float64), problem.logits.shape[1]
    aucs = []
    for c in range(k):
        odds = np.round(logits[:, c] - logsumexp(np.delete(logits, c, axis=1), axis=1), 10)
        aucs.append(sklearn.roc_auc_score(problem.labels == c, odds))
        assert same(threshold_free(problem.logits, problem.labels, c)["roc_auc"], aucs[c])
    if k > 2:
        assert same(threshold_free(problem.logits, problem.labels)["roc_auc"], np.mean(aucs))


@pytest.mark.parametrize("problem", [p for p in BINARY if p.logits.ndim == 1], ids=str)
def test_one_logit_is_ranked_in_its_own_type(problem: Problem) -> None:
    """Huge and tiny margins, the positive class either one."""
    logits = np.stack([np.zeros_like(problem.logits), problem.logits], axis=1)
    assert binary_margins(logits).dtype == np.float32
    for positive in (0, 1):
        expected = sklearn.roc_auc_score(problem.labels, problem.logits)
        assert same(threshold_free(logits, problem.labels, positive)["roc_auc"], expected)


def test_log_odds_rank_what_saturated_probabilities_tie() -> None:
    """Probabilities of exactly 1 and 0; the same logits in another order, or all shifted, do tie."""
    logits = np.array([[900.0, 0, 0], [800, 0, 0], [-800, 0, 0], [-900, 0, 0]])
    labels = np.array([0, 1, 0, 2])
    assert threshold_free(logits, labels, 0)["roc_auc"] == 0.75
    tied = np.array([[1.0, 3, 2, 5, 4, 0], [1, 0, 4, 3, 5, 2], [8, 9, 10, 7, 11, 12], [6, 11, 10, 9, 8, 7]])
    assert threshold_free(tied[:2], labels[:2], 0)["roc_auc"] == 0.5
    assert threshold_free(np.vstack([tied[:1] + 64, tied[:1]]), labels[:2], 0)["roc_auc"] == 0.5
    equal_tops = np.array([[2.0, 2, 1, 0], [2, 0, 1, 2]])
    assert threshold_free(equal_tops, labels[:2], 0)["roc_auc"] == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_have_finite_losses(dtype: type) -> None:
    """1e5 apart: a wrong row costs its lead, a right one nothing; a small loss is not rounded to 0."""
    for k in (2, 4):
        logits: np.ndarray = np.tile(np.eye(k)[1] * 1e5, (2, 1)).astype(dtype)
        assert log_loss(logits, np.array([1, 0])) == 5e4
        assert brier(logits, np.array([1, 0])) == (0.5 if k == 2 else 1.0)
        summary = threshold_free(logits * np.array([[1], [-1]]).astype(dtype), np.array([1, 0]), 1)
        assert summary == {"roc_auc": 1.0, "average_precision": 1.0, "log_loss": pytest.approx(np.log(k - 1) / 2)} | {
            "brier": pytest.approx(0.0 if k == 2 else ((2 / 3) ** 2 + 2 / 9) / 2)
        }
    sure: np.ndarray = np.array([[0.0, 50.0]]).astype(dtype)
    assert math.isclose(log_loss(sure, np.array([1])), math.exp(-50), rel_tol=1e-12)
    with pytest.raises(NotFinite, match="margin of row 0"):
        threshold_free(np.array([[-1.7e308, 1.7e308]]), np.array([1]))


def test_a_class_without_rows_leaves_the_ranks_undefined_and_the_losses_not() -> None:
    """Missing from the labels, or there with no weight."""
    logits, labels = MULTICLASS[0].logits, MULTICLASS[0].labels
    for summary in (
        threshold_free(logits, np.minimum(labels, 1)),
        threshold_free(logits, labels, weights=(labels < 2).astype(np.float64)),
    ):
        assert [name for name, value in summary.items() if math.isnan(value)] == ["roc_auc", "average_precision"]
    assert math.isfinite(threshold_free(logits, np.minimum(labels, 1), 0)["roc_auc"])
    assert math.isnan(roc_auc(np.array([1.0]), np.array([True])))
    assert average_precision(np.array([1.0]), np.array([True])) == 1.0


def test_chunks_of_rows_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of one row, of a few, of all."""
    problem = MULTICLASS[1]
    weights = np.linspace(0, 1, problem.labels.size)
    whole = threshold_free(problem.logits, problem.labels, weights=weights)
    for cells in (1, 35):
        monkeypatch.setattr("calibrate.ranking._CHUNK_CELLS", cells)
        parts = threshold_free(problem.logits, problem.labels, weights=weights)
        assert same(list(parts.values()), list(whole.values()))
