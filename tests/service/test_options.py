"""The options of a fit are the same in Python, at the command line, over REST and in `setpoint calibrate`."""

import inspect
import shlex
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import service.calibration
from calibrate import cli as library
from calibrate import feature_cache, fit, write_cache
from calibrate.io.description import Description
from service import cli_jobs
from service.calibration import Spec, calibrate, spec_of
from service.cli import app
from service.domain import ModelVersion
from service.web.schemas import CalibrateSpec
from tests.service.jobs import LABELS, LOGITS

ROWS = {"cache", "logits", "labels", "classes", "probabilities", "margins"}  # the data, which goes by other ways
HERE_ONLY = {
    "rng": "a generator is an object of Python's; elsewhere the draw is the same every time",
    "progress": "a function; a job has its own progress, and the command line a bar",
    "train": "a second file of rows; over REST there is one body of data",
    "evidence": "the same; `setpoint fit` has it as --test, and a point is evaluated on other rows later",
}
OF_THE_DATA = {"columns"}  # how the columns of a file are read
COMMAND_NAMES = {"constraints": "constraint"}  # repeated once for each
BY_THE_WAY = {  # how a point is published
    "model_version", "model", "name", "make_default", "reason", "override", "allow_other_model",
}  # fmt: skip

ARGUMENTS = (
    "--metric f1 --constraint 'recall >= 0.3' --constraint 'precision >= 0.2' --method bias_adjustment "
    "--search decimal --digits 2 --positive fraud --prior 0.8,0.2 --prevalence 0.05 --negatives-kept 0.5 "
    "--class-weights 1,3 --cost-matrix [[0,5],[1,0]] --calibration temperature --tau 0.5"
)


def options_of_fit() -> set[str]:
    """What `fit` takes beside rows."""
    return set(inspect.signature(fit).parameters) - ROWS


def test_every_option_of_fit_is_everywhere() -> None:
    """But for those that cannot be, each with its reason."""
    wanted = options_of_fit() - HERE_ONLY.keys()
    assert options_of_fit() >= HERE_ONLY.keys()
    assert CalibrateSpec.model_fields.keys() - OF_THE_DATA == wanted | BY_THE_WAY
    assert {field.name for field in fields(Spec)} - OF_THE_DATA == wanted | BY_THE_WAY
    named = {COMMAND_NAMES.get(name, name) for name in wanted}
    assert inspect.signature(library.fit).parameters.keys() >= named | {"train", "test"}
    assert inspect.signature(cli_jobs.calibrate).parameters.keys() >= named | BY_THE_WAY - {"reason"}


class Recorder:
    """Stands in for what a command would call, and keeps what it was called with."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def fit(self, cache: Any, **options: Any) -> Any:
        """The library's fit."""
        self.options = {"rows": cache.rows, **options}
        raise InterruptedError

    def calibrate(self, _: Any, file: Path, spec: dict[str, Any], key: str) -> Any:
        """The client's call of `POST /calibrate`."""
        assert file.exists()
        assert key
        self.options = spec
        raise InterruptedError


REGISTERED = ModelVersion(
    "fraud", 1, "0" * 64, None, 1, (), ("clear", "fraud"), None, None, None, None, Description(), datetime.now(UTC)
)


def test_the_same_options_reach_fit_from_every_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `setpoint fit`, and from `setpoint calibrate` through the wire's types and the server's calibration."""
    file, recorder = tmp_path / "val.npz", Recorder()
    write_cache(file, feature_cache(logits=LOGITS, labels=LABELS, classes=["clear", "fraud"]))
    monkeypatch.setattr(library, "fit_point", recorder.fit)
    monkeypatch.setattr(service.calibration, "fit", recorder.fit)
    monkeypatch.setattr("service.client.Client.calibrate", lambda *told: recorder.calibrate(*told))
    runner, arguments = CliRunner(), shlex.split(ARGUMENTS)

    assert isinstance(runner.invoke(app, ["fit", str(file), *arguments]).exception, InterruptedError)
    local = {name: value for name, value in recorder.options.items() if name not in HERE_ONLY}
    sent = runner.invoke(app, ["calibrate", str(file), "--model", "fraud", *arguments])
    assert isinstance(sent.exception, InterruptedError), sent.output
    spec = CalibrateSpec.model_validate(recorder.options).model_dump(mode="json")
    with pytest.raises(InterruptedError):
        calibrate(spec_of(spec), {"logits": LOGITS, "labels": LABELS}, REGISTERED, None)  # type: ignore[arg-type]
    remote = {name: value for name, value in recorder.options.items() if name not in HERE_ONLY}
    assert remote.keys() == local.keys() == (options_of_fit() - HERE_ONLY.keys()) | {"rows"}
    for name, value in local.items():
        assert value is not None, name
        same = np.array_equal(np.asarray(remote[name], dtype=object), np.asarray(value, dtype=object))
        assert same, (name, value, remote[name])
