"""Each metric equals an independent one; each text is read as it is written."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from calibrate.counts import Counts, confusion_matrix
from calibrate.errors import UnknownClass, UnknownMetric
from calibrate.metrics import METRICS, parse_metric, standard_metrics
from tests.reference import BINARY_METRICS, binary_metric, cells, macro

ROWS = st.integers(2, 4).flatmap(
    lambda k: st.tuples(st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1))
)


def value(text: str, labels: np.ndarray, decided: np.ndarray, k: int, positive: str | None = None) -> float:
    """A metric of decisions, by its text."""
    metric = parse_metric(text, [str(i) for i in range(k)], positive)
    return float(metric.value(Counts.of(labels, decided, k)))


def same(ours: float, theirs: float) -> bool:
    """Equal, or both undefined."""
    return (math.isnan(ours) and math.isnan(theirs)) or math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1), st.sampled_from([0, 1]))
def test_binary_metrics_equal_their_definitions(rows: list[tuple[int, int]], positive: int) -> None:
    """From the four cells, 0/0 being undefined, whichever class is called positive."""
    labels, decided = np.array(rows).T
    for name in BINARY_METRICS:
        expected = binary_metric(name, *cells(labels, decided, positive))
        assert same(value(name, labels, decided, 2, str(positive)), expected), name


@given(ROWS)
def test_macro_and_overall_metrics_equal_scikit_learn(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """Wherever they are defined; scikit-learn fills 0/0 in, we do not."""
    k, rows = drawn
    labels, decided = np.array(rows).T
    every = list(range(k))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "accuracy": sk.accuracy_score(labels, decided),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, decided),
            "mcc": sk.matthews_corrcoef(labels, decided),
        }
        if k > 2:
            for name, function in [("precision", sk.precision_score), ("recall", sk.recall_score)]:
                theirs[name] = function(labels, decided, labels=every, average="macro", zero_division=np.nan)
            theirs["f1"] = sk.f1_score(labels, decided, labels=every, average="macro")
            theirs["fbeta(3)"] = sk.fbeta_score(labels, decided, beta=3, labels=every, average="macro")
    for name, expected in theirs.items():
        ours = value(name, labels, decided, k)
        assert math.isnan(ours) or math.isclose(ours, expected, rel_tol=1e-9, abs_tol=1e-9), name
    if k > 2:
        for name in ("precision", "recall", "specificity", "f1"):
            assert same(value(name, labels, decided, k), macro(name, labels, decided, k)), name


@given(ROWS)
def test_a_class_in_brackets_is_that_class_against_the_rest(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """`recall[1]` is the binary recall of class 1, and `positive="1"` says the same."""
    k, rows = drawn
    labels, decided = np.array(rows).T
    for name in ("precision", "recall", "specificity", "f1"):
        expected = binary_metric(name, *cells(labels, decided, 1))
        assert same(value(f"{name}[1]", labels, decided, k), expected)
        assert same(value(name, labels, decided, k, "1"), expected)


@given(ROWS)
def test_g_mean_is_the_geometric_mean_of_recalls(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """Of all classes; undefined where one has no rows."""
    k, rows = drawn
    labels, decided = np.array(rows).T
    recalls = [binary_metric("recall", *cells(labels, decided, c)) for c in range(k)]
    assert same(value("g_mean", labels, decided, k), math.prod(recalls) ** (1 / k))


def test_counts_of_parts_add_up_and_agree_with_the_confusion_matrix() -> None:
    """Counting apart and adding is counting the whole."""
    rng = np.random.default_rng(0)
    labels, decided = rng.integers(0, 3, 100), rng.integers(0, 3, 100)
    whole, parts = Counts.of(labels, decided, 3), [Counts.of(labels[i::4], decided[i::4], 3) for i in range(4)]
    by_matrix = Counts.of_confusion(confusion_matrix(labels, decided, 3))
    for field in ("hits", "predicted", "actual"):
        assert np.array_equal(sum(getattr(part, field) for part in parts), getattr(whole, field))
        assert np.array_equal(getattr(by_matrix, field), getattr(whole, field))
    assert np.array_equal(confusion_matrix(labels, decided, 3), sk.confusion_matrix(labels, decided))


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.argument is None])
def test_no_metric_falls_when_a_false_alarm_goes(name: str) -> None:
    """What the binary sweep rests on, for every row of the table, over all small confusion matrices."""
    metric = parse_metric(name, ["no", "yes"])
    for tp, fp, fn, tn in np.ndindex(5, 5, 5, 5):
        if fp == 0:
            continue
        worse, better = (
            float(metric.value(Counts.of_confusion(np.array(matrix))))
            for matrix in ([[tn, fp], [fn, tp]], [[tn + 1, fp - 1], [fn, tp]])
        )
        assert math.isnan(better) or math.isnan(worse) or better >= worse - 1e-12


@pytest.mark.parametrize(
    "text",
    ["", "F2", "f1_score", "fbeta", "fbeta()", "fbeta(0)", "fbeta(-1)", "fbeta(nan)", "fbeta(1e9)", "fbeta(a)",
     "f1(2)", "accuracy[yes]", "recall[yes", "__import__('os')", "f1" * 10_000, "f1\x00", "ｆ1"],
)  # fmt: skip
def test_a_text_that_names_no_metric_is_refused(text: str) -> None:
    """With the metrics there are; however long the text, the message is short."""
    with pytest.raises(UnknownMetric) as caught:
        parse_metric(text, ["no", "yes"])
    assert len(str(caught.value)) < 500


def test_an_unknown_class_is_refused() -> None:
    """In brackets and as `positive`."""
    with pytest.raises(UnknownClass, match="must be one of no, yes; got 'maybe'"):
        parse_metric("recall[maybe]", ["no", "yes"])
    with pytest.raises(UnknownClass):
        parse_metric("f1", ["no", "yes"], "maybe")


def test_names_are_canonical() -> None:
    """Spaces and the form of a number do not make another name."""
    classes = ["a", "b b", "c"]
    assert parse_metric(" fbeta( 2.0 )[ b b ] ", classes).name == "fbeta(2)[b b]"
    names = [metric.name for metric in standard_metrics(classes)]
    assert names[-3:] == ["recall[a]", "recall[b b]", "recall[c]"]
    assert len(set(names)) == len(names)
