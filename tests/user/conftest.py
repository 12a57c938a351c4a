"""The user service's parts on a real database, its server on a free port."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server

from services.chassis.paging import Pages
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock, SequentialIds, serving
from services.user import __path__ as user_path
from services.user.passwords import Passwords
from services.user.search import Search
from services.user.servicer import UserServicer
from services.user.store import Transaction

MIGRATIONS = Path(user_path[0]) / "migrations"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'user.db'}"
    migrate(url, MIGRATIONS)
    return url


@pytest.fixture
async def store(database_url: str, clock: FakeClock) -> AsyncIterator[Store[Transaction]]:
    ids = SequentialIds()
    async with Store(
        database_url, open_transaction=lambda session: Transaction(session, ids), clock=clock, secret=b"s"
    ) as opened:
        yield opened


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    async with Passwords(at_once=2, time_cost=1, memory_kib=32, parallelism=1) as cheap:
        yield cheap


@pytest.fixture
async def users(
    store: Store[Transaction], passwords: Passwords, clock: FakeClock
) -> AsyncIterator[UserServiceStub]:
    search = Search(store, Pages(b"s", clock=clock))
    servicer = UserServicer(store, search, passwords, clock=clock, ids=SequentialIds(), secret=b"s")
    added = (add_UserServiceServicer_to_server, servicer)
    async with serving(added, files=[user_pb2.DESCRIPTOR]) as channel:
        yield UserServiceStub(channel)
