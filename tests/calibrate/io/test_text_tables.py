"""Tables as spreadsheets write them: every dialect gives the same numbers, and what is in doubt is refused."""

import codecs
import csv
import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibrate.cache import feature_cache
from calibrate.errors import BadCache, InputError, NoRows, UnknownLabel, WrongColumns
from calibrate.io.csv_cache import read_csv
from calibrate.io.files import read_cache
from calibrate.io.score_tables import read_scores

RISK = [0.125, 0.75, 0.5, 0.0625]
DIED = [0, 1, 1, 0]
LIMIT = 10**8


def written(delimiter: str, decimal: str, *, quoted: bool = False, start: str = "") -> str:
    """The table of the tests, with a column more, in a dialect."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["patient", "risk", "died"])
    for i, (risk, died) in enumerate(zip(RISK, DIED, strict=True)):
        writer.writerow([f"Weiß, A. {i}", str(risk).replace(".", decimal), died])
    return start + stream.getvalue()


DIALECTS = {
    "comma": written(",", ".").encode(),
    "semicolon, decimal comma": written(";", ",").encode(),
    "semicolon, decimal point": written(";", ".").encode(),
    "tab": written("\t", ",").encode(),
    "quoted decimal comma between commas": written(",", ",").encode(),
    "all quoted": written(";", ",", quoted=True).encode(),
    "byte order mark": codecs.BOM_UTF8 + written(";", ",").encode(),
    "UTF-16, little": codecs.BOM_UTF16_LE + written("\t", ",").encode("utf-16-le"),
    "UTF-16, big": codecs.BOM_UTF16_BE + written(",", ".").encode("utf-16-be"),
    "a line sep=": written(";", ",", start="sep=;\r\n").encode(),
    "old line ends": written(",", ".").replace("\r\n", "\n").encode(),
    "spaces around": written(";", ",").replace(";", " ; ").encode(),
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in DIALECTS.items()])
def test_every_dialect_is_the_same_table(data: bytes, tmp_path: Path) -> None:
    """From bytes and from a file."""
    (tmp_path / "rows.csv").write_bytes(data)
    for source in (data, tmp_path / "rows.csv"):
        cache = feature_cache(**read_scores(source, scores="risk", labels="died", scores_are="probabilities"))
        assert np.allclose(cache.logits[:, 1] - cache.logits[:, 0], np.log(np.divide(RISK, np.subtract(1, RISK))))
        assert cache.labels.tolist() == DIED
        assert cache.classes == ("0", "1")


def test_excel(tmp_path: Path) -> None:
    """The first sheet; whole numbers are labels as they are in CSV."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [["risk", "died", None], *([r, d, None] for r, d in zip(RISK, DIED, strict=True)), [None, None, None]]:
        sheet.append(row)
    book.save(tmp_path / "rows.xlsx")
    cache = feature_cache(**read_scores(tmp_path / "rows.xlsx", scores="risk", labels="died", scores_are="margins"))
    assert cache.logits[:, 1].tolist() == RISK
    assert cache.labels.tolist() == DIED


def test_parquet(tmp_path: Path) -> None:
    """Columns of any names, to the last bit."""
    risk = np.random.default_rng(1).random(50)
    pd.DataFrame({"risk": risk, "died": risk > 0.5, "ward": "A"}).to_parquet(tmp_path / "rows.parquet")
    arrays = read_scores(tmp_path / "rows.parquet", scores="risk", labels="died", scores_are="logits")
    cache = feature_cache(**arrays)
    assert cache.logits[:, 1].tolist() == risk.tolist()
    assert cache.labels.tolist() == (risk > 0.5).astype(int).tolist()


