"""A few thousand requests; `make soak` sends a million and holds the memory to a bound."""

from pathlib import Path

from tests.soak import memory


def test_requests_of_mixed_shapes_good_and_bad_are_answered_each_as_it_should_be(tmp_path: Path) -> None:
    """Memory is only looked at in the long run: here the first steps still warm up."""
    found = memory.run(tmp_path, 2000)
    assert [fault for fault in found.faults if not fault.startswith("memory grew")] == []
    assert len(found.bytes) == memory.STEPS
