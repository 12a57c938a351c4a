"""A notebook on a real SQLite file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.storage.database import Store
from services.chassis.storage.sqlite import engine_for_migrations
from services.kernel.clock import SystemClock
from tests.chassis.storage.notebook import Notes, Transaction, metadata


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'notes.db'}"
    engine = engine_for_migrations(made)
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    return made


@pytest.fixture
async def store(url: str) -> AsyncIterator[Notes]:
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"secret") as opened:
        yield opened
