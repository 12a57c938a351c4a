"""Keys change while people call: through a real server and its gate, no call is refused."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import jwt
import pytest
from bodega.user.v1 import session_pb2 as pb
from bodega.user.v1.session_pb2_grpc import SessionServiceStub, add_SessionServiceServicer_to_server

from services.chassis.identity import trust
from services.chassis.identity.config import IdentitySettings
from services.chassis.identity.tokens import Tokens
from services.chassis.server.access import Access
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock, serving
from services.user.domain import Details, User
from services.user.key_rotation import KeyRotation
from services.user.key_schedule import Schedule
from services.user.passwords import Passwords
from services.user.published_keys import PublishedKeys
from services.user.sealing import Seal
from services.user.session_servicer import SessionServicer
from services.user.store import Transaction

PASSWORD: Final = "correct horse battery"
ADA: Final = "00000000-0000-7000-8000-0000000000ad"
PEOPLE: Final = 6
SCHEDULE: Final = Schedule(period=timedelta(hours=1), lead=timedelta(minutes=15))
MINUTES: Final = 150  # two changes of keys
STEP: Final = 3  # minutes
EVERY: Final = 9  # verifiers fetch the set less often than they promise to


class Person:
    """Signed in once, calls again and again, refreshes when the access token is about to expire."""

    def __init__(self, sessions: SessionServiceStub, tokens: pb.SessionTokens, at: datetime) -> None:
        self._sessions = sessions
        self._tokens = tokens
        self._since = at
        self.kids: set[str] = set()

    async def call(self, now: datetime) -> None:
        if (now - self._since).total_seconds() > 12 * 60:
            request = pb.RefreshSessionRequest(refresh_token=self._tokens.refresh_token)
            self._tokens, self._since = await self._sessions.RefreshSession(request), now
        token = self._tokens.access_token
        self.kids.add(jwt.get_unverified_header(token)["kid"])
        metadata: Any = (("authorization", f"Bearer {token}"),)
        assert (
            await self._sessions.ListSessions(pb.ListSessionsRequest(user_id=ADA), metadata=metadata)
        ).sessions


@pytest.mark.parametrize("looks", ["every few minutes", "only when it has to"])
async def test_no_call_is_refused_while_keys_change(
    *,
    store: Store[Transaction],
    passwords: Passwords,
    session_servicer: SessionServicer,
    seal: Seal,
    clock: FakeClock,
    looks: str,
) -> None:
    new = User.register(
        user_id=ADA,
        details=Details("ada@example.com", "ada"),
        password_hash=await passwords.hash(PASSWORD),
        at=clock.now(),
    )
    await store.write(lambda tx: tx.users.save(new.activate(at=clock.now())))
    rotation = KeyRotation(store, SCHEDULE, seal, clock=clock)
    tokens = Tokens(clock)
    own = trust.own(IdentitySettings(), PublishedKeys(store, clock=clock).key_set, clock=clock)
    tokens.trust(own)
    added = (add_SessionServiceServicer_to_server, session_servicer)
    async with serving(added, files=[pb.DESCRIPTOR], access=Access(tokens, lambda _: "")) as channel:
        sessions = SessionServiceStub(channel)
        request = pb.CreateSessionRequest(email="ada@example.com", password=PASSWORD)
        people = [Person(sessions, await sessions.CreateSession(request), clock.now()) for _ in range(PEOPLE)]
        for minute in range(0, MINUTES, STEP):
            if looks == "every few minutes" and minute % EVERY == 0:
                await own.keys.look_again()
            await asyncio.gather(rotation.turn(), *(person.call(clock.now()) for person in people))
            clock.advance(60 * STEP)
    assert all(len(person.kids) == 3 for person in people)
