"""95 % means 95 %: a certified bound is broken by at most one fit in twenty, whatever the margins look like.

The truth is known: margins are normal, or the same rounded to halves, so that ties are everywhere. Where a whole range
of cuts is certified, its worst cut is judged.
"""

import numpy as np
import pytest
from scipy.stats import binom, norm

from calibrate import Infeasible, fit
from calibrate.methods.certified import candidate_cuts, first_to_fail, walk_order
from calibrate.objective import parse_constraint
from calibrate.promises import Promise, safe_range, smoothed_counts

DRAWS = 1000
SHIFT = 2.5
CLASSES = ["no", "yes"]


def promise(text: str) -> Promise:
    """A promise on two classes."""
    return Promise.of(parse_constraint(text, CLASSES), 2)


def at_most(broken: int, risk: float, draws: int = DRAWS) -> bool:
    """Whether so many failures are those of a risk, give or take three standard errors."""
    return bool(broken <= risk * draws + 3 * np.sqrt(draws * risk * (1 - risk)))


def at_or_above(margin: float, mean: float, ties: bool) -> float:
    """The true share of margins at this one and above."""
    return float(norm.sf((np.round(2 * margin) - 0.5) / 2 - mean if ties else margin - mean))


@pytest.mark.parametrize("ties", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize(("rows", "rate"), [(15, 0.8), (59, 0.95), (200, 0.9), (5000, 0.9)])
def test_certified_recall_is_kept(rows: int, rate: float, ties: bool) -> None:
    """Draws at the highest certified cut; without ties broken exactly as often as the binomial distribution says."""
    rng = np.random.default_rng(rows)
    one, labels = promise(f"recall >= {rate} @ 95%"), np.ones(rows, dtype=np.int64)
    broken = 0
    for _ in range(DRAWS):
        margins = rng.normal(SHIFT, size=rows)
        margins = np.round(2 * margins) / 2 if ties else margins
        _, high, _ = safe_range([one], margins, labels, None, 1)
        broken += at_or_above(high, SHIFT, ties) < rate
    assert at_most(broken, 0.05)
    if not ties:
        risk = float(binom.cdf(one.allowed(rows), rows, 1 - rate))
        assert abs(broken - risk * DRAWS) <= 3 * np.sqrt(DRAWS * risk * (1 - risk))


def test_a_measured_recall_is_broken_half_the_time() -> None:
    """What the promise is for: the cut at which 0.9 is just met on 200 positives."""
    margins = np.sort(np.random.default_rng(0).normal(SHIFT, size=(DRAWS, 200)), axis=1)
    assert 0.4 < (norm.sf(margins[:, 20] - SHIFT) < 0.9).mean() < 0.6


@pytest.mark.parametrize("ties", [False, True], ids=["continuous", "discrete"])
def test_certified_fpr_is_kept(ties: bool) -> None:
    """Draws at the lowest certified cut: alarms are the margins above it."""
    rng = np.random.default_rng(3)
    one, labels = promise("fpr <= 0.05 @ 90%"), np.zeros(400, dtype=np.int64)
    broken = 0
    for _ in range(DRAWS):
        margins = rng.normal(size=400)
        margins = np.round(2 * margins) / 2 if ties else margins
        low, _, _ = safe_range([one], margins, labels, None, 1)
        broken += at_or_above(low + 0.5, 0.0, True) > 0.05 if ties else norm.sf(low) > 0.05
    assert at_most(broken, 0.1)


def test_on_average_recall_is_kept_on_average_only() -> None:
    """The mean of the true recall is the bound, within noise; a good part of all draws lies below it."""
    one, labels = promise("recall >= 0.9 @ average"), np.ones(60, dtype=np.int64)
    rng, recalls = np.random.default_rng(4), []
    for _ in range(DRAWS):
        _, high, _ = safe_range([one], rng.normal(size=60), labels, None, 1)
        recalls.append(norm.sf(high))
    noise = 3 * np.std(recalls) / np.sqrt(DRAWS)
    assert 0.9 - noise <= np.mean(recalls) <= 0.9 + 1 / 61 + noise
    assert 0.3 < np.mean(np.array(recalls) < 0.9) < 0.6


def test_groups_count_as_one_and_must() -> None:
    """Sixty groups of five positives that are nearly alike: the promise is kept for groups, and so for rows; taken for
    300 rows, it would be broken three times as often as it says, and more.
    """
    rng, within, between = np.random.default_rng(5), 0.3, 1.0
    truth = rng.normal(0, between, (200_000, 1)) + rng.normal(0, within, (200_000, 5))
    worst, rows = np.sort(truth.min(axis=1)), np.sort(truth, axis=None)
    one, labels, groups = promise("recall >= 0.9 @ 95%"), np.ones(300, dtype=np.int64), np.repeat(np.arange(60), 5)
    broken = np.zeros(3, dtype=np.int64)
    for _ in range(DRAWS):
        margins = np.ravel(rng.normal(0, between, (60, 1)) + rng.normal(0, within, (60, 5)))
        _, kept, _ = safe_range([one], margins, labels, groups, 1)
        _, naive, _ = safe_range([one], margins, labels, None, 1)
        broken += [
            np.searchsorted(worst, kept) / worst.size > 0.1,
            np.searchsorted(rows, kept) / rows.size > 0.1,
            np.searchsorted(rows, naive) / rows.size > 0.1,
        ]
    assert at_most(int(broken[0]), 0.05)
    assert broken[1] <= broken[0]
    assert broken[2] > 3 * 0.05 * DRAWS


def walked(margins: np.ndarray, labels: np.ndarray, one: Promise) -> np.ndarray:
    """The cuts that a Learn-then-Test walk certifies: the first fifth of the rows is looked at."""
    looked = labels.size // 5
    cuts = candidate_cuts(margins[:looked])
    counts = smoothed_counts(margins[:looked], labels[:looked], cuts)
    order = walk_order([one], counts, (labels.size - looked) / looked)
    rest, truth = margins[looked:], labels[looked:]
    passed, _ = first_to_fail([one], ([one.count(truth, (rest > cuts[i]).astype(np.intp), None)] for i in order))
    return np.asarray(cuts[order[:passed]])


@pytest.mark.parametrize(
    ("rows", "draws", "least", "ties"),
    [(1000, DRAWS, 0.55, False), (1000, 500, 0.5, True), (5000, 200, 0.95, False)],
    ids=["1,000 rows", "1,000 rows, discrete", "5,000 rows"],
)
def test_certified_precision_is_kept_and_often_found(rows: int, draws: int, least: float, ties: bool) -> None:
    """Precision 0.8 at a prevalence of 0.1: a draw fails where any certified cut is below it, and most draws of this
    size certify something.
    """
    rng, one = np.random.default_rng(6), promise("precision >= 0.8 @ 95%")
    broken = found = 0
    for _ in range(draws):
        labels = (rng.random(rows) < 0.1).astype(np.int64)
        margins = rng.normal(labels * SHIFT)
        margins = np.round(2 * margins) / 2 if ties else margins
        cuts = walked(margins, labels, one)
        edges = np.floor(2 * cuts) / 2 + 0.25 if ties else cuts  # rounded margins above a cut were above this
        hits, alarms = 0.1 * norm.sf(edges - SHIFT), 0.9 * norm.sf(edges)
        found += cuts.size > 0
        broken += bool((hits < 0.8 * (hits + alarms)).any())
    assert at_most(broken, 0.05, draws)
    assert found >= least * draws


def test_a_whole_fit_keeps_recall_and_precision_at_once() -> None:
    """100 fits for F1: each promise with its own confidence, at the point that was chosen on all rows."""
    rng, draws = np.random.default_rng(7), 100
    broken, found = np.zeros(2), 0
    for _ in range(draws):
        labels = (rng.random(600) < 0.3).astype(np.int64)
        try:
            result = fit(
                logits=rng.normal(labels * SHIFT),
                labels=labels,
                metric="f1",
                constraints=["recall >= 0.7 @ 90%", "precision >= 0.7 @ 90%"],
                evidence=False,
            )
        except Infeasible:
            continue
        cut = -float(result.point.bias[1])
        hits, alarms = 0.3 * norm.sf(cut - SHIFT), 0.7 * norm.sf(cut)
        broken += [norm.sf(cut - SHIFT) < 0.7, hits < 0.7 * (hits + alarms)]
        found += 1
    assert found > 0.9 * draws
    assert at_most(int(broken[0]), 0.1, draws)
    assert at_most(int(broken[1]), 0.1, draws)


def three(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of three classes and labels."""
    labels = np.repeat([0, 1, 2], [n // 2, n // 4, n // 4])
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += 2
    return logits, labels


def test_a_classs_recall_is_kept_among_three() -> None:
    """Over many draws: by the margins over the best other class, whose biases came from other rows."""
    rng, one = np.random.default_rng(8), Promise.of(parse_constraint("recall[c] >= 0.8 @ 90%", ["a", "b", "c"]), 3)
    fresh, truth = three(rng, 20_000)
    fresh, broken = fresh[truth == 2], 0
    for _ in range(DRAWS):
        logits, labels = three(rng, 160)
        bias = rng.normal(size=2)
        margins = logits[:, 2] - (logits[:, :2] + bias).max(axis=1)
        _, high, _ = safe_range([one], margins, labels, None, 2)
        broken += bool((fresh[:, 2] - (fresh[:, :2] + bias).max(axis=1) >= high).mean() < 0.8)
    assert at_most(broken, 0.1)


def test_whole_fits_keep_a_classs_recall_among_three() -> None:
    """30 fits at 80 %, judged on fresh rows."""
    rng, draws = np.random.default_rng(9), 30
    fresh, truth = three(rng, 20_000)
    broken = 0
    for _ in range(draws):
        logits, labels = three(rng, 160)
        result = fit(
            logits=logits, labels=labels, metric="accuracy", constraints="recall[2] >= 0.8 @ 80%", evidence=False
        )
        broken += bool((result.point.decide(fresh[truth == 2]) == 2).mean() < 0.8)
    assert at_most(broken, 0.2, draws)