THREE = b"p_b,p_a,p_c,outcome\n0.25,0.5,0.25,a\n0.5,0.25,0.25,b\n0.125,0.125,0.75,c\n"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (THREE.replace(b"p_", b""), {"scores": ["b", "a", "c"]}),
        (THREE.replace(b"p_", b"probabilities_"), {"scores": [f"probabilities_{name}" for name in "bac"]}),
        (THREE.replace(b"p_", b""), {"scores": ["c", "b", "a"], "classes": ["a", "b", "c"]}),
        (THREE, {"scores": ["p_a", "p_b", "p_c"], "classes": ["a", "b", "c"]}),
    ],
)
def test_a_column_for_each_class(data: bytes, options: dict[str, Any]) -> None:
    """Named by the classes in any order, or in the order of the classes as they are passed."""
    cache = feature_cache(**read_scores(data, labels="outcome", scores_are="probabilities", **options))
    assert [cache.classes[i] for i in cache.labels] == ["a", "b", "c"]
    by_class = {name: np.exp(cache.logits[:, i]).tolist() for i, name in enumerate(cache.classes)}
    assert by_class["a"] == pytest.approx([0.5, 0.25, 0.125])
    assert by_class["c"] == pytest.approx([0.25, 0.25, 0.75])


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (b"risk,died\n0.1,0\n", {"scores": "score"}, BadCache, "no column 'score'; the columns are 'risk', 'died'"),
        (b"risk,died\n0.1,0\n", {"labels": "dead"}, BadCache, "no column 'dead'; the columns are 'risk', 'died'"),
        (b"risk,died\n", {}, NoRows, "no rows"),
        (b"", {}, BadCache, "no line of column names"),
        (b"risk,risk\n0.1,0\n", {}, BadCache, "more than once: 'risk'"),
        (
            b"risk;died\n1,234;0\n2,345;1\n",
            {},
            BadCache,
            "a comma that may be a decimal mark or separate thous",
        ),
        (
            b"risk;died\n0,5;0\n0.25;1\n",
            {},
            BadCache,
            "comma in column 'risk', row 0, and a point in column 'risk', r",
        ),
        (b"risk;died\n0,5;0\n12,5%;1\n", {}, BadCache, "'risk' must hold numbers; row 1 is none"),
        (b"risk,died\n0.5,0\n,1\n", {}, BadCache, "column 'risk', row 1 is empty"),
        (b"risk,died\n0.5,0\n0.5,\n", {}, BadCache, "column 'died', row 1 is empty"),
        (
            b"risk,died\n0.5,no\n0.5,yes\n",
            {},
            BadCache,
            "'no', 'yes', and which of them 'risk' speaks for",
        ),
        (b"risk,died\n0.5,\xe4\n", {}, BadCache, "save it as CSV UTF-8"),
        (gzip.compress(b"risk,died\n0.5,1\n", mtime=0), {}, BadCache, "the file is a gzip file: unpack it first"),
        (b"risk,died\n0.5,\0\n", {}, BadCache, "the file is no text"),
        (
            b"risk,died\n0.5,0\n0.5,1\n0.5,2\n",
            {},
            BadCache,
            "for two classes, the labels are '0', '1', '2': name a col",
        ),
        (b"risk,died\n0.5,0\n0.5,1,2\n", {}, BadCache, "Expected 2 columns, got 3"),
        (b"risk,died\n1.5,0\n0.5,1\n", {}, InputError, r"probabilities\[0\] must lie in \[0, 1\]"),
        (b"a,died\n1,0\n", {"scores": ["a", "a"]}, BadCache, "each once; got a, a"),
        (b"a,died\n1,0\n", {"scores": "died"}, BadCache, "cannot hold both"),
        (
            b"a,died\n1,0\n",
            {"scores_are": "risks"},
            BadCache,
            "one of probabilities, logits, margins; got 'risks'",
        ),
        (
            THREE.replace(b"p_", b""),
            {"scores": ["a", "b", "outcome2"], "labels": "outcome"},
            BadCache,
            "no column 'outcome2'",
        ),
        (
            THREE.replace(b"p_c", b"d").replace(b"p_", b""),
            {"scores": ["a", "b", "d"], "labels": "outcome", "classes": ["a", "b", "c"]},
            WrongColumns,
            "wanted the columns a, b, c; got 'd'",
        ),
    ],
)
def test_refused_by_name(data: bytes, options: dict[str, Any], error: type[Exception], message: str) -> None:
    """What is missing, in doubt or no number, with its column and row."""
    read = {"scores": "risk", "labels": "died", "scores_are": "probabilities"} | options
    with pytest.raises(error, match=message):
        feature_cache(**read_scores(data, **read))


