"""What every suite may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from services.chassis import failpoints
from tests.databases import SERVER, Databases

# How long an example takes says something of the machine, not of what is shown by it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a server only what asks for databases is worth a second run."""
    if not SERVER:
        return
    others = [item for item in items if "databases" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
