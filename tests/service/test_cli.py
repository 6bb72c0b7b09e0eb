"""`setpoint` at the command line: tables for people, JSON for programs, one line for an error."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrate import OperatingPoint, calibration_quality, feature_cache, fit, read_cache, write_cache
from calibrate.maps import CalibrationMap
from tests.models import network
from tests.problems import draw
from tests.servers import Server


def setpoint(*arguments: str | Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does."""
    import os

    done = subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "120", **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three caches of one problem: training, validation and test rows; and one of three classes."""
    folder = tmp_path_factory.mktemp("caches")
    for seed, name in enumerate(("train", "val", "test")):
        problem = draw((0.9, 0.1), 400, 20 + seed)
        cache = feature_cache(
            logits=problem.logits, labels=problem.labels, classes=["clear", "fraud"], prior=problem.prior
        )
        write_cache(folder / f"{name}.npz", cache)
    three = draw((0.6, 0.3, 0.1), 300, 30)
    write_cache(
        folder / "three.npz", feature_cache(logits=three.logits, labels=three.labels, classes=["a", "b", "[c]"])
    )
    return folder


def test_fit_prints_the_librarys_answer(caches: Path, tmp_path: Path) -> None:
    """As JSON every number; as a table the threshold, the states and the evidence; saved, the point itself."""
    arguments: list[str | Path] = ["fit", caches / "val.npz", "--metric", "f1", "--out", tmp_path / "f1.json"]
    said = json.loads(setpoint(*arguments, "--json").stdout)
    expected = fit(read_cache(caches / "val.npz"), metric="f1")
    assert said == json.loads(json.dumps(expected.to_dict()))
    assert OperatingPoint.load(tmp_path / "f1.json") == expected.point
    table = setpoint(*arguments).stdout
    assert "bias_adjustment (committee) for f1 on 400 rows" in table
    assert f"decides 'fraud' where its probability is above {expected.point.threshold:.6g}" in table
    assert "evidence: optimism-corrected" in table
    assert "the procedure that chose it gives" in table
    assert f"{expected.evidence['recall'].value:.3f}" in table
    assert f"saved to {tmp_path / 'f1.json'}" in table.replace("\n", "")


def test_fit_takes_every_option(caches: Path) -> None:
    """The paper's search on training rows, held-out evidence, a prior, a tau, another positive class."""
    said = json.loads(
        setpoint("fit", caches / "val.npz", "--metric", "g_mean", "--search", "decimal", "--digits", "2",
                 "--train", caches / "train.npz", "--test", caches / "test.npz", "--json").stdout
    )  # fmt: skip
    assert said["mis_rows"] == "train"
    assert said["options"] == {"search": "decimal", "digits": 2}
    assert said["evidence"]["g_mean"]["kind"] == "held_out"
    said = json.loads(
        setpoint("fit", caches / "val.npz", "--metric", "f1", "--method", "logit_adjustment", "--tau", "1",
                 "--prior", "0.8,0.2", "--positive", "clear", "--json").stdout
    )  # fmt: skip
    assert said["point"]["bias"] == pytest.approx([-np.log(0.8), -np.log(0.2)])
    assert said["positive"] == "clear"


def test_fit_is_told_for_another_prevalence(caches: Path) -> None:
    """And corrects what training sampled: as the library, and in words."""
    from calibrate import read_cache

    arguments: list[str | Path] = ["fit", caches / "val.npz", "--metric", "cost(fp=1, fn=50)"]
    arguments += ["--method", "minimum_risk"]
    arguments += ["--prevalence", "0.02", "--negatives-kept", "0.1", "--class-weights", "1,20"]
    expected = fit(
        read_cache(caches / "val.npz"),
        metric="cost(fp=1, fn=50)",
        method="minimum_risk",
        prevalence=0.02,
        negatives_kept=0.1,
        class_weights=[1, 20],
    )
    assert json.loads(setpoint(*arguments, "--json").stdout) == json.loads(json.dumps(expected.to_dict()))
    said = " ".join(setpoint(*arguments).stdout.split())
    assert "at a prevalence of 0.98 clear, 0.02 fraud; at any: balanced_accuracy, recall, specificity, g_mean" in said
    assert "the point corrects: the training loss weighted the classes: clear 1, fraud 20" in said
    assert "gain in cost(fp=1, fn=50) over the plain model, on the same rows" in said


def test_a_curve_is_written_with_its_bands(caches: Path, tmp_path: Path) -> None:
    """Thinned, and at another prevalence."""
    out = tmp_path / "curve.csv"
    options = ["--metric", "precision", "--metric", "recall", "--points", "40", "--prevalence", "0.01"]
    said = setpoint("curve", caches / "val.npz", "--out", out, *options).stdout
    lines = out.read_text().splitlines()
    assert lines[0] == (
        "margin,threshold,tp,fp,fn,tn,precision,precision low,precision high,recall,recall low,recall high"
    )
    assert f"{len(lines) - 1} cuts at a prevalence of 0.01" in said
    assert 10 < len(lines) < 100
    assert "two classes" in setpoint("curve", caches / "three.npz", "--out", out, code=1).stderr