def test_the_decimal_mark_settles_what_is_in_doubt() -> None:
    """1,234 is one thousand or one and a bit."""
    data = b"risk;died\n1,234;0\n2,345;1\n"
    arrays = read_scores(data, scores="risk", labels="died", scores_are="margins", decimal=",")
    assert arrays["logits"].tolist() == [1.234, 2.345]


def test_feature_columns_are_in_the_order_of_their_numbers() -> None:
    """Sorted as text, as many tools write them, `features_10` comes before `features_2`."""
    features = np.random.default_rng(0).normal(size=(5, 12))
    names = sorted(range(12), key=str)
    frame = pd.DataFrame({f"features_{i}": features[:, i] for i in names})
    frame["labels"] = [0, 1, 0, 1, 1]
    assert np.array_equal(read_csv(frame.to_csv(index=False).encode(), most_bytes=LIMIT)["features"], features)


def test_feature_columns_that_are_numbered_from_1_in_another_order_are_refused() -> None:
    """`features_10` before `features_2` may be any order where the numbers do not start at 0."""
    names = sorted((f"features_{i}" for i in range(1, 13)), key=str)
    data = ",".join([*names, "labels"]).encode() + b"\n" + b",".join([b"0.5"] * 12) + b",1\n"
    with pytest.raises(WrongColumns, match="'2' comes after '12'"):
        read_csv(data, most_bytes=LIMIT)


def test_logit_columns_are_named_by_their_class() -> None:
    """In any order, and with labels that are class names."""
    data = b"logits_fraud,labels,logits_clear\n2.0,fraud,-1.0\n-3.0,clear,1.0\n"
    cache = read_cache(data)
    assert cache.classes == ("fraud", "clear")
    assert [cache.classes[i] for i in cache.labels] == ["fraud", "clear"]
    assert cache.logits[:, cache.classes.index("fraud")].tolist() == [2.0, -3.0]


def test_numbers_cannot_count_columns_that_are_named() -> None:
    """Their order in a file means nothing, so 0 and 1 could be either class; in Python `classes` settles it."""
    with pytest.raises(
        UnknownLabel, match="'labels', row 0 is none of the classes that the columns are named by: 'fraud'"
    ):
        read_cache(b"logits_fraud,labels,logits_clear\n2.0,0,-1.0\n-3.0,1,1.0\n")
    named = read_cache(b"logits_7,labels,logits_3\n2.0,7,-1.0\n-3.0,3,1.0\n")
    assert [named.classes[i] for i in named.labels] == ["7", "3"]
    table = pd.DataFrame({"fraud": [2.0, -3.0], "clear": [-1.0, 1.0]})
    with pytest.raises(BadCache, match=r"labels are numbers and the columns are named \('fraud', 'clear'\)"):
        feature_cache(logits=table, labels=[0, 1])
    cache = feature_cache(logits=table, labels=[1, 0], classes=["clear", "fraud"])
    assert cache.logits.tolist() == [[-1.0, 2.0], [1.0, -3.0]]


def test_a_file_of_other_columns_names_those_that_are_there() -> None:
    """The first error of an analyst with a table of risks."""
    with pytest.raises(BadCache, match=r"labels is missing. The columns are 'patient', 'risk', 'died': say which"):
        read_cache(DIALECTS["semicolon, decimal comma"])


@pytest.mark.parametrize(
    ("data", "scores", "labels"),
    [
        (b"2,1,0,y\n.7,.2,.1,2\n.1,.8,.1,1\n", ["2", "1", "0"], ["2", "1"]),
        (b"probabilities_1,probabilities_0,y\n.9,.1,1\n.2,.8,0\n", ["probabilities_1", "probabilities_0"], ["1", "0"]),
        (b"1,2,3,y\n.9,.05,.05,1\n.1,.8,.1,2\n", ["1", "2", "3"], ["1", "2"]),
    ],
)
def test_columns_that_are_named_by_numbers(data: bytes, scores: list[str], labels: list[str]) -> None:
    """The label is the class whose column has the highest probability, in each of these rows."""
    cache = feature_cache(**read_scores(data, scores=scores, labels="y", scores_are="probabilities"))
    assert [cache.classes[i] for i in cache.labels] == labels
    assert [cache.classes[i] for i in cache.logits.argmax(axis=1)] == labels


