"""One rule for labels and for named columns, wherever rows come in."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from calibrate.cache import feature_cache
from calibrate.errors import BadCache, UnknownLabel, WrongColumns, WrongShape
from calibrate.extraction.extract import extract
from calibrate.fit import fit
from calibrate.io.files import read_cache, write_cache
from calibrate.io.parquet import open_cache
from calibrate.labels import are_ambiguous, label_indices
from calibrate.logits import logits_from_probabilities


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        (["b", "a"], ["a", "b"], [1, 0]),
        ([1, 0], ["a", "b"], [1, 0]),
        ([1.0, 0.0], ["a", "b"], [1, 0]),
        ([True, False], ["a", "b"], [1, 0]),
        ([True, False], ["True", "False"], [0, 1]),
        ([1, 0], ["0", "1"], [1, 0]),
        ([2, 1, 1], ["1", "2"], [1, 0, 0]),
        ([0, 1, 0], ["1", "2"], [0, 1, 0]),  # 0 names no class
        ([-1, 1], ["-1", "1"], [0, 1]),  # -1 is no index
        ([7, 3], ["3", "7"], [1, 0]),
        ([3.0, 7.0], ["3", "7"], [0, 1]),
        (["1", "0"], ["1", "0"], [0, 1]),  # a text is a name
        (np.array(["b", "a"]), ["a", "b"], [1, 0]),
        (pd.Series(["b", "a"]), ["a", "b"], [1, 0]),
        (pd.Series(["b", "a"], dtype="category"), ["a", "b"], [1, 0]),
    ],
)
def test_labels(labels: Any, classes: list[str], indices: list[int]) -> None:
    """Texts are names; whole numbers are names or indices, whichever they can be."""
    assert label_indices(labels, classes).tolist() == indices


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([1, 1], ["1", "2"], r"labels\[0\] is 1, which may be the class '1' by name or '2' by index: write labels as"),
        ([1, 0], ["1", "0"], r"labels\[0\] is 1, which may be the class '1' by name or '0' by index"),
        ([0, 2], ["1", "2"], r"labels\[0\] must be one of 1, 2, got 0"),
        ([0, 2], ["a", "b"], r"labels\[1\] must be an index from 0 to 1, got 2"),
        (["a", "c"], ["a", "b"], r"labels\[1\] must be one of a, b; got 'c'"),
        (["a", 1], ["a", "b"], "all of one kind"),
        ([0.5, 1], ["a", "b"], r"labels\[0\] must be an index from 0 to 1, got 0.5"),
        ([None, 1], ["a", "b"], "all of one kind"),
    ],
)
def test_labels_in_doubt_are_refused(labels: Any, classes: list[str], message: str) -> None:
    """With the row, the label and what to do."""
    with pytest.raises(UnknownLabel, match=message):
        label_indices(labels, classes)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
def test_a_file_keeps_classes_that_are_named_by_numbers(suffix: str, tmp_path: Path) -> None:
    """Written and read back, and as a stream, the labels are the same."""
    labels = ["1", "2", "1", "1"]
    cache = feature_cache(logits=np.eye(2)[[0, 1, 0, 0]], labels=labels, classes=["1", "2"])
    write_cache(tmp_path / f"cache{suffix}", cache)
    assert read_cache(tmp_path / f"cache{suffix}").labels.tolist() == [0, 1, 0, 0]
    if suffix != ".npz":
        batches = list(open_cache(tmp_path / f"cache{suffix}", batch_rows=1).batches())
        assert [batch.labels.tolist() for batch in batches] == [[0], [1], [0], [0]]


def test_extraction_reads_the_same_rule(tmp_path: Path) -> None:
    """Whole numbers that are names, into a file and back; in doubt they are refused."""
    scores = np.eye(2)[[0, 1, 0, 1]]
    extract(None, scores, labels=[1, 2, 1, 2], classes=["1", "2"], output_kind="logits", out=tmp_path / "c.npz")
    assert read_cache(tmp_path / "c.npz").labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(UnknownLabel, match="by name or"):
        extract(None, scores, labels=[1, 1, 1, 1], classes=["1", "2"], output_kind="logits")
    with pytest.raises(UnknownLabel, match=r"labels are named .* pass classes="):
        extract(None, scores, labels=["x", "y", "x", "y"], output_kind="logits")


def test_ambiguous_classes() -> None:
    """Only those where a whole number is the name of one class and the index of another."""
    assert are_ambiguous(["1", "2"])
    assert are_ambiguous(["1", "0"])
    assert not are_ambiguous(["0", "1"])
    assert not are_ambiguous(["3", "7"])
    assert not are_ambiguous(["clear", "fraud"])


N = 60
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, N)
LOGITS = RNG.normal(size=(N, 2)) + 2 * np.eye(2)[LABELS]
NAMES = np.array(["ok", "fraud"])
RIGHT = fit(logits=LOGITS, labels=NAMES[LABELS], classes=["ok", "fraud"], metric="f1", search="exact")


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.table])
def test_a_table_is_matched_by_its_columns(kind: Any) -> None:
    """Columns in another order are put in that of the classes; without classes they are the classes."""
    table = kind({"fraud": LOGITS[:, 1], "ok": LOGITS[:, 0]})
    result = fit(logits=table, labels=NAMES[LABELS], classes=["ok", "fraud"], metric="f1", search="exact")
    assert result.point == RIGHT.point
    own = fit(logits=table, labels=NAMES[LABELS], metric="f1", positive="fraud", search="exact")
    assert own.point.classes == ("fraud", "ok")
    assert np.array_equal(own.point.decide(LOGITS[:, ::-1]), 1 - RIGHT.point.decide(LOGITS))
    with pytest.raises(WrongColumns, match="logits: wanted the columns ok, scam; got 'fraud'"):
        fit(logits=table, labels=LABELS, classes=["ok", "scam"], metric="f1")


def test_probabilities_and_margins() -> None:
    """The same point as of the logits that they are made of."""
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    for scores in (probabilities, probabilities[:, 1], pd.Series(probabilities[:, 1])):
        result = fit(probabilities=scores, labels=LABELS, classes=["ok", "fraud"], metric="f1", search="exact")
        assert np.array_equal(result.point.decide(logits_from_probabilities(probabilities)), RIGHT.point.decide(LOGITS))
    margins = fit(
        margins=LOGITS[:, 1] - LOGITS[:, 0], labels=LABELS, classes=["ok", "fraud"], metric="f1", search="exact"
    )
    assert margins.point.threshold == pytest.approx(RIGHT.point.threshold)
    with pytest.raises(BadCache, match="one of logits, probabilities and margins; got logits and margins"):
        fit(logits=LOGITS, margins=LOGITS[:, 1], labels=LABELS, metric="f1")
    with pytest.raises(WrongShape, match=r"margins: wanted one number a row, got shape \(60, 2\)"):
        fit(margins=LOGITS, labels=LABELS, metric="f1")


def test_rows_named_otherwise_are_refused() -> None:
    """A pandas index that differs means other rows; one that only counts from 0 names no row."""
    scores = pd.Series(LOGITS[:, 1], index=[f"p{i}" for i in range(N)])
    labels = pd.Series(LABELS, index=[f"p{i}" for i in reversed(range(N))])
    with pytest.raises(BadCache, match="row 0 of margins is 'p0' by its index, of the labels 'p59'"):
        feature_cache(margins=scores, labels=labels)
    assert feature_cache(margins=scores, labels=labels[::-1]).labels.tolist() == LABELS[::-1].tolist()
    assert feature_cache(margins=scores.reset_index(drop=True), labels=labels).rows == N


def test_features_of_a_table_are_in_the_order_of_their_numbers() -> None:
    """Sorted as text, `10` comes before `2`."""
    features, weight = RNG.normal(size=(N, 11)), RNG.normal(size=(2, 11))
    frame = pd.DataFrame({f"features_{i}": features[:, i] for i in sorted(range(11), key=str)})
    cache = feature_cache(features=frame, weight=weight, labels=LABELS)
    assert np.allclose(cache.logits, features @ weight.T)


@pytest.mark.parametrize(
    ("logits", "doubtful"),
    [
        (RNG.random(50), True),
        (RNG.dirichlet([1, 1], 50), True),
        (RNG.dirichlet([1, 1, 1], 50), True),
        (logits_from_probabilities(RNG.random(50)), False),
        (RNG.random((50, 3)), False),
        (RNG.random(50) + 0.5, False),
        (LOGITS[:50], False),
    ],
)
def test_probabilities_passed_as_logits(logits: np.ndarray, *, doubtful: bool) -> None:
    """Warned of, never refused: a score may lie in [0, 1]."""
    labels = np.arange(50) % max(2, logits.ndim and (logits.shape[1] if logits.ndim == 2 else 2))
    result = fit(logits=logits, labels=labels, metric="f1_macro", evidence=False)
    assert any("look like probabilities" in warning for warning in result.warnings) == doubtful


def test_values_beside_the_scores_are_matched_too() -> None:
    """A prior by name, weights by index; a table in the point's own order."""
    prior: Any = {"fraud": 0.2, "ok": 0.8}
    named = feature_cache(logits=LOGITS, labels=NAMES[LABELS], classes=["ok", "fraud"], prior=prior)
    series = pd.Series([0.2, 0.8], index=["fraud", "ok"])
    by_series = feature_cache(logits=LOGITS, labels=NAMES[LABELS], classes=["ok", "fraud"], prior=series)
    for cache in (named, by_series):
        assert cache.prior is not None
        assert cache.prior.tolist() == [0.8, 0.2]
    rows = [f"p{i}" for i in range(N)]
    labels = pd.Series(LABELS, index=rows)
    with pytest.raises(BadCache, match="row 0 of sample_weight is 'p59' by its index, of the labels 'p0'"):
        feature_cache(logits=LOGITS, labels=labels, sample_weight=pd.Series(np.ones(N), index=rows[::-1]))
    grouped = feature_cache(logits=LOGITS, labels=LABELS, group=pd.Series(rows))
    assert grouped.group is not None
    assert len(set(grouped.group.tolist())) == N
    table = pd.DataFrame({"fraud": LOGITS[:, 1], "ok": LOGITS[:, 0]})
    assert np.array_equal(RIGHT.point.decide(table), RIGHT.point.decide(LOGITS))
    with pytest.raises(WrongColumns, match="wanted the columns ok, fraud; got 'scam'"):
        RIGHT.point.decide(table.rename(columns={"fraud": "scam"}))


def test_columns_that_pandas_counted_are_not_named() -> None:
    """A frame without column names is an array."""
    frame = feature_cache(logits=pd.DataFrame([[3.0, 0.0], [0.0, 3.0]]), labels=["1", "0"], classes=["1", "0"])
    assert frame.logits.tolist() == [[3.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize(
    "scores", [pd.Series([0.9, 0.2, 0.6], name="ok"), pd.DataFrame({"probabilities_ok": [0.9, 0.2, 0.6]})]
)
def test_one_score_that_is_named_as_the_first_class(scores: Any) -> None:
    """It speaks for the second class; named as the first it is refused, not turned."""
    with pytest.raises(BadCache, match=r"are named as the first class, .* speaks for the second"):
        feature_cache(probabilities=scores, labels=["ok", "fraud", "ok"], classes=["ok", "fraud"])
