"""95 % means 95 % for a whole curve: bands hold at every cut at once, also at one that was chosen by looking."""

from typing import Literal

import numpy as np
import pytest
from scipy.stats import norm

from calibrate import feature_cache
from calibrate.bands import has_band, rectangle_band, simultaneous_band, simultaneous_level
from calibrate.counts import Counts
from calibrate.curve import curve
from calibrate.metrics import METRICS
from calibrate.naming import parse_metric

DRAWS = 800


def noise(share: float, draws: int) -> float:
    """Three standard errors of a share."""
    return 3 * float(np.sqrt(share * (1 - share) / draws))


@pytest.mark.parametrize("n", [1, 15, 100, 1000, 3000])
@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "ten values"])
def test_a_band_holds_the_whole_distribution(n: int, discrete: bool) -> None:
    """The true share above every possible cut is inside the band together, in at least 95 %."""
    rng = np.random.default_rng(n)
    low, high = simultaneous_band(np.arange(n + 1), n, 0.95)
    inside = 0
    for _ in range(DRAWS):
        u = rng.random(n)
        margins = np.sort(np.floor(u * 10) / 10 if discrete else u)
        at, below = np.unique(margins, return_index=True)
        # The share above a cut moves only at the margins; between two it is worst at both ends of the gap.
        passed = n - np.append(below, n)  # rows above the cut just below each distinct margin, then above all
        if discrete:
            cuts = np.append(at, 1.0)  # true share at or above the value k/10 is 1 - k/10
            fits = (low[passed] <= 1 - cuts) & (1 - cuts <= high[passed])
            # between two seen values the cut may pass unseen ones too
            lower = np.concatenate([[0.0], at + 0.1])
            fits &= (1 - lower <= high[passed]) & (1 - cuts >= low[passed])
        else:
            upper, lower = np.append(at, 1.0), np.append(0.0, at)
            fits = (1 - upper >= low[passed]) & (1 - lower <= high[passed])
        inside += fits.all()
    assert inside >= DRAWS * (0.95 - noise(0.95, DRAWS))
    if not discrete and n <= 1000:
        assert inside <= DRAWS * (0.965 + noise(0.96, DRAWS))  # and is not much wider than it must be


def test_a_band_is_clopper_pearson_at_its_level_and_narrower_at_the_ends_than_kolmogorov() -> None:
    """At 90 of 100: [0.774, 0.970] against [0.764, 1] by Dvoretzky, Kiefer and Wolfowitz; at 450 of 500 as known."""
    low, high = simultaneous_band(np.array([90]), 100, 0.95)
    assert (low[0], high[0]) == pytest.approx((0.774, 0.970), abs=0.003)
    assert low[0] > 0.9 - np.sqrt(np.log(2 / 0.05) / 200)
    assert simultaneous_level(100, 0.95) == pytest.approx(0.0009, rel=0.2)
    assert [side[0] for side in simultaneous_band(np.array([450]), 500, 0.95)] == pytest.approx(
        [0.849, 0.939], abs=0.002
    )
    assert simultaneous_band(np.array([0]), 100, 0.95)[0] == 0
    assert simultaneous_band(np.array([100]), 100, 0.95)[1] == 1


