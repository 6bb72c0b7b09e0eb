"""Tables of scores at the command line, as a hospital has them."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from calibrate import OperatingPoint, fit
from calibrate.logits import logits_from_probabilities
from tests.service.test_cli import setpoint

RNG = np.random.default_rng(11)
N = 300
DIED = (RNG.random(N) < 0.15).astype(int)
RISK = np.round(1 / (1 + np.exp(-(RNG.normal(size=N) + 2.2 * DIED - 2))), 6)
COLUMNS = ["--scores", "risk", "--labels", "died", "--scores-are", "probabilities"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files as a spreadsheet of a German office writes them."""
    folder = tmp_path_factory.mktemp("tables")
    for name, rows in {"val": slice(0, 200), "test": slice(200, None)}.items():
        lines = [
            f"{i};{r:.6f};{d}".replace(".", ",") for i, (r, d) in enumerate(zip(RISK[rows], DIED[rows], strict=True))
        ]
        (folder / f"{name}.csv").write_text("\ufeff" + "\r\n".join(["patient;risk;died", *lines]), encoding="utf-8")
    return folder


def test_fit_evaluate_and_curve(folder: Path, tmp_path: Path) -> None:
    """The library's own point; on other rows the F1 that scikit-learn computes of its decisions."""
    out = tmp_path / "point.json"
    setpoint("fit", folder / "val.csv", *COLUMNS, "--metric", "f1", "--out", out)
    expected = fit(probabilities=RISK[:200], labels=DIED[:200], metric="f1")
    assert OperatingPoint.load(out) == expected.point
    reply = json.loads(setpoint("evaluate", folder / "test.csv", *COLUMNS, "--point", out, "--json").stdout)
    decided = expected.point.decide(logits_from_probabilities(RISK[200:]))
    assert reply["point"]["f1"]["value"] == pytest.approx(f1_score(DIED[200:], decided))
    beside = setpoint("evaluate", folder / "test.csv", *COLUMNS, "--point", out, "--threshold", "0.5", "--json")
    today = json.loads(beside.stdout)["threshold 0.5"]["f1"]["value"]
    assert today == pytest.approx(f1_score(DIED[200:], RISK[200:] >= 0.5))
    neither = setpoint("evaluate", folder / "test.csv", *COLUMNS, code=1).stderr
    assert "evaluate needs --point, a saved point, --threshold, a cut in use today" in neither
    table = setpoint("curve", folder / "test.csv", *COLUMNS, "--out", "-").stdout
    assert "threshold" in table.splitlines()[0]
    held_out = setpoint("fit", folder / "val.csv", *COLUMNS, "--metric", "f1", "--test", folder / "test.csv", "--json")
    assert json.loads(held_out.stdout)["evidence"]["f1"]["rows"] == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "The columns are 'patient', 'risk', 'died': say which hold the scores and the labels (--scores"),
        (["--scores", "risk"], "--scores risk needs --labels too"),
        (["--scores", "risk", "--labels", "died"], "--scores risk needs --scores-are too"),
        ([*COLUMNS[:-1], "risks"], "scores_are must be one of probabilities, logits, margins; got 'risks'"),
        (["--scores", "score", *COLUMNS[2:]], "there is no column 'score'; the columns are 'patient', 'risk', 'died'"),
        (["--labels", "died"], "--labels is for a table of scores: name their column with --scores"),
        ([*COLUMNS, "--classes", "alive,dead,lost"], "3 classes (alive, dead, lost) but logits have 2 columns"),
    ],
)
def test_what_is_missing_is_named(folder: Path, options: list[str], message: str) -> None:
    """In one line, with the columns that are there."""
    assert message in setpoint("fit", folder / "val.csv", *options, "--metric", "f1", code=1).stderr


def test_probabilities_as_logits_are_warned_of(folder: Path, tmp_path: Path) -> None:
    """At a fit and where saved points are scored."""
    as_logits = [*COLUMNS[:-1], "logits"]
    out = tmp_path / "point.json"
    printed = setpoint("fit", folder / "val.csv", *as_logits, "--metric", "f1", "--out", out)
    assert "the logits look like probabilities: all lie in [0, 1]" in " ".join(printed.stdout.split())
    assert "look like probabilities" in setpoint("evaluate", folder / "test.csv", *as_logits, "--point", out).stderr
