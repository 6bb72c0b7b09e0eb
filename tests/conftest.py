"""Checks arrays against their written shapes and types, on calls that a test makes into the library."""

import os
from collections.abc import Iterator

import pytest

from tests import typechecks
from tests.servers import Server, running

# Tests wait for calibrations, so these give way to nothing; on a busy machine they would take minutes.
os.environ.setdefault("SETPOINT_JOB_NICE", "0")
# Each runs in another project's environment, where that project is installed.
collect_ignore_glob = ["benchmarks/peers/*_app.py"]
typechecks.install()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server in a process of its own, without models."""
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started