@pytest.mark.parametrize("n", [15, 100, 1000])
@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "ten values"])
def test_precision_elsewhere_holds_at_the_worst_cut_of_all(n: int, discrete: bool) -> None:
    """Draws of n rows per class: both rates and the precision at a prevalence of 0.01, each at its worst cut."""
    rng = np.random.default_rng(n)
    elsewhere, shift, each = 0.01, 1.5, 1 - 0.05 / 2
    counted = np.arange(n + 1)
    low, high = simultaneous_band(counted, n, each)
    precision = parse_metric("precision", ["no", "yes"])
    steps = np.linspace(-2, 3, 10)
    inside = 0
    for _ in range(DRAWS):
        positives, negatives = np.sort(rng.normal(shift, 1, n)), np.sort(rng.normal(0, 1, n))
        if discrete:  # a score is the highest step that is reached: cuts lie at the steps
            positives, negatives = (steps[np.maximum(np.searchsorted(steps, x) - 1, 0)] for x in (positives, negatives))
            cuts = steps[1:]
        else:  # just above each row, where every rate is nearest to one end of its band
            cuts = np.concatenate([positives, negatives])
            cuts = np.concatenate([cuts, np.nextafter(cuts, -np.inf)])
            cuts = cuts if n < 1000 else cuts[:: n // 250]
        side: Literal["left", "right"] = "left" if discrete else "right"
        tp, fp = n - np.searchsorted(positives, cuts, side), n - np.searchsorted(negatives, cuts, side)
        tpr, fpr = norm.sf(cuts - shift), norm.sf(cuts)
        bottom, top = rectangle_band(precision, (low[tp], high[tp]), (low[fp], high[fp]), elsewhere, 1)
        truth = elsewhere * tpr / (elsewhere * tpr + (1 - elsewhere) * fpr)
        rates = (low[tp] <= tpr) & (tpr <= high[tp]) & (low[fp] <= fpr) & (fpr <= high[fp])
        assert ((bottom <= truth + 1e-12) & (truth - 1e-12 <= top))[rates].all()  # corners are enough
        inside += bool(rates.all())
    assert inside >= DRAWS * (0.95 - noise(0.95, DRAWS)), inside


def test_weights_that_are_alike_within_a_class_change_no_band_and_others_widen_it() -> None:
    """As rows at another prevalence; Kish's number of rows for the rest."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [200, 60])
    margins = rng.normal(labels * 1.5)
    plain = curve(feature_cache(logits=margins, labels=labels), ["recall", "precision"], confidence=0.95)
    for weights, alike in [(np.where(labels == 1, 0.2, 3.0), True), (rng.gamma(1, 1, 260), False)]:
        cache = feature_cache(logits=margins, labels=labels, sample_weight=weights)
        found = curve(cache, ["recall", "precision"], confidence=0.95).at_prevalence(60 / 260)
        for name in ("recall", "precision"):
            widths = [np.subtract(*each.bands[name][::-1]) for each in (plain, found)]
            if alike:
                assert np.allclose(plain.bands[name], found.bands[name])
            else:
                assert widths[1].mean() > 1.2 * widths[0].mean()
            assert (found.bands[name][0] <= np.nan_to_num(found.metrics[name], nan=1) + 1e-9).all()


def test_bands_hold_after_the_cut_was_chosen_and_at_another_prevalence() -> None:
    """Draws with 40 positives: the worst cut of all for recall, and for precision at a tenth of the prevalence."""
    draws, elsewhere, shift = 120, 0.02, 1.5
    worst = dict.fromkeys(("recall", "precision", "f1", "alert_rate", "mcc"), 0)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], [160, 40])
        cache = feature_cache(logits=rng.normal(labels * shift), labels=labels)
        found = curve(cache, list(worst), prevalence=elsewhere, confidence=0.95)
        recall, fpr = norm.sf(found.margin - shift), norm.sf(found.margin)
        alerts = elsewhere * recall + (1 - elsewhere) * fpr
        truth = {
            "recall": recall,
            "precision": elsewhere * recall / alerts,
            "f1": 2 * elsewhere * recall / (alerts + elsewhere),
            "alert_rate": alerts,
            "mcc": np.sqrt(elsewhere * (1 - elsewhere)) * (recall - fpr) / np.sqrt(alerts * (1 - alerts)),
        }
        for name, values in truth.items():
            low, high = found.bands[name]
            worst[name] += bool(((low <= values + 1e-12) & (values - 1e-12 <= high)).all())
    for name, times in worst.items():
        assert times >= draws * (0.95 - noise(0.95, draws)), name


def test_every_metric_with_a_band_moves_one_way_with_each_rate() -> None:
    """On a grid of both rates, at four prevalences: what makes the corners of the rectangle enough."""
    rates = np.linspace(0, 1, 21)[1:-1]
    t, f = np.meshgrid(rates, rates, indexing="ij")
    arguments = {"fbeta": "(2)", "net_benefit": "(0.2)", "relative_accuracy": "(0.9)", "cost": "(fp=1, fn=50, tp=-3)"}
    names = [name + arguments.get(name, "") for name, row in METRICS.items() if row.reads == "rows"]
    for metric in (parse_metric(name, ["no", "yes"]) for name in names):
        assert has_band(metric)
        for prevalence in (0.001, 0.1, 0.5, 0.9):
            counts = Counts.of_binary(prevalence * t, (1 - prevalence) * f, prevalence, 1 - prevalence, 1)
            for axis in (0, 1):
                steps = np.diff(metric.value(counts), axis=axis)
                assert not ((steps > 1e-9).any() and (steps < -1e-9).any()), metric.name
    assert not has_band(parse_metric("tp - fp", ["no", "yes"]))
