"""The notification service's parts on a real database."""

from collections.abc import AsyncIterator

import pytest
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server

from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import serving
from services.kernel.clock import SystemClock
from services.notification.store import Transaction
from tests.databases import Databases
from tests.notification.post import ADA, Scene, Users, post_office
from tests.notification.stage import MIGRATIONS, Messages, ScriptedChannel, Watched


@pytest.fixture
def database_url(databases: Databases) -> str:
    url = databases.new("notification")
    migrate(url, MIGRATIONS)
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Messages]:
    async with Store(database_url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as opened:
        yield opened


@pytest.fixture
def watched(store: Messages) -> Watched:
    return Watched(store)


@pytest.fixture
def channel() -> ScriptedChannel:
    return ScriptedChannel()


@pytest.fixture
async def scene(store: Messages, watched: Watched) -> AsyncIterator[Scene]:
    """With a mail server in the clear, and Ada who has an address."""
    users = Users()  # type: ignore[abstract]  # the one RPC that is asked of it
    users.add(ADA)
    served = (add_UserServiceServicer_to_server, users)
    async with serving(served, files=[user_pb2.DESCRIPTOR]) as channel, post_office() as post:
        users.stub = UserServiceStub(channel.without_retries())
        yield Scene(store, watched, users, post)
