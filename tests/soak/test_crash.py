"""A few kills on each database; `make soak` does 200."""

from pathlib import Path

import pytest

from service.storage.database import sqlite_address
from tests.databases import KINDS, new_database
from tests.soak import crash


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost_and_nothing_half_is_kept_when_processes_are_killed(
    kind: str, tmp_path: Path
) -> None:
    """Servers and workers, at random moments, under load."""
    address = sqlite_address(tmp_path / "data" / "setpoint.db") if kind == "sqlite" else new_database(kind, tmp_path)
    found = crash.run(tmp_path, address, 4)
    assert found.faults == []
    assert found.servers_killed == 4
    assert found.answers > 100
    assert found.changes > 10
