"""Points move under load, for a few seconds; `make soak` does it for ten minutes."""

import asyncio
from pathlib import Path

from tests.servers import running
from tests.soak import moving


def test_no_answer_fails_or_mixes_points_while_they_are_published_promoted_and_rolled_back(tmp_path: Path) -> None:
    """Every answer names the point that made it, and its labels are that point's; a move holds at once."""
    with running(tmp_path) as server:
        found = asyncio.run(moving.run(server.address, 5, clients=3, every_s=0.1))
    assert (found.failed, found.wrong, found.late) == ([], [], 0)
    assert found.answers > 100
    assert found.published > 3
    assert found.moved > found.published
