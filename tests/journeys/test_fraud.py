"""A bank has a LightGBM model and tables with named columns: from its files to a served point.

The truth is simulated: about 3 % of card payments are fraud. The numbers are compared with scikit-learn's.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import precision_score, recall_score

import calibrate
from calibrate.errors import InputError
from tests.servers import Server, running
from tests.service.test_cli import setpoint

COLUMNS = ["amount", "hour", "abroad", "age_of_card"]


def payments(rows: int, seed: int) -> pd.DataFrame:
    """Payments with the column `outcome`: ok or fraud."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "amount": rng.lognormal(3, 1, rows),
            "hour": rng.integers(0, 24, rows),
            "abroad": (rng.random(rows) < 0.1).astype(int),
            "age_of_card": rng.exponential(400, rows),
        }
    )
    risk = -6.5 + 0.9 * np.log(table.amount) + 1.5 * table.abroad - 0.002 * table.age_of_card + (table.hour < 5) * 1.2
    table["outcome"] = np.where(rng.random(rows) < expit(risk), "fraud", "ok")
    return table


def risks(model: lightgbm.LGBMClassifier, table: pd.DataFrame) -> np.ndarray:
    """The model's own probabilities, (n, 2)."""
    return np.asarray(model.predict_proba(table[COLUMNS]))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tables as they came out of a database, and the model that was trained on the first."""
    folder = tmp_path_factory.mktemp("bank")
    for seed, name in enumerate(("train", "val", "june")):
        payments(6000, seed).to_csv(folder / f"{name}.csv", index=False)
    train = pd.read_csv(folder / "train.csv")
    model = lightgbm.LGBMClassifier(n_estimators=60, num_leaves=15, verbose=-1, n_jobs=1, random_state=0)
    model.fit(train[COLUMNS], train.outcome)
    model.booster_.save_model(folder / "model.txt")
    return folder


@pytest.fixture(scope="module")
def fitted(files: Path) -> lightgbm.LGBMClassifier:
    """The same model, as the bank's own program has it."""
    train = pd.read_csv(files / "train.csv")
    model = lightgbm.LGBMClassifier(n_estimators=60, num_leaves=15, verbose=-1, n_jobs=1, random_state=0)
    return model.fit(train[COLUMNS], train.outcome)


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    """A server without models."""
    with running(files) as server:
        yield server


def test_from_tables_to_decisions(files: Path, fitted: lightgbm.LGBMClassifier, server: Server) -> None:
    """Fraud is the first class by name and the one that is meant; the promise is kept on rows that fitted nothing."""
    val, june = pd.read_csv(files / "val.csv"), pd.read_csv(files / "june.csv")
    cache = calibrate.extract(fitted, val[COLUMNS], labels=val.outcome, out=files / "val.npz", progress=False)
    assert cache.classes == ("fraud", "ok")
    assert np.allclose(expit(cache.logits[:, 1]), risks(fitted, val)[:, 1])
    unnamed = calibrate.fit(cache, metric="precision", constraints="recall >= 0.7", evidence=False)
    assert any("the positive class is 'ok'" in text and "positive='fraud'" in text for text in unnamed.warnings)

    point = files / "careful.json"
    options = ["--metric", "precision", "--constraint", "recall >= 0.6 @ 95%", "--positive", "fraud"]
    table = setpoint("fit", files / "val.npz", *options, "--out", point).stdout
    assert "recall >= 0.6 @ 95%" in " ".join(table.split())

    setpoint("publish", "--model", "cards", "--classes", "fraud,ok", "--server", server.address)
    setpoint("publish", point, "--model", "cards", "--server", server.address)
    listed = " ".join(setpoint("points", "list", "cards", "--server", server.address).stdout.split())
    assert "recall >= 0.6 @ 95%" in listed
    assert "fraud" in listed

    probabilities = risks(fitted, june)
    body = {"model": "cards", "operating_point": "careful", "probabilities": probabilities.tolist()}
    reply = server.post("/predict", body)
    decided = np.array([row["label"] for row in reply["predictions"]])
    threshold = calibrate.OperatingPoint.load(point).threshold  # on the probability of the second class, ok
    assert np.array_equal(decided == "ok", probabilities[:, 1] > threshold)
    assert recall_score(june.outcome, decided, pos_label="fraud") >= 0.6
    assert precision_score(june.outcome, decided, pos_label="fraud") > 2 * (june.outcome == "fraud").mean()

    # Two hundred cases can be looked at a day: exactly so many of June's rows, those with the highest risk.
    saved = calibrate.OperatingPoint.load(point)
    top = calibrate.decide_top(saved, calibrate.logits_from_probabilities(probabilities), 200, positive="fraud")
    assert (top == 0).sum() == 200
    assert probabilities[top == 0, 0].min() >= probabilities[top == 1, 0].max()


def test_columns_in_another_order_are_the_same_rows(files: Path, fitted: lightgbm.LGBMClassifier) -> None:
    """By name, or refused by name; never taken as they stand."""
    val = pd.read_csv(files / "val.csv").head(500)
    right = calibrate.extract(fitted, val[COLUMNS], labels=val.outcome, progress=False)
    cache = calibrate.extract(fitted, val[COLUMNS[::-1]], labels=val.outcome, progress=False)
    assert np.array_equal(cache.logits, right.logits)
    with pytest.raises(InputError, match="amount"):
        calibrate.extract(fitted, val[COLUMNS].rename(columns={"amount": "sum"}), labels=val.outcome, progress=False)


def test_does_it_still_hold(files: Path, fitted: lightgbm.LGBMClassifier) -> None:
    """A saved point and today's cut on the month's rows, from a table of scores."""
    june = pd.read_csv(files / "june.csv")
    june["risk"] = risks(fitted, june)[:, 0]
    june[["risk", "outcome"]].to_csv(files / "scores.csv", index=False, sep=";", decimal=",")
    columns = ["--scores", "risk", "--labels", "outcome", "--scores-are", "probabilities", "--classes", "ok,fraud"]
    val = pd.read_csv(files / "val.csv")
    result = calibrate.fit(
        probabilities=risks(fitted, val)[:, 0], labels=val.outcome, classes=["ok", "fraud"], metric="f1"
    )
    result.save(files / "f1.json")
    printed = setpoint(
        "evaluate", files / "scores.csv", *columns, "--point", files / "f1.json", "--threshold", "0.5", "--json"
    ).stdout
    reply = json.loads(printed)
    for name, cut in (("f1", result.point.threshold), ("threshold 0.5", 0.5)):
        expected = recall_score(june.outcome == "fraud", june.risk > cut)
        assert reply[name]["recall"]["value"] == pytest.approx(expected)
