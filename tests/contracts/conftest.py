"""Contracts are kept on every database."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.databases import KINDS, new_database


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Where an empty database is."""
    return new_database(request.param, tmp_path)
