"""Tables are matched with a model by name: what is right comes of the same rows in the model's own order."""

import json
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from calibrate import FeatureCache, extract
from calibrate.errors import BadCache, BadModel, UnknownCategory, WrongColumns
from calibrate.extraction.named import columns_of, to_inputs
from calibrate.io.description import read_columns
from calibrate.io.model import Port
from tests import models

NAMES = ["age", "TSH", "größe", "sex"]
COLUMNS: list[Any] = [*NAMES[:3], {"name": "sex", "codes": {"F": 0, "M": 1}}]
MODEL = models.network(2, metadata={"setpoint": json.dumps({"columns": COLUMNS})})
X = np.random.default_rng(0).normal(size=(30, models.WIDTH)).astype(np.float32)
X[:, 3] = np.arange(30) % 2
TEXTS = np.array(["F", "M"])[X[:, 3].astype(int)]
Y = np.arange(30) % 3 % 2
RIGHT = ort.InferenceSession(MODEL).run(None, {"x": X})[0]  # probabilities
FRAME = pd.DataFrame(X, columns=NAMES)
ORDERS = [[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 1, 0]]


def probabilities(model: Any, data: Any, **options: Any) -> np.ndarray:
    """Of the second class, as the cache has them."""
    cache = extract(model, data, labels=Y, batch_rows=7, **options)
    assert isinstance(cache, FeatureCache)
    return np.asarray(1 / (1 + np.exp(cache.logits[:, 0] - cache.logits[:, 1])))


@pytest.mark.parametrize("order", ORDERS)
def test_described_columns_in_any_order(order: list[int]) -> None:
    """pandas with codes, texts and categories, Arrow, and a dict of arrays."""
    frame = FRAME.iloc[:, order]
    texts = frame.assign(sex=TEXTS)
    tables = [frame, texts, texts.astype({"sex": "category"}), pa.Table.from_pandas(texts, preserve_index=False)]
    for table in [*tables, {name: texts[name].to_numpy() for name in texts}]:
        assert np.allclose(probabilities(MODEL, table), RIGHT[:, 1], atol=1e-6)


def test_a_missing_value_of_a_table_is_missing() -> None:
    """Of a category and of a nullable number, which pandas holds as an object."""
    frame = FRAME.assign(sex=[None, *TEXTS[1:]], age=pd.array(range(30), dtype="Int64"))
    frame.loc[1, "age"] = pd.NA
    columns = columns_of(frame)
    assert columns is not None
    rows = to_inputs(columns, [Port("x", "float32", (None, 4))], read_columns(COLUMNS))["x"]
    assert np.isnan(rows[0, 3])
    assert np.isnan(rows[1, 0])
    assert np.isnan(rows).sum() == 2
    assert rows[2:, 0].tolist() == list(range(2, 30))


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (FRAME.drop(columns="TSH"), WrongColumns, "batch 0: input 'x': column 'TSH' is missing from age, größe, sex"),
        (FRAME.assign(id=1), WrongColumns, "wanted the columns age, TSH, größe, sex; got 'id'"),
        (FRAME.rename(columns={"age": "Age"}), WrongColumns, "got 'Age'"),
        (FRAME.set_axis(["age", "TSH", "age", "sex"], axis=1), WrongColumns, "column 'age' comes more than once"),
        (FRAME.assign(sex=["F"] * 5 + ["X"] * 25), UnknownCategory, "column 'sex', row 5: wanted one of F, M, got 'X'"),
        (FRAME.assign(age="old"), UnknownCategory, "column 'age', row 0: wanted a number, got 'old'"),
        (FRAME.assign(age=pd.Timestamp("2026-01-01")), BadCache, "column 'age': wanted numbers, got datetime64"),
        ({"age": X[:, 0], "TSH": X[:, 1]}, WrongColumns, "column 'größe' is missing from age, TSH"),
        ({"y": X}, BadModel, "the model takes x; got y, without x"),
    ],
)
def test_tables_of_other_columns_are_refused(table: Any, error: type[Exception], message: str) -> None:
    """With the batch, the column and the row."""
    with pytest.raises(error, match=message):
        extract(MODEL, table, labels=Y)


