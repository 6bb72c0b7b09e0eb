"""What is signed is one set of numbers: in the result, the report and the page, whatever the rows look like."""

import numpy as np
import pytest

from calibrate import CacheStream, FeatureCache, feature_cache, fit, fit_stream
from calibrate.errors import BadCache, BadReport

RNG = np.random.default_rng(7)
LABELS = (RNG.random(120) < 0.3).astype(int)
LOGITS = RNG.normal(size=120) + 1.5 * LABELS


def cache_of(logits: np.ndarray = LOGITS, labels: np.ndarray = LABELS, **columns: np.ndarray) -> FeatureCache:
    """Two classes."""
    return feature_cache(logits=logits, labels=labels, classes=["a", "b"], **columns)


@pytest.mark.parametrize("seed", [None, 5])
def test_a_report_prints_the_intervals_of_the_result(seed: int | None) -> None:
    """Also with a generator of the caller's."""
    result = fit(cache_of(), metric="f1", search="exact", rng=None if seed is None else np.random.default_rng(seed))
    content = result.report().content
    for name, interval in result.evidence.items():
        assert content.evidence["this point"][name] == interval
        assert content.evidence["plain model"][name] == result.before[name]


def test_copies_of_cases_in_groups_say_no_more_of_amounts_than_the_cases() -> None:
    """20 copies of each: the intervals of what is lost, saved and found, and of the gain, are about as wide."""
    data = {"cost_fp": RNG.random(120) * 2, "cost_fn": RNG.random(120) * 10}
    repeated = {name: np.repeat(values, 20) for name, values in data.items()}
    copies = cache_of(np.repeat(LOGITS, 20), np.repeat(LABELS, 20), **repeated, group=np.repeat(np.arange(120), 20))
    for metric in ("row_cost", "savings", "recovered"):
        held = cache_of(LOGITS + 0.3, LABELS, **data)
        alone = fit(held, metric=metric, search="exact", constraints="recall >= 0.5", evidence=cache_of(**data))
        grouped = fit(held, metric=metric, search="exact", constraints="recall >= 0.5", evidence=copies)
        for few, many in ((alone.evidence, grouped.evidence), (alone.gain, grouped.gain)):
            assert many[metric].high - many[metric].low == pytest.approx(few[metric].high - few[metric].low, rel=0.15)


def test_evidence_rows_of_weight_zero_are_no_rows_of_the_report() -> None:
    """The page is that of the other rows."""
    some = slice(0, 60)
    weights = np.append(np.ones(60), np.zeros(40))
    padded = cache_of(np.append(LOGITS[some], np.linspace(1, 5, 40)), np.append(LABELS[some], np.zeros(40, int)),
                      sample_weight=weights)  # fmt: skip
    clean = cache_of(LOGITS[some], LABELS[some], sample_weight=np.ones(60))
    fitting = cache_of(LOGITS[60:], LABELS[60:])
    pages = [fit(fitting, metric="f1", search="exact", evidence=each).report().content for each in (padded, clean)]
    assert pages[0].rows == pages[1].rows
    assert pages[0].neighbours == pages[1].neighbours
    assert pages[0].points == pages[1].points


def test_without_rows_of_a_class_nothing_is_certain_of_it() -> None:
    """F1 on negatives alone is 0 and has no interval; the false alarm rate has one; a warning names the class."""
    negatives = cache_of(LOGITS[LABELS == 0] + 0.01, LABELS[LABELS == 0])
    result = fit(cache_of(), metric="f1", evidence=negatives)
    assert np.isnan([result.evidence["f1"].low, result.evidence["f1"].high]).all()
    assert np.isnan([result.gain["f1"].low, result.gain["f1"].high]).all()
    assert result.evidence["specificity"].low < result.evidence["specificity"].value
    assert any("no row of class 'b'" in text for text in result.warnings)
    with pytest.raises(BadReport, match="rows of each class"):
        result.report()


