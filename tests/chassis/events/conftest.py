"""A real nats-server and two real databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.events.jetstream import JetStream
from services.chassis.events.server import NatsServer
from services.chassis.storage.database import Store
from services.chassis.storage.sqlite import engine_for_migrations
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Ledger, Transaction, metadata


def _made(path: Path) -> str:
    url = f"sqlite:///{path}"
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
async def speaker(tmp_path: Path) -> AsyncIterator[Ledger]:
    url = _made(tmp_path / "speaker.db")
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as store:
        yield store


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Ledger]:
    url = _made(tmp_path / "listener.db")
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as store:
        yield store
