"""A real nats-server and two real databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.events.jetstream import JetStream
from services.chassis.events.server import NatsServer
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import engine_for_migrations
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Ledger, Transaction, metadata
from tests.databases import Databases


def _made(databases: Databases, name: str) -> str:
    url = databases.new(name)
    engine = engine_for_migrations(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    return url


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as started:
        yield started


@pytest.fixture
async def jetstream(server: NatsServer) -> AsyncIterator[JetStream]:
    async with JetStream.connect(server.url, name="test") as connected:
        yield connected


@pytest.fixture
def speaker_url(databases: Databases) -> str:
    return _made(databases, "speaker")


@pytest.fixture
async def speaker(speaker_url: str) -> AsyncIterator[Ledger]:
    async with Store(speaker_url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as store:
        yield store


@pytest.fixture
def listener_url(databases: Databases) -> str:
    return _made(databases, "listener")


@pytest.fixture
async def listener(listener_url: str) -> AsyncIterator[Ledger]:
    async with Store(listener_url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as store:
        yield store
