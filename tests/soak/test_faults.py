"""Each fault once; `make soak` does the same and writes down what was seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak import faults
from tests.soak.faults import Fault


@pytest.mark.parametrize("run", faults.ALL, ids=lambda run: str(run.__name__))
def test_predictions_go_on_changes_lose_nothing_and_ready_tells_the_truth(
    run: Callable[[Path], Fault], tmp_path: Path
) -> None:
    """While it is broken, and after."""
    found = run(tmp_path)
    assert found.faults == []
    assert found.answers > 2
