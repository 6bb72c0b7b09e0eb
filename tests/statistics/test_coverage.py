"""95 % means 95 % about the very point that was fitted: the short form of `make soak ONLY=coverage`."""

import numpy as np
import pytest

from tests.statistics.coverage import MANY_SETTINGS, SETTINGS, Setting, cover, many_classes, two_classes

DRAWS = 40
_SHORT = ("held out", "F1", "G-mean, exact", "precision, recall >= 0.9", "precision, recall >= 0.9 @ 95%")


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.name in _SHORT], ids=lambda each: each.name)
def test_intervals_hold_the_value_of_the_fitted_point(setting: Setting) -> None:
    """40 positives; every standard metric and gain. Four standard errors, since some of 24 lie below two by chance."""
    coverage = cover(two_classes(), setting, 800, range(DRAWS))
    assert max(coverage.tried.values()) > 0.8 * DRAWS
    assert not coverage.failures(errors=4), {name: coverage.share(name) for name in coverage.failures(errors=4)}


def test_a_certificate_on_few_positives_says_what_its_own_point_does() -> None:
    """87 positives, `recall >= 0.95 @ 95%`: cross-fitting held the point's own specificity in 4 of 10 draws."""
    (setting,) = [each for each in SETTINGS if each.name == "precision, recall >= 0.95 @ 95%"]
    coverage = cover(two_classes(), setting, 1740, range(30))
    for name in ("specificity", "alert_rate", "accuracy", "recall", "precision", "cost(fp=1, fn=20)"):
        assert coverage.share(name) >= 0.8, (name, coverage.share(name))
    assert coverage.mean_width("specificity") < 1.05 * 2 * 1.96 * np.sqrt(0.25 / 1653)  # of a share of 1,653 rows


@pytest.mark.parametrize("rows", ["weighted", "grouped"])
def test_intervals_of_rows_that_count_differently_hold_it_too(rows: str) -> None:
    """Weights that have nothing to do with the class, and groups of copies."""
    (setting,) = [each for each in SETTINGS if each.rows == rows]
    coverage = cover(two_classes(), setting, 800, range(30))
    assert not coverage.failures(errors=4), coverage.failures(errors=4)


def test_means_over_twenty_classes_hold_it() -> None:
    """20 rows a class, a fixed point: balanced accuracy, macro-F1 and G-mean."""
    coverage = cover(many_classes(20), MANY_SETTINGS[0], 600, range(60))
    assert not coverage.failures(errors=4), coverage.failures(errors=4)
    for name in ("balanced_accuracy", "f1_macro", "g_mean"):
        assert coverage.share(name) >= 0.88, (name, coverage.share(name))


def test_a_macro_metric_that_was_fitted_holds_it() -> None:
    """Three classes, free biases against the tau line and argmax."""
    coverage = cover(many_classes(3), MANY_SETTINGS[1], 120, range(10))
    assert not coverage.failures(errors=4), coverage.failures(errors=4)


def test_widths_are_those_of_held_out_rows() -> None:
    """What is corrected for optimism is hardly wider than held-out rows: no certainty is bought with width."""
    held_out = cover(two_classes(), SETTINGS[0], 1740, range(8))
    fitted = cover(two_classes(), next(each for each in SETTINGS if each.name == "G-mean, exact"), 1740, range(8))
    for name in ("recall", "specificity", "g_mean"):
        assert fitted.mean_width(name) < 1.35 * held_out.mean_width(name)
