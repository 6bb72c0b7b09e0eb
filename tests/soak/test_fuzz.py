"""Every operation a few dozen times; `make soak` makes 5,000 calls and more."""

from pathlib import Path

import pytest

from tests.soak import fuzz


def test_every_answer_is_as_the_document_says_and_none_is_a_fault(tmp_path: Path) -> None:
    """Calls that it allows and that it does not allow, with and without the token; the server answers afterwards."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    found = fuzz.run(tmp_path, 2)
    assert found.failures == []
    assert found.alive
    assert found.calls > 20 * found.operations
