"""What a point was fitted for is said in the same words everywhere, with nothing of it left out."""

import numpy as np
import pytest

from calibrate.cache import feature_cache
from calibrate.fit import fit
from calibrate.kept_bounds import kept_bounds
from calibrate.operating_point import OperatingPoint
from calibrate.purpose import Purpose, positive_class, prevalence_in_words
from calibrate.uncertainty import clopper_pearson

CLASSES = ("clear", "fraud")


@pytest.mark.parametrize(
    ("details", "words", "positive"),
    [
        ({"metric": "f1"}, "f1", "fraud"),
        ({"metric": "precision", "constraints": ["recall >= 0.8"]}, "precision with recall >= 0.8", "fraud"),
        (
            {"metric": "recall", "constraints": ["precision >= 0.5", "fpr <= 0.1 @ 95%"], "positive": "clear",
             "prevalence": [0.995, 0.005]},
            "recall with precision >= 0.5 and fpr <= 0.1 @ 95%, for a prevalence of 99.5 %",
            "clear",
        ),
        ({}, None, "fraud"),
        ({"metric": 3, "constraints": "recall >= 1", "positive": "nobody", "prevalence": [1, "x"]}, None, "fraud"),
    ],
)  # fmt: skip
def test_words_hold_metric_constraints_and_prevalence(
    details: dict[str, object], words: str | None, positive: str
) -> None:
    """What is stored and cannot be read is left out: points of earlier releases are listed too."""
    purpose = Purpose.of(details, CLASSES)
    assert (purpose.words, purpose.positive) == (words, positive)


def test_more_classes_have_a_positive_one_only_by_name() -> None:
    """And a prevalence is told for the first five of them."""
    classes = [f"c{i}" for i in range(7)]
    assert (positive_class(classes), positive_class(classes, "c3")) == (None, "c3")
    details = {"metric": "f1_macro", "prevalence": [0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]}
    assert Purpose.of(details, classes).words == (
        "f1_macro, for a prevalence of 40 % c0, 20 % c1, 10 % c2, 10 % c3, 10 % c4, ..."
    )
    assert prevalence_in_words(None) == ""
    assert prevalence_in_words(0.005) == "a prevalence of 0.5 %"
    assert prevalence_in_words([0.9, 0.1]) == "a prevalence of 90 %, 10 %"


def test_a_bound_is_checked_of_the_points_own_class_at_its_own_prevalence() -> None:
    """Precision of 'clear' at 90 % 'clear', on rows that are half and half: from the rates, by hand."""
    labels = np.repeat([0, 1], 100)
    logits = np.r_[np.full(80, -1.0), np.full(20, 1.0), np.full(30, -1.0), np.full(70, 1.0)]
    rows = feature_cache(logits=logits, labels=labels, classes=CLASSES)
    point = OperatingPoint.argmax(CLASSES)
    own = {"metric": "f1", "positive": "clear", "constraints": ["precision >= 0.9", "recall >= 0.81", "recall[x] > 1"]}
    here = kept_bounds(Purpose.of(own, CLASSES), point, rows)
    assert [(each.constraint, each.holds) for each in here] == [("precision >= 0.9", False), ("recall >= 0.81", False)]
    assert here[0].measured.value == pytest.approx(80 / 110)
    low, high = clopper_pearson(80, 110)
    assert here[0].words == f"precision >= 0.9 is broken: {80 / 110:.4g} [{low:.4g}, {high:.4g}]"
    there = kept_bounds(Purpose.of({**own, "prevalence": [0.9, 0.1]}, CLASSES), point, rows)
    assert there[0].measured.value == pytest.approx(0.9 * 0.8 / (0.9 * 0.8 + 0.1 * 0.3))
    assert [each.holds for each in there] == [True, False]
    assert kept_bounds(Purpose.of({"metric": "f1"}, CLASSES), point, rows) == ()


def test_a_bound_on_what_is_undefined_is_neither_kept_nor_broken() -> None:
    """No alert, so no precision."""
    rows = feature_cache(logits=[-1.0, -1.0], labels=[0, 1], classes=CLASSES)
    purpose = Purpose.of({"metric": "f1", "constraints": ["precision >= 0.5"]}, CLASSES)
    (bound,) = kept_bounds(purpose, OperatingPoint.argmax(CLASSES), rows)
    assert bound.holds is None
    assert bound.to_dict()["holds"] is None
    assert "cannot be checked" in bound.words


def test_a_result_names_the_positive_class_and_reads_back() -> None:
    """In two classes always; the saved file says the same as the result."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    logits = rng.normal(2.0 * labels - 1, 1.0)
    for positive, name in ((None, "fraud"), ("clear", "clear")):
        result = fit(
            logits=logits, labels=labels, classes=CLASSES, metric="ppv", constraints="tpr >= 0.5", positive=positive,
            prevalence=0.02,
        )  # fmt: skip
        assert result.positive == name
        assert result.purpose.words == "precision with recall >= 0.5, for a prevalence of 2 %"
        assert Purpose.of(result.to_dict(), CLASSES) == result.purpose
    three = fit(logits=rng.normal(size=(90, 3)), labels=np.arange(90) % 3, metric="f1", evidence=False)
    assert three.positive is None