def test_numbers_cannot_count_scores_that_are_named() -> None:
    """Nor can one column speak for the second class under the name of the first."""
    with pytest.raises(BadCache, match="the columns of scores dead, alive: pass classes"):
        read_scores(b"dead,alive,y\n.9,.1,1\n.2,.8,0\n", scores=["dead", "alive"], labels="y", scores_are="logits")
    with pytest.raises(BadCache, match="column 'alive' is named as the first of 'alive', 'dead'"):
        read_scores(b"alive,y\n.9,alive\n.2,dead\n", scores="alive", labels="y", scores_are="probabilities",
                    classes=["alive", "dead"])  # fmt: skip


@pytest.mark.parametrize("columns", [["Dead", "Alive"], ["p_dead", "p_alive"], ["P(x) dead", "P(x) alive"]])
def test_columns_that_look_like_the_classes_in_another_order(columns: list[str]) -> None:
    """Refused; in the order of the classes they are read."""
    data = ",".join([*columns, "y"]).encode() + b"\n.9,.1,dead\n.2,.8,alive\n"
    options: dict[str, Any] = {"labels": "y", "scores_are": "probabilities", "classes": ["alive", "dead"]}
    with pytest.raises(BadCache, match="are named as the classes in another order than 'alive', 'dead'"):
        read_scores(data, scores=columns, **options)
    cache = feature_cache(**read_scores(data, scores=columns[::-1], **options))
    assert cache.logits.argmax(axis=1).tolist() == cache.labels.tolist() == [1, 0]
    with pytest.raises(BadCache, match="is named as the first of 'alive', 'dead'"):
        read_scores(data, scores=columns[1], **options)


@pytest.mark.parametrize(("classes", "indices"), [(["True", "False"], [0, 1]), (["no", "yes"], [1, 0]), (None, [1, 0])])
def test_truth_values(classes: list[str] | None, indices: list[int], tmp_path: Path) -> None:
    """Names where the classes are those, else 0 and 1; from Parquet, CSV and Excel alike."""
    frame = pd.DataFrame({"s": [1.5, 2.5], "y": [True, False]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    for suffix in ("parquet", "csv", "xlsx"):
        arrays = read_scores(tmp_path / f"t.{suffix}", scores="s", labels="y", scores_are="margins", classes=classes)
        assert feature_cache(**arrays).labels.tolist() == indices, suffix


def test_damage_is_one_sentence_without_a_cell(tmp_path: Path) -> None:
    """A header that is not UTF-8, a row too long, a column twice, a workbook cut short, a header of 9,000 columns."""
    cases = {
        "Gr\u00f6\u00dfe,y\n1,1\n2,0\n".encode("latin-1"): "save it as CSV UTF-8",
        b"s,y\n1,1\n2,0,Mrs Smith\n": r"Row #3: Expected 2 columns, got 3$",
    }
    for data, message in cases.items():
        with pytest.raises(BadCache, match=message):
            read_scores(data, scores="s", labels="y", scores_are="margins")
    stream = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays([pa.array([1.5]), pa.array([9.0]), pa.array([1])], names=["s", "s", "y"]), stream
    )
    with pytest.raises(BadCache, match="more than once: 's'"):
        read_scores(stream.getvalue(), scores="s", labels="y", scores_are="margins")
    pd.DataFrame({"s": [1.5, 2.5], "y": [1, 0]}).to_excel(tmp_path / "t.xlsx", index=False)
    with zipfile.ZipFile(tmp_path / "t.xlsx") as book, zipfile.ZipFile(tmp_path / "cut.xlsx", "w") as cut:
        for name in book.namelist():
            cut.writestr(name, book.read(name)[: -20 if "sheet1" in name else None])
    with pytest.raises(BadCache, match="not a whole Excel workbook"):
        read_scores(tmp_path / "cut.xlsx", scores="s", labels="y", scores_are="margins")
    wide = (
        ",".join(["labels", *(f"features_{i}" for i in range(9000))]) + "\n" + ",".join(["1", *["0.5"] * 9000]) + "\n"
    )
    assert read_csv(wide.encode(), most_bytes=LIMIT)["features"].shape == (1, 9000)