def test_fit_certifies(caches: Path, tmp_path: Path) -> None:
    """As a table of what is promised, in JSON too; infeasible says what is needed, there and certifiable."""
    rows: list[str | Path] = ["fit", caches / "val.npz", "--metric", "precision", "--constraint"]
    table = setpoint(*rows, "recall >= 0.7 @ 95%", "--out", tmp_path / "safe.json").stdout
    assert "recall >= 0.7 @ 95%" in table
    assert "order statistic" in table
    (guarantee,) = json.loads((tmp_path / "safe.json").read_text())["guarantees"]
    assert (guarantee["confidence"], guarantee["interval"]["kind"]) == (0.95, "certified")
    assert f"{guarantee['errors_seen']} of {guarantee['errors_allowed']} allowed" in table
    refused = setpoint(*rows, "recall >= 0.99 @ 95%", code=1)
    assert "needs 299 rows of 'fraud' or more, there are" in refused.stderr
    assert "can be certified now" in refused.stderr


def test_more_than_two_classes_and_names_with_brackets(caches: Path) -> None:
    """Nothing in a name is taken for markup."""
    table = setpoint("fit", caches / "three.npz", "--metric", "recall[[c]]").stdout
    assert "[c]" in table
    assert "recall[[c]]" in table


def test_evaluate_compares_points_on_rows_that_did_not_fit_them(caches: Path, tmp_path: Path) -> None:
    """Beside the plain model, with metrics of one's own; the fitting rows are refused."""
    for metric in ("f1", "g_mean"):
        setpoint("fit", caches / "val.npz", "--metric", metric, "--out", tmp_path / f"{metric}.json")
    points: list[str | Path] = ["--point", tmp_path / "f1.json", "--point", tmp_path / "g_mean.json"]
    said = json.loads(setpoint("evaluate", caches / "test.npz", *points, "--metric", "fbeta(2)", "--json").stdout)
    assert said.keys() == {"plain model", "f1", "g_mean", "points"}
    assert said["points"]["g_mean"] == {"fitted_for": "g_mean", "positive": "fraud", "prevalence": None, "bounds": []}
    assert said["f1"]["fbeta(2)"]["kind"] == "held_out"
    table = setpoint("evaluate", caches / "test.npz", *points).stdout
    assert f"{said['g_mean']['g_mean']['value']:.3f}" in table
    assert "positive class 'fraud'" in table.replace("\n", " ")
    refused = setpoint("evaluate", caches / "val.npz", *points, code=1)
    assert "was fitted on these very rows" in refused.stderr
    refused = setpoint("evaluate", caches / "three.npz", *points, code=1)
    assert "is for clear, fraud; the rows have a, b, [c]" in refused.stderr


