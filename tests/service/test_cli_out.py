"""`--out -` is standard output: a program in a pipe reads the file's own bytes and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from calibrate import OperatingPoint, curve, export, fit, read_cache
from tests.models import network
from tests.service.test_cli import caches, setpoint

__all__ = ["caches"]


def test_fit(caches: Path, tmp_path: Path) -> None:
    """The JSON that a file would hold; tables and warnings on standard error, and with --json the JSON once."""
    rows = caches / "val.npz"
    setpoint("fit", rows, "--metric", "f1", "--out", tmp_path / "f1.json")
    done = setpoint("fit", rows, "--metric", "f1", "--out", "-")
    assert done.stdout == (tmp_path / "f1.json").read_text()
    assert json.loads(done.stdout)["point"] == fit(read_cache(rows), metric="f1").point.to_dict()
    assert "bias_adjustment (committee) for f1" in done.stderr
    assert json.loads(setpoint("fit", rows, "--metric", "f1", "--out", "-", "--json").stdout)["metric"] == "f1"
    assert not list(Path.cwd().glob("-"))


def test_curve(caches: Path, tmp_path: Path) -> None:
    """The same table as in a file; a reader that stops early is no error to tell of."""
    rows = caches / "val.npz"
    curve(read_cache(rows), ["recall"], confidence=0.95).write(tmp_path / "curve.csv")
    arguments = ["curve", str(rows), "--metric", "recall", "--out", "-"]
    done = setpoint(*arguments)
    assert done.stdout.splitlines() == (tmp_path / "curve.csv").read_text().splitlines()
    assert done.stderr == ""
    command = f"{sys.executable} -m service {' '.join(arguments)} | head -n 1"
    piped = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert piped.stdout.startswith("margin,threshold")
    assert piped.stderr == ""


def test_export(tmp_path: Path) -> None:
    """The graph with its points, byte for byte; what it says is on standard error."""
    (tmp_path / "model.onnx").write_bytes(network())
    point = OperatingPoint.argmax(["0", "1"])
    point.save(tmp_path / "plain.json")
    command = f"{sys.executable} -m service export model.onnx --point plain.json --out -".split()
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == export(tmp_path / "model.onnx", {"plain": point})
    onnx.checker.check_model(onnx.load_model_from_string(done.stdout))
    assert b"written; operating_point is 0 plain (the default)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["bench", "val.npz", "--out", "-"], "--out must be a folder, got '-'"),
        (["extract", "model.onnx", "rows.npz", "--out", "-"], "--out must be a file, .npz, .parquet or .arrow"),
        (["retrain", "val.npz", "--out-cache", "-"], "--out-cache must be a file, .npz, .parquet or .arrow"),
        (["backup", "--out", "-"], "--out must be a file"),
    ],
)
def test_what_is_no_stream_is_refused(arguments: list[str], wanted: str) -> None:
    """Rather than written to a file or a folder with that name."""
    assert wanted in setpoint(*arguments, code=1).stderr