def test_bands_say_how_many_rows_each_metric_rests_on() -> None:
    """One positive: recall rests on it alone."""
    result = fit(cache_of(np.append(RNG.normal(size=60), 2.0), np.append(np.zeros(60, int), 1)), metric="f1")
    assert {each.kind for each in result.evidence.values()} == {"simultaneous"}
    assert result.evidence["recall"].rows == 1
    assert result.evidence["specificity"].rows == 60
    assert result.evidence["f1"].rows == 61


def test_a_mark_in_a_gap_of_one_float32_step_is_the_points_own() -> None:
    """The cut is compared with float32 margins in float64, as it is decided."""
    margins = np.float32(1e4) + np.arange(40, dtype=np.float32) * np.spacing(np.float32(1e4))
    labels = (np.arange(40) > 30).astype(int)
    labels[25] = 1
    cache = cache_of(margins, labels)
    result = fit(cache, metric="f1", search="committee")
    alert = result.point.decide(cache.logits) == 1
    content = result.report().content
    assert content.points["this point"]["precision"].value == pytest.approx((alert & (labels == 1)).sum() / alert.sum())
    assert [row["alerts"] for row in content.neighbours if row["chosen"]] == [alert.sum()]


@pytest.mark.parametrize("search", ["bagged", "committee", "nonempty", "exact", "smoothed", "expected"])
def test_equal_weights_of_any_size_give_the_point_of_rows_that_count_once(search: str) -> None:
    """0.1, 0.3 and 7 for each row."""
    cuts = []
    for weight in (1.0, 0.1, 0.3, 7.0):
        weighted = cache_of(sample_weight=np.full(120, weight))
        cuts.append(fit(weighted, metric="f1", search=search, evidence=False).parameters["cut"])
    assert cuts == pytest.approx([cuts[0]] * 4, rel=1e-9)


@pytest.mark.parametrize("number", [1e-200, 1e160])
@pytest.mark.parametrize("column", ["sample_weight", "cost_fp", "cost_fn"])
def test_numbers_whose_squares_float64_cannot_hold_are_refused(column: str, number: float) -> None:
    """By name and row; 0 is none, and 1e-90 and 1e90 are taken."""
    values = np.append(np.ones(119), number)
    with pytest.raises(BadCache, match=rf"{column}\[119\] must be 0, or from 1e-100 to 1e\+100, got"):
        cache_of(**{column: values})
    for weight in (1e-90, 1e90):
        weighted, plain = (fit(cache_of(sample_weight=np.full(120, w)), metric="f1") for w in (weight, 1.0))
        assert weighted.parameters["cut"] == pytest.approx(plain.parameters["cut"], rel=1e-9)


def test_a_point_that_is_the_plain_rule_has_the_plain_models_numbers() -> None:
    """One rule, one set of numbers, and no gain."""
    rng = np.random.default_rng(19)
    labels = np.repeat([0, 1, 2], [40, 15, 6])
    logits = rng.normal(size=(61, 3))
    logits[np.arange(61), labels] += 1.3
    result = fit(feature_cache(logits=logits, labels=labels, classes=list("abc")), metric="accuracy")
    assert not result.point.bias.any()
    assert result.evidence == result.before
    assert {(each.value, each.low, each.high) for each in result.gain.values()} == {(0.0, 0.0, 0.0)}
    assert not any("moving away from argmax" in text for text in result.warnings)


def test_a_stream_refuses_groups_and_tells_what_a_fit_tells() -> None:
    """Groups would be torn apart; what survives is listed; bands stand in where no fold can be fitted."""
    grouped = cache_of(group=np.arange(120) // 2)
    with pytest.raises(BadCache, match="rows of a group"):
        fit_stream(CacheStream(grouped.classes, None, 120, lambda: iter([grouped])), metric="f1")
    plain = cache_of()
    streamed = fit_stream(CacheStream(plain.classes, None, 120, lambda: iter([plain])), metric="f1")
    assert set(streamed.survives) == set(fit(plain, metric="f1").survives)
    with pytest.raises(BadReport, match="those of a stream are not kept"):
        streamed.report()
