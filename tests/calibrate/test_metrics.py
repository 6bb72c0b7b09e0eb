"""Each metric equals an independent one; each text is read as it is written."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from calibrate.aliases import ALIASES
from calibrate.counts import Cells, Counts, confusion_matrix
from calibrate.errors import BadExpression, UnknownClass, UnknownMetric
from calibrate.metrics import METRICS
from calibrate.naming import parse_metric, standard_metrics
from tests.reference import BINARY_METRICS, binary_metric, cells, macro, ratio

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


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1), st.sampled_from([0, 1]))
def test_binary_metrics_equal_their_definitions(rows: list[tuple[int, int]], positive: int) -> None:
    """From the four cells, 0/0 being undefined, whichever class is called positive."""
    labels, decided = np.array(rows).T
    for name in BINARY_METRICS:
        expected = binary_metric(name, *cells(labels, decided, positive))
        assert same(value(name, labels, decided, 2, str(positive)), expected), name


@settings(deadline=None)
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


@settings(deadline=None)
@given(ROWS)
def test_a_class_in_brackets_is_that_class_against_the_rest(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """`recall[1]` is the binary recall of class 1, and `positive="1"` says the same."""
    k, rows = drawn
    labels, decided = np.array(rows).T
    for name in ("precision", "recall", "specificity", "f1"):
        expected = binary_metric(name, *cells(labels, decided, 1))
        assert same(value(f"{name}[1]", labels, decided, k), expected)
        assert same(value(name, labels, decided, k, "1"), expected)


@settings(deadline=None)
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


MONOTONE = [
    *(name for name, row in METRICS.items() if not row.arguments and row.reads == "rows"),
    "fbeta(2)", "net_benefit(0.3)", "cost(fp=1, fn=9)", "cost(fp=0, fn=1, tp=-2)", "f1_macro", "precision_worst",
    "recall_weighted", "npv_micro", "relative_accuracy(0.8)",
]  # fmt: skip


@pytest.mark.parametrize("name", MONOTONE)
@pytest.mark.parametrize("positive", ["no", "yes"])
def test_no_metric_gets_worse_when_a_false_alarm_goes(name: str, positive: str) -> None:
    """What the short list of cuts rests on, for every row of the table, over small confusion matrices."""
    metric = parse_metric(name, ["no", "yes"], positive)
    assert metric.monotone
    for tp, fp, fn, tn in np.ndindex(4, 4, 4, 4):
        if fp == 0:
            continue
        matrices = np.array([[[tn, fp], [fn, tp]], [[tn + 1, fp - 1], [fn, tp]]], dtype=np.float64)
        matrices = matrices if positive == "yes" else matrices[:, ::-1, ::-1]
        worse, better = (float(metric.gain(Counts.of_confusion(matrix))) for matrix in matrices)
        assert math.isnan(better) or math.isnan(worse) or better >= worse - 1e-12
        if metric.of_positives:
            assert better == worse or math.isnan(better)


@pytest.mark.parametrize("text", ["cost(fp=-1, fn=2)", "tp - fp", "maximize alert_rate", "minimize f1"])
def test_what_may_gain_by_a_false_alarm_is_not_called_monotone(text: str) -> None:
    """So every cut is tried for it."""
    assert not parse_metric(text, ["no", "yes"]).monotone


@settings(deadline=None)
@given(ROWS)
def test_means_over_classes_equal_scikit_learn(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """Macro, micro and weighted, wherever no class is 0/0; the worst class is the least."""
    k, rows = drawn
    labels, decided = np.array(rows).T
    every = list(range(k))
    functions = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    for name, function in functions.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each = [binary_metric(name, *cells(labels, decided, c)) for c in range(k)]
            assert same(value(f"{name}_worst", labels, decided, k), math.nan if np.isnan(each).any() else min(each))
            for form in ("macro", "micro", "weighted"):
                expected = function(labels, decided, labels=every, average=form, zero_division=0)
                ours = value(f"{name}_{form}", labels, decided, k)
                assert math.isnan(ours) or math.isclose(ours, expected, rel_tol=1e-9, abs_tol=1e-9), (name, form)
                assert not math.isnan(ours) or np.isnan(each).any()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1), st.sampled_from([0, 1]))
def test_rates_and_agreement_equal_their_definitions(rows: list[tuple[int, int]], positive: int) -> None:
    """From the four cells, and kappa from scikit-learn."""
    labels, decided = np.array(rows).T
    tp, fp, fn, tn = cells(labels, decided, positive)
    n = tp + fp + fn + tn
    recall, specificity = (binary_metric(name, tp, fp, fn, tn) for name in ("recall", "specificity"))
    definitions = {
        "npv": ratio(tn, tn + fn),
        "fpr": ratio(fp, fp + tn),
        "fnr": ratio(fn, fn + tp),
        "alert_rate": (tp + fp) / n,
        "error_rate": (fp + fn) / n,
        "youden": recall + specificity - 1,
        "net_benefit(0.2)": tp / n - fp / n * 0.2 / 0.8,
        "cost(fp=1, fn=50)": (fp + 50 * fn) / n,
        "cost(2, 3, tn=0.5)": (2 * fp + 3 * fn + 0.5 * tn) / n,
        "relative_accuracy(0.5)": (tp + tn) / n / 0.5,
        "2*tp/(2*tp + fp + fn)": binary_metric("f1", tp, fp, fn, tn),
        "sqrt(recall*specificity)": math.sqrt(recall * specificity),
        "(tp + tn)/n": (tp + tn) / n,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        definitions["kappa"] = sk.cohen_kappa_score(labels, decided)
    for text, expected in definitions.items():
        assert same(value(text, labels, decided, 2, str(positive)), expected), text


def test_groups_are_thirds_of_the_classes_by_training_frequency() -> None:
    """Seven classes: three in the head, two in the middle, two in the tail; relative accuracy over the reference."""
    rng = np.random.default_rng(0)
    classes = list("abcdefg")
    frequencies = [0.02, 0.3, 0.1, 0.25, 0.03, 0.2, 0.1]
    labels, decided = rng.integers(0, 7, 400), rng.integers(0, 7, 400)
    counts = Counts.of(labels, decided, 7)
    recalls = counts.hits / counts.actual
    for form, members in {"head": [1, 3, 5], "middle": [2, 6], "tail": [4, 0]}.items():
        for text, expected in ((f"recall_{form}", 1.0), (f"relative_accuracy_{form}(0.5)", 2.0)):
            ours = parse_metric(text, classes, None, frequencies).value(counts)
            assert math.isclose(float(ours), recalls[members].mean() * expected)
    with pytest.raises(UnknownMetric, match="needs the prior"):
        parse_metric("recall_tail", classes)
    with pytest.raises(UnknownMetric, match="three classes or more"):
        parse_metric("recall_tail", ["a", "b"], None, [0.5, 0.5])


def test_a_function_of_the_cells_is_a_metric() -> None:
    """Of the positive class, or the mean over classes; one number a cut, undefined where not finite."""
    rng = np.random.default_rng(1)
    labels, decided = rng.integers(0, 3, 90), rng.integers(0, 3, 90)
    counts = Counts.of(labels, decided, 3)

    def jaccard(c: Cells) -> np.ndarray:
        return np.asarray(c.tp / (c.tp + c.fp + c.fn))

    ours = parse_metric(jaccard, ["a", "b", "c"])
    assert ours.name == "jaccard"
    assert math.isclose(float(ours.value(counts)), sk.jaccard_score(labels, decided, average="macro"))
    never = Counts.of(np.zeros(3, int), np.zeros(3, int), 2)
    assert math.isnan(parse_metric(jaccard, ["a", "b"]).value(never))
    with pytest.raises(UnknownMetric, match="one number for each cut"):
        parse_metric(lambda _: 1.0, ["a", "b"], "a").value(Counts.of_binary(np.ones(3), np.ones(3), 3, 4, 1))


@pytest.mark.parametrize(
    "text",
    ["", "F2", "f2(3)", "f0.7", "f0.5()", "macro_mcc", "macro_f1_micro", "fbeta",
     "fbeta()", "fbeta(0)", "fbeta(-1)", "fbeta(nan)", "fbeta(1e9)", "fbeta(a)",
     "f1(2)", "accuracy[yes]", "recall[yes", "__import__('os')", "f1" * 10_000, "f1\x00", "ｆ1", "cost", "cost(1)",
     "cost(1, 2, 3, 4, 5)", "cost(fp=1, fp=2, fn=1)", "f1_macro[yes]", "accuracy_macro", "minimize", "row_cost(1)",
     "f1 " + " " * 900 + "!!"],
)  # fmt: skip
def test_a_text_that_names_no_metric_is_refused(text: str) -> None:
    """With the metrics there are; however long the text, the message is short."""
    with pytest.raises((UnknownMetric, BadExpression)) as caught:
        parse_metric(text, ["no", "yes"])
    assert len(str(caught.value)) < 700


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


@settings(deadline=None)
@given(ROWS)
def test_scikit_learns_names_are_its_functions(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    """Of the second class of two, or the mean over classes, wherever they are defined."""
    k, rows = drawn
    labels, decided = np.array(rows).T
    every = list(range(k))
    of = {"labels": every, "average": "binary" if k == 2 else "macro", "zero_division": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "accuracy_score": sk.accuracy_score(labels, decided),
            "balanced_accuracy_score": sk.balanced_accuracy_score(labels, decided),
            "matthews_corrcoef": sk.matthews_corrcoef(labels, decided),
            "cohen_kappa_score": sk.cohen_kappa_score(labels, decided),
            "zero_one_loss": sk.zero_one_loss(labels, decided),
            "precision_score": sk.precision_score(labels, decided, **of),
            "recall_score": sk.recall_score(labels, decided, **of),
            "f1_score": sk.f1_score(labels, decided, **of),
            "fbeta_score(3)": sk.fbeta_score(labels, decided, beta=3, **of),
            "f2": sk.fbeta_score(labels, decided, beta=2, **of),
            "f0.5": sk.fbeta_score(labels, decided, beta=0.5, **of),
            "f05": sk.fbeta_score(labels, decided, beta=0.5, **of),
            "macro_f1": sk.f1_score(labels, decided, labels=every, average="macro", zero_division=np.nan),
            "micro_f1": sk.f1_score(labels, decided, labels=every, average="micro", zero_division=np.nan),
            "weighted_f1": sk.f1_score(labels, decided, labels=every, average="weighted", zero_division=np.nan),
            "macro_f2": sk.fbeta_score(labels, decided, beta=2, labels=every, average="macro", zero_division=np.nan),
            "f0.5_micro": sk.fbeta_score(labels, decided, beta=0.5, labels=every, average="micro"),
        }  # fmt: skip
    for name, expected in theirs.items():
        ours = value(name, labels, decided, k)
        assert math.isnan(ours) or math.isclose(ours, expected, rel_tol=1e-9, abs_tol=1e-9), name


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1))
def test_the_words_of_medicine_are_their_definitions(rows: list[tuple[int, int]]) -> None:
    """From the four cells; alone and in an expression."""
    labels, decided = np.array(rows).T
    tp, fp, fn, tn = cells(labels, decided, 1)
    definitions = {
        "sensitivity": ratio(tp, tp + fn), "tpr": ratio(tp, tp + fn), "true_positive_rate": ratio(tp, tp + fn),
        "hit_rate": ratio(tp, tp + fn), "ppv": ratio(tp, tp + fp), "positive_predictive_value": ratio(tp, tp + fp),
        "tnr": ratio(tn, tn + fp), "true_negative_rate": ratio(tn, tn + fp), "selectivity": ratio(tn, tn + fp),
        "negative_predictive_value": ratio(tn, tn + fn), "false_positive_rate": ratio(fp, fp + tn),
        "fall_out": ratio(fp, fp + tn), "false_negative_rate": ratio(fn, fn + tp), "miss_rate": ratio(fn, fn + tp),
        "informedness": ratio(tp, tp + fn) + ratio(tn, tn + fp) - 1,
        "youden_j": ratio(tp, tp + fn) - ratio(fp, fp + tn),
        "(sensitivity + tnr)/2": (ratio(tp, tp + fn) + ratio(tn, tn + fp)) / 2,
    }  # fmt: skip
    for text, expected in definitions.items():
        assert same(value(text, labels, decided, 2), expected), text


def test_an_alias_is_read_and_its_metric_named() -> None:
    """By the name in the table, which two fits can be compared by, and with all else of the metric."""
    classes = ["no", "yes", "may be"]
    names = {"sensitivity[no]": "recall[no]", "macro_sensitivity": "recall_macro", "recall_score_worst": "recall_worst",
             "f2": "fbeta(2)", "f0.5[may be]": "fbeta(0.5)[may be]", "weighted_f2": "fbeta_weighted(2)",
             "matthews_corrcoef": "mcc", "(ppv + tpr)/2": "(precision + recall)/2",
             "maximize fall_out_macro": "maximize fpr_macro"}  # fmt: skip
    for written, name in names.items():
        assert parse_metric(written, classes).name == name
    for alias, name in ALIASES.items():
        arguments = "(beta=3)" if alias == "fbeta_score" else ""
        ours, theirs = parse_metric(alias + arguments, classes), parse_metric(name + arguments, classes)
        assert (ours.name, ours.larger_is_better, ours.survives) == (
            theirs.name, theirs.larger_is_better, theirs.survives)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Recal", "did you mean 'recall'?"), ("senstivity", "did you mean 'sensitivity'?"), ("F1", "mean 'f1'?"),
        ("matthews_corcoef", "did you mean 'matthews_corrcoef'?"), ("qqqq", "got 'qqqq'"),
        ("roc_auc", "which is a score of the model that no operating point changes"),
    ],
)  # fmt: skip
def test_an_unknown_metric_names_the_nearest_one(text: str, end: str) -> None:
    """Where one is near; a score of the model is named as one."""
    with pytest.raises(UnknownMetric) as caught:
        parse_metric(text, ["no", "yes"])
    assert str(caught.value).endswith(end)


def test_an_unknown_class_names_the_nearest_one() -> None:
    """Whatever the case; spaces around a name are ignored where that leaves one class."""
    with pytest.raises(UnknownClass, match=r"got '>50k'; did you mean '>50K'\?"):
        parse_metric("recall[>50k]", ["<=50K", ">50K"])
    spaced = ["a", "a ", " b"]
    assert [parse_metric(text, spaced).positive for text in ("recall[a]", "recall[a ]", "recall[b]")] == [0, 1, 2]
    with pytest.raises(UnknownClass, match=r"class ' a' may be 'a' or 'a ': write it with its spaces"):
        parse_metric("recall[ a]", spaced)
