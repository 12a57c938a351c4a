"""What every suite may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis import failpoints
from tests.databases import Databases


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[Databases]:
    """Empty databases: SQLite files, or, under `make test-postgres`, on a real server."""
    made = Databases(tmp_path)
    try:
        yield made
    finally:
        made.drop()


@pytest.fixture
def quiet_failpoints() -> Iterator[None]:
    """What a test sets, it leaves to nobody."""
    yield
    failpoints.follow(None, production=False)
    failpoints.configure("", production=False)
