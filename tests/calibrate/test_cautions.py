"""A fit warns of a positive class that nobody named, and of bounds that new samples will break."""

import numpy as np
import pytest

from calibrate.cache import feature_cache
from calibrate.cautions import fragile_bounds, share_broken, unnamed_majority
from calibrate.fit import fit
from calibrate.objective import parse_constraint, parse_objective
from calibrate.uncertainty import Interval

CLASSES = ("fraud", "ok")


@pytest.mark.parametrize(
    ("metric", "constraints", "rows", "warned"),
    [
        ("recall", [], (3, 97), "recall"),
        ("mcc", ["precision >= 0.5"], (3, 97), "precision"),
        ("cost(fp=1, fn=2)", [], (3, 97), "cost(fp=1, fn=2)"),
        ("tp/(tp + fp)", [], (3, 97), "tp/(tp + fp)"),
        ("recovered", [], (3, 97), "recovered"),
        ("recall[fraud]", ["precision[ok] >= 0.5"], (3, 97), None),
        ("f1_macro", [], (3, 97), None),
        ("g_mean", ["accuracy >= 0.5"], (3, 97), None),
        ("youden", [], (3, 97), None),
        ("recall", [], (97, 3), None),
        ("recall", [], (50, 50), None),
    ],
)
def test_a_majority_that_nobody_named_is_warned_of(
    metric: str, constraints: list[str], rows: tuple[int, int], warned: str | None
) -> None:
    """Where an unqualified metric is of it; a metric of both classes alike means no class."""
    texts = list(unnamed_majority(rows, CLASSES, parse_objective(metric, constraints, CLASSES)))
    assert len(texts) == (warned is not None)
    if warned is not None:
        assert texts[0] == (
            f"the positive class is 'ok', the second of fraud, ok, and has 97 % of the rows: '{warned}' is of 'ok'. "
            "Pass positive='fraud' if that is the class meant, or positive='ok'"
        )


def test_a_fit_warns_unless_the_class_is_named() -> None:
    """In the result, so wherever its warnings are shown."""
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.9).astype(int)
    cache = feature_cache(logits=rng.normal(2 * labels - 1.0), labels=labels, classes=CLASSES)
    for positive, warned in ((None, True), ("ok", False), ("fraud", False)):
        result = fit(cache, metric="f1", search="exact", positive=positive, evidence=False)
        assert any("the positive class is 'ok'" in text for text in result.warnings) == warned
        assert result.positive == (positive or "ok")


def test_a_binding_bound_is_broken_every_other_time() -> None:
    """By symmetry; with a standard error of slack in 24 of 100, since both sides vary: the tail beyond 1/sqrt(2)."""
    constraint = parse_constraint("recall >= 0.8", CLASSES)
    at = Interval(0.8, 0.8 - 1.959964 * 0.04, 0.8 + 1.959964 * 0.04, 0.95, 100, "held_out")
    slack = Interval(0.84, 0.84 - 1.959964 * 0.04, 0.84 + 1.959964 * 0.04, 0.95, 100, "held_out")
    assert share_broken(constraint, at) == pytest.approx(0.5)
    assert share_broken(constraint, slack) == pytest.approx(0.23975, abs=1e-5)
    assert share_broken(parse_constraint("recall <= 0.8", CLASSES), slack) == pytest.approx(1 - 0.23975, abs=1e-5)
    assert share_broken(constraint, Interval(np.nan, np.nan, np.nan, 0.95, 0, "held_out")) is None


def test_the_warning_says_how_often_and_what_keeps_it() -> None:
    """A promise, where the method and the metric have one; nothing of a bound that is one already."""
    objective = parse_objective("f1", ["recall >= 0.8", "mcc >= 0.1", "fpr <= 0.5", "recall >= 0.8 @ 95%"], CLASSES)
    evidence = {
        "recall": Interval(0.79, 0.70, 0.87, 0.95, 100, "optimism_corrected"),
        "mcc": Interval(0.1, 0.0, 0.2, 0.95, 400, "optimism_corrected"),
        "fpr": Interval(0.1, 0.05, 0.15, 0.95, 300, "optimism_corrected"),
    }
    recall, mcc = fragile_bounds(evidence, objective, certifies=True)
    assert recall == (
        "'recall >= 0.8' is kept on the fitting rows only: about 56 of 100 new samples of this size will break it "
        "(recall 0.79 [0.7, 0.87], optimism-corrected); 'recall >= 0.8 @ 95%' is kept on new rows"
    )
    assert mcc.endswith("ask for a stricter bound")
    first, _ = fragile_bounds(evidence, objective, certifies=False)
    assert first.endswith("ask for a stricter bound")


def test_a_bound_on_alerts_is_met_on_average() -> None:
    """The result notes which promise a cut makes, and what keeps the other."""
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.1).astype(int)
    margins = rng.normal(size=500) + 2 * labels
    result = fit(margins=margins, labels=labels, metric="recall", constraints="alerts <= 100 per 1000", evidence=False)
    assert any("is met on average" in note and "decide_top" in note for note in result.notes)
    plain = fit(margins=margins, labels=labels, metric="recall", constraints="specificity >= 0.5", evidence=False)
    assert not any("on average" in note for note in plain.notes)
