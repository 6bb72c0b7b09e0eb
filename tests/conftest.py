"""Checks every array against its written shape and type, on every call that a test makes into the library."""

from collections.abc import Iterator

import pytest
from jaxtyping import install_import_hook

from tests import typechecks
from tests.servers import Server, running

install_import_hook("calibrate", f"{typechecks.__name__}.check").__enter__()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server in a process of its own, without models."""
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started