def test_columns_that_nothing_describes_go_in_order() -> None:
    """By their numbers where they count; refused where their own numbers contradict it."""
    plain = models.network(2)
    assert np.allclose(probabilities(plain, FRAME), RIGHT[:, 1], atol=1e-6)
    assert np.allclose(probabilities(plain, pd.DataFrame(X)), RIGHT[:, 1], atol=1e-6)
    counted = pd.DataFrame(X[:, [3, 1, 0, 2]], columns=[3, 1, 0, 2])
    assert np.allclose(probabilities(plain, counted), RIGHT[:, 1], atol=1e-6)
    with pytest.raises(WrongColumns, match="'V1' comes after 'V2'"):
        extract(plain, pd.DataFrame(X, columns=["V2", "V1", "V3", "V4"]), labels=Y)


def test_a_table_of_several_inputs() -> None:
    """Each column is the input of its name."""
    ports = [Port("a", "float32", (None, 1)), Port("b", "float32", (None,))]
    made = to_inputs({"b": X[:, 0], "a": X[:, 1]}, ports, ())
    assert (made["a"].tolist(), made["b"].tolist()) == (X[:, 1:2].tolist(), X[:, 0].tolist())
    with pytest.raises(WrongColumns, match="the model's inputs: wanted the columns a, b; got 'c'"):
        to_inputs({"b": X[:, 0], "c": X[:, 1]}, ports, ())


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(5, random_state=0),
        make_pipeline(ColumnTransformer([("scaled", StandardScaler(), ["TSH", "age", "sex", "größe"])]),
                      LogisticRegression()),
    ],
    ids=["linear", "pipeline", "forest", "picked"],
)  # fmt: skip
@pytest.mark.parametrize("order", ORDERS)
def test_scikit_learn_models_that_know_their_columns(model: Any, order: list[int]) -> None:
    """scikit-learn refuses another order; here it is put right."""
    fitted = model.fit(FRAME, Y)
    right = fitted.predict_proba(FRAME)[:, 1]
    found = probabilities(fitted, FRAME.iloc[:, order], output_kind="probabilities")
    assert np.allclose(found, right, atol=1e-6)


def test_scikit_learn_models_refuse_other_columns() -> None:
    """In one sentence, as the rest; arrays have no names and go by place."""
    fitted = LogisticRegression().fit(FRAME, Y)
    with pytest.raises(WrongColumns, match="batch 0: LogisticRegression: column 'TSH' is missing from age, größe, sex"):
        extract(fitted, FRAME.drop(columns="TSH"), labels=Y)
    with pytest.raises(WrongColumns, match="wanted the columns age, TSH, größe, sex; got 'id'"):
        extract(fitted, FRAME.assign(id=1), labels=Y)
    unnamed = LogisticRegression().fit(X, Y)
    assert np.allclose(probabilities(unnamed, X), unnamed.predict_proba(X)[:, 1], atol=1e-6)


def test_lightgbm_matches_names() -> None:
    """It looks at no name itself: another order gave other margins without a word. It writes spaces as underscores."""
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    frame = FRAME.set_axis(["age", "T S H", "height", "sex"], axis=1)
    options = {"n_estimators": 5, "min_child_samples": 3, "verbose": -1}
    fitted = lightgbm.LGBMClassifier(**options).fit(frame, Y)
    right = fitted.booster_.predict(frame)
    for order in ORDERS:
        for model in (fitted, fitted.booster_):
            classes = None if model is fitted else ["0", "1"]
            found = probabilities(model, frame.iloc[:, order], classes=classes)
            assert np.allclose(found, right, atol=1e-6)
    with pytest.raises(WrongColumns, match="LightGBM: column 'age' is missing"):
        extract(fitted, frame.drop(columns="age"), labels=Y)
    unnamed = lightgbm.LGBMClassifier(**options).fit(X, Y)
    assert np.allclose(probabilities(unnamed, X), unnamed.booster_.predict(X), atol=1e-6)


def test_xgboost_matches_names() -> None:
    """It refuses another order; here it is put right."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    frame = FRAME.set_axis(["age", "TSH", "height", "sex"], axis=1)
    fitted = xgboost.XGBClassifier(n_estimators=5).fit(frame, Y)
    right = fitted.predict_proba(frame)[:, 1]
    for order in ORDERS:
        assert np.allclose(probabilities(fitted, frame.iloc[:, order]), right, atol=1e-6)