def test_evaluate_tells_how_true_the_probabilities_are(caches: Path, tmp_path: Path) -> None:
    """The model's, and those behind the map that a point contains, as a table or as JSON."""
    out = tmp_path / "mapped.json"
    shown = setpoint("fit", caches / "val.npz", "--metric", "f1", "--calibration", "auto", "--out", out).stdout
    assert "log loss saved per row, cross-fitted" in shown
    arguments = ("evaluate", caches / "test.npz", "--point", out, "--calibration")
    said = json.loads(setpoint(*arguments, "--json").stdout)["calibration"]
    rows, kept = read_cache(caches / "test.npz"), json.loads(out.read_text())["calibration"]
    by = CalibrationMap.from_dict(kept, rows.classes)
    assert by is not None
    assert said["plain model"] == calibration_quality(rows).to_dict()
    assert said["mapped"] == calibration_quality(rows, by, point=OperatingPoint.load(out)).to_dict()
    assert said["mapped"]["log_loss"] < said["plain model"]["log_loss"]
    table = setpoint(*arguments).stdout
    assert f"{said['mapped']['classes']['fraud']['slope']:.4f}" in table
    assert "near the cut" in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "missing.npz", "--metric", "f1"], "there is no file missing.npz"),
        (["fit", "VAL", "--metric", "auc"], "metric must be one of accuracy"),
        (["fit", "VAL", "--metric", "f1", "--prior", "x"], "shares must be numbers with commas between"),
        (["fit", "VAL", "--metric", "f1", "--method", "magic"], "method must be one of"),
        (["fit", "VAL", "--metric", "f1", "--out", "no/such/folder/f.json"], "no/such/folder/f.json: No such file"),
        (["evaluate", "VAL", "--point", "missing.json"], "missing.json"),
        (["publish", "missing.json", "--model", "m"], "missing.json cannot be read"),
        (["publish", "POINT", "--model", "m", "--server", "http://127.0.0.1:9"], "no answer from http://127.0.0.1:9"),
        (["publish", "POINT", "--model", "m", "--server", "127.0.0.1:9"], "start a server with 'setpoint serve'"),
        (["publish", "POINT", "--model", "m", "--make-default", "--name", "a"], "--make-default needs the reason"),
        (["publish", "POINT", "--model", "m", "--make-default"], "--make-default needs the reason"),
        (["publish", "POINT", "--model", "m", "--server", "not an address"], "no answer from"),
        (["serve", "--host", "0.0.0.0", "--port", "0"], "set SETPOINT_TOKEN"),  # noqa: S104
        (["serve", "--port", "99999"], "port: "),
    ],
)
def test_an_error_is_one_line(caches: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    """On standard error, without a traceback, and exit code 1."""
    OperatingPoint.argmax(["a", "b"]).save(tmp_path / "p.json")
    places = {"VAL": caches / "val.npz", "POINT": tmp_path / "p.json"}
    done = setpoint(*(places.get(argument, argument) for argument in arguments), code=1, SETPOINT_DATA=str(tmp_path))
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_a_command_there_is_help() -> None:
    """Every command is in it."""
    done = setpoint(code=2)
    for command in ("fit", "evaluate", "serve", "publish", "--version"):
        assert command in done.stdout + done.stderr


def test_the_version_is_told() -> None:
    """And nothing else."""
    assert setpoint("--version").stdout.strip() == version("setpoint")


def test_publish_registers_models_and_points_and_moves_the_default(
    caches: Path, tmp_path: Path, server: Server
) -> None:
    """From files to served decisions, with nothing but the command."""
    (tmp_path / "net.onnx").write_bytes(network(2))
    to = ["--server", server.address.removeprefix("http://")]
    done = setpoint(
        "publish", tmp_path / "net.onnx", "--model", "m", "--classes", "clear,fraud", "--prior", "0.9,0.1", *to
    )
    assert "registered version 1 of model 'm', which runs on" in done.stdout
    assert "Provider, the default" in done.stdout
    again = setpoint("publish", tmp_path / "net.onnx", "--model", "m", "--classes", "clear,fraud", *to).stdout
    assert (
        "it is staged, and answers requests that ask for model_version 2. 'setpoint points default m argmax@2 " in again
    )
    setpoint("fit", caches / "val.npz", "--metric", "f1", "--out", tmp_path / "high-f1.json")
    done = setpoint("publish", tmp_path / "high-f1.json", "--model", "m", "--make-default", "better", *to)
    assert "published high-f1@1 for version 1 of model 'm', now the default" in done.stdout
    again = setpoint("publish", tmp_path / "high-f1.json", "--model", "m", "--name", "other", *to).stdout
    assert (
        "answers requests that name it. 'setpoint points default m other@1 --reason ...' makes it the default" in again
    )
    said: Any = json.loads(
        setpoint("publish", tmp_path / "high-f1.json", "--model", "m", "--name", "again", "--json", *to).stdout
    )
    assert (said["operating_point"], said["evidence"]["f1"]["kind"]) == ("again@1", "submitted")
    reply = server.post("/predict", {"model": "m", "logits": [[0.0, -1.0]]})
    assert reply["operating_point"] == "high-f1@1"
    bias = OperatingPoint.load(tmp_path / "high-f1.json").bias[1]
    assert reply["predictions"][0]["margin"] == -1.0 + bias
    refused = setpoint("publish", tmp_path / "high-f1.json", "--model", "other", *to, code=1)
    assert "the server refused it (404): there is no model 'other'" in refused.stderr


def test_fit_streams_files(caches: Path, tmp_path: Path) -> None:
    """Parquet in parts: the same point as of the whole in memory, with constraints; what it cannot do is refused."""
    whole = read_cache(caches / "val.npz")
    for part in range(3):
        rows = slice(part * 150, (part + 1) * 150)
        cache = feature_cache(logits=whole.logits[rows], labels=whole.labels[rows], classes=whole.classes)
        write_cache(tmp_path / f"{part}.parquet", cache)
    common = ["--metric", "precision", "--constraint", "recall >= 0.5", "--json"]
    said = json.loads(setpoint("fit", tmp_path / "*.parquet", "--stream", *common).stdout)
    expected = json.loads(setpoint("fit", caches / "val.npz", *common, "--search", "exact").stdout)
    assert said["point"] == expected["point"]
    assert said["constraints"] == ["recall >= 0.5"]
    assert said["evidence"]["precision"]["kind"] == "optimism_corrected"
    refused = setpoint("fit", tmp_path / "*.parquet", "--stream", "--tau", "1", *common, code=1)
    assert "--stream fits bias_adjustment" in refused.stderr
    infeasible = setpoint("fit", caches / "val.npz", "--metric", "f1", "--constraint", "recall >= 2", code=1)
    assert "'recall >= 2' comes to 1 at best" in infeasible.stderr
