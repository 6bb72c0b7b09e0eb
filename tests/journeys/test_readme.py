"""The README's blocks run as they are written, one after the other, on what the demo left behind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.journeys.conftest import Demo
from tests.servers import running

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints; it must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PATH": path, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_block_runs(demo: Demo, tmp_path: Path) -> None:
    """Python, command line and REST, against a server that holds the demo's models."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    shutil.copytree(demo.made, tmp_path / "setpoint-demo")
    shutil.copytree(demo.made / "server", tmp_path / "data")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()  # the tests' environment is on the path already
    lines = [f"{i};0,{i:03};{int(i % 7 < i / 125)}" for i in range(999)]  # of a risk of 0.5 about half died
    (tmp_path / "risks.csv").write_text("\n".join(["id;risk;died", *lines]))
    python, (command_line, *rest) = blocks("python"), blocks("sh")
    said = run([sys.executable, "-c", "\n".join(python)], tmp_path)
    assert said.count("Interval(") == 3
    with running(tmp_path) as server:
        said = run(["bash", "-euc", command_line], tmp_path, SETPOINT_SERVER=server.address)
        assert "fbeta(2)" in said
        assert "published sensitive@1 for version 1 of model 'thyroid'" in said
        script = "\n".join(rest).replace("http://127.0.0.1:8000", server.address)
        said = run(["bash", "-euc", script], tmp_path, SETPOINT_SERVER=server.address)
        assert '"problem' not in said
        assert "published f1@1 for version 1 of model 'risk'" in said
        assert '"compare":{"argmax":["hypothyroid"],"sensitive":["hypothyroid"]}' in said
        assert server.get("/models/mine")["default"]["operating_point"] == "sensitive@1"
        assert server.get("/models/mine")["versions"][0]["columns"][0]["name"] == "age"
        assert server.get("/models/trees")["versions"][0]["classes"] == ["clear", "ill"]


def test_the_table_is_the_demos(demo: Demo) -> None:
    """Row by row, to the second digit: torch does not compute alike on every processor."""
    told, shown = (
        [
            [float(number) for number in re.findall(r"\d\.\d+", line)]
            for line in text.splitlines()
            if re.match(rf"{edge} (plain model|bias adjustment|logit adjustment|prior threshold) ?[({edge} ]", line)
        ]
        for text, edge in ((README, r"\|"), (demo.said, "│"))
    )
    assert len(told) == 6
    assert np.array(told) == pytest.approx(np.array(shown), abs=0.05)


def test_the_addresses_it_names_exist() -> None:
    """Pictures and pages of the repository."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (Path(__file__).parents[2] / target).exists(), target
