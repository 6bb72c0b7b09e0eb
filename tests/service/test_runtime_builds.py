"""Two builds of ONNX Runtime over each other are warned of, by the server and by `setpoint extract`."""

import logging
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from calibrate.io import runtime_builds
from service.cli import app
from service.main import make_app
from service.settings import Settings
from tests.models import network

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def install(monkeypatch: pytest.MonkeyPatch, providers: list[str], **versions: str) -> None:
    """As if these distributions were installed, and the build that is imported had these providers."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in versions:
            raise PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(runtime_builds, "version", version)
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)


def test_one_build_or_one_that_has_cuda_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either alone, neither as a distribution, both where CUDA is still there."""
    for versions in ({}, {"onnxruntime": "1.28.0"}, {"onnxruntime_gpu": "1.28.0"}):
        install(monkeypatch, [CPU], **versions)
        assert runtime_builds.warning_of_builds() is None
    install(monkeypatch, [CUDA, CPU], onnxruntime="1.28.0", onnxruntime_gpu="1.28.0")
    assert runtime_builds.warning_of_builds() is None


def test_the_server_warns_at_its_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In its log, once, with both versions and the remedy."""
    install(monkeypatch, [CPU], onnxruntime="1.27.0", onnxruntime_gpu="1.28.0")
    with caplog.at_level(logging.WARNING), TestClient(make_app(Settings(data=tmp_path))):
        pass
    warned = [line for line in caplog.messages if "share one import name" in line]
    assert len(warned) == 1
    assert warned[0].startswith("onnxruntime 1.27.0 and onnxruntime-gpu 1.28.0 are both installed")
    assert "pip uninstall onnxruntime onnxruntime-gpu" in warned[0]


def test_extract_warns_on_standard_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And writes its cache all the same."""
    install(monkeypatch, [CPU], onnxruntime="1.27.0", onnxruntime_gpu="1.28.0")
    (tmp_path / "model.onnx").write_bytes(network())
    np.savez(tmp_path / "rows.npz", inputs=np.ones((4, 4), np.float32), labels=np.array([0, 1, 0, 1]))
    arguments = ["extract", str(tmp_path / "model.onnx"), str(tmp_path / "rows.npz"), "--out", str(tmp_path / "o.npz")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "share one import name" in done.stderr
    assert "share one import name" not in done.stdout
