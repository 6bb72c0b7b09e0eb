"""The demo, run once for the tests that go on from what it leaves behind."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Demo:
    """The folder that the demo ran in, and what it said."""

    folder: Path
    said: str

    @property
    def made(self) -> Path:
        """What it left behind."""
        return self.folder / "setpoint-demo"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`make demo ONCE=1`, but for the environment that the tests run in already."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "service.demo", "--once", "--port", "0"],
        cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "120"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Demo(folder, done.stdout)
