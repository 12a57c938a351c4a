"""The user service's parts on a real database, its server on a free port."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bodega.user.v1 import api_key_pb2, session_pb2, user_pb2
from bodega.user.v1.api_key_pb2_grpc import ApiKeyServiceStub, add_ApiKeyServiceServicer_to_server
from bodega.user.v1.session_pb2_grpc import SessionServiceStub, add_SessionServiceServicer_to_server
from bodega.user.v1.user_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server

from services.chassis import client
from services.chassis.context import RequestContext
from services.chassis.contract import Method
from services.chassis.identity.caller import NOBODY, Caller
from services.chassis.paging import Pages
from services.chassis.server.gate import Context, Guard
from services.chassis.storage.database import Store
from services.chassis.storage.migrations import migrate
from services.chassis.testing import FakeClock, SequentialIds, serving
from services.user import __path__ as user_path
from services.user import scopes, signing_keys
from services.user.api_key_search import ApiKeySearch
from services.user.api_key_servicer import ApiKeyServicer
from services.user.key_rotation import KeyRotation
from services.user.key_schedule import Schedule
from services.user.passwords import Passwords
from services.user.published_keys import PublishedKeys
from services.user.sealing import Seal
from services.user.search import Search
from services.user.servicer import UserServicer
from services.user.session_search import SessionSearch
from services.user.session_servicer import SessionServicer
from services.user.sign_in import Attempts
from services.user.store import Transaction
from services.user.tokens import AccessTokens
from tests.databases import Databases

MIGRATIONS = Path(user_path[0]) / "migrations"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database_url(databases: Databases) -> str:
    url = databases.new("user")
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
def attempts(store: Store[Transaction], passwords: Passwords, clock: FakeClock) -> Attempts:
    return Attempts(store, passwords, clock=clock, secret=b"s")


@pytest.fixture
def caller() -> Caller:
    """Who calls; tests may say otherwise."""
    return NOBODY


@pytest.fixture
async def users(channel: client.Channel) -> UserServiceStub:
    return UserServiceStub(channel)


@pytest.fixture
async def keys(channel: client.Channel) -> ApiKeyServiceStub:
    return ApiKeyServiceStub(channel)


@pytest.fixture
async def channel(
    *,
    store: Store[Transaction],
    passwords: Passwords,
    attempts: Attempts,
    access_tokens: AccessTokens,
    clock: FakeClock,
    caller: Caller,
) -> AsyncIterator[client.Channel]:
    """To accounts and API keys."""
    ids, pages = SequentialIds(), Pages(b"s", clock=clock)
    search = Search(store, pages)
    servicer = UserServicer(store, search, passwords, attempts, clock=clock, ids=ids, secret=b"s")
    key_servicer = ApiKeyServicer(
        store, ApiKeySearch(store, pages), access_tokens, scopes=scopes.known(), clock=clock, ids=ids
    )
    async with serving(
        (add_UserServiceServicer_to_server, servicer),
        (add_ApiKeyServiceServicer_to_server, key_servicer),
        files=[user_pb2.DESCRIPTOR, api_key_pb2.DESCRIPTOR],
        access=Known(caller),
    ) as channel:
        yield channel


class Known:
    """Lets in everybody, as one caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def guard(self, method: Method) -> Guard:
        def admitted(_request: Any, call: RequestContext, _context: Context) -> None:
            call.caller = self._caller

        return admitted


@pytest.fixture
def seal() -> Seal:
    return Seal(b"secret of the signing keys", signing_keys.PURPOSE)


@pytest.fixture
def access_tokens(seal: Seal) -> AccessTokens:
    return AccessTokens(seal, issuer="bodega", audience="bodega")


@pytest.fixture
def rotation(store: Store[Transaction], seal: Seal, clock: FakeClock) -> KeyRotation:
    return KeyRotation(store, Schedule(timedelta(days=1), timedelta(hours=1)), seal, clock=clock)


@pytest.fixture
async def session_servicer(
    *,
    store: Store[Transaction],
    attempts: Attempts,
    access_tokens: AccessTokens,
    rotation: KeyRotation,
    clock: FakeClock,
) -> SessionServicer:
    await rotation.turn()
    return SessionServicer(
        store,
        SessionSearch(store, Pages(b"s", clock=clock)),
        attempts,
        access_tokens,
        PublishedKeys(store, clock=clock),
        clock=clock,
        ids=SequentialIds(),
    )


@pytest.fixture
async def sessions(session_servicer: SessionServicer) -> AsyncIterator[SessionServiceStub]:
    added = (add_SessionServiceServicer_to_server, session_servicer)
    async with serving(added, files=[session_pb2.DESCRIPTOR]) as channel:
        yield SessionServiceStub(channel)
