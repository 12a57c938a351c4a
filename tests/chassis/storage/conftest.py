"""A notebook on a real database."""

from collections.abc import AsyncIterator

import pytest

from services.chassis.storage.database import Store
from services.chassis.storage.migrations import engine_for_migrations
from services.kernel.clock import SystemClock
from tests.chassis.storage.notebook import Notes, Transaction, metadata
from tests.databases import Databases


@pytest.fixture
def url(databases: Databases) -> str:
    made = databases.new("notes")
    engine = engine_for_migrations(made)
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    return made


@pytest.fixture
async def store(url: str) -> AsyncIterator[Notes]:
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"secret") as opened:
        yield opened
