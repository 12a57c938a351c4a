"""Changing a password: who may, what it ends, and what cannot be found out by trying."""

import asyncio
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from bodega.user.v1 import session_pb2
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1.session_pb2_grpc import SessionServiceStub
from bodega.user.v1.user_pb2_grpc import UserServiceStub
from google.rpc.error_details_pb2 import BadRequest

from services.chassis import status, telemetry
from services.chassis.identity.caller import Caller
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock
from services.user import lockout
from services.user.api_keys import new_secret, secret_hash
from services.user.domain import Details, User
from services.user.passwords import Passwords
from services.user.sessions import RefreshToken, Session
from services.user.store import Transaction
from services.user.tables import outbox_rows
from services.user.tables import sessions as session_rows
from tests.databases import kept
from tests.user.test_api_key_store import key_of

OLD, NEW = "correct horse battery", "staple horse battery"
EMAIL = "ada@example.com"
ADA = "00000000-0000-7000-8000-0000000000ad"
HERE, ELSEWHERE = "session-here", "session-elsewhere"

Accounts = Store[Transaction]


@pytest.fixture
def caller() -> Caller:
    return Caller(user_id=ADA, roles=frozenset(("customer",)), session_id=HERE)


@pytest.fixture(autouse=True)
async def ada(store: Accounts, passwords: Passwords, clock: FakeClock) -> User:
    """An active account, signed in at two places."""
    now, hashed = clock.now(), await passwords.hash(OLD)
    new = User.register(user_id=ADA, details=Details(EMAIL, "ada"), password_hash=hashed, at=now)

    def begin(tx: Transaction) -> User:
        for session_id in (HERE, ELSEWHERE):
            session = Session.begin(session_id=session_id, user_id=ADA, at=now)
            tx.sessions.add(session)
            tx.sessions.give(RefreshToken.of(session, session_id.encode()))
        return tx.users.save(new.activate(at=now))

    return await store.write(begin)


def change(current: str = OLD, new: str = NEW, request_id: str = "") -> pb.ChangePasswordRequest:
    return pb.ChangePasswordRequest(
        user_id=ADA, current_password=current, new_password=new, request_id=request_id
    )


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def fits(store: Accounts, passwords: Passwords, password: str) -> bool:
    user = await store.read(lambda tx: tx.users.get(ADA))
    return await passwords.verify(user.password_hash, password)


async def endings(store: Accounts) -> dict[str, str | None]:
    rows = await store.fetch(sa.select(session_rows))
    return {row["session_id"]: row["ending"] for row in rows}


async def test_the_new_password_is_the_only_one_and_other_sessions_end(
    users: UserServiceStub, store: Accounts, passwords: Passwords
) -> None:
    await users.ChangePassword(change())
    assert await fits(store, passwords, NEW)
    assert not await fits(store, passwords, OLD)
    assert await endings(store) == {HERE: None, ELSEWHERE: "PASSWORD_CHANGED"}


async def test_programs_with_a_key_go_on(
    users: UserServiceStub, store: Accounts, ada: User, clock: FakeClock
) -> None:
    key = key_of(ada, "k1", clock.now(), secret := new_secret())
    await store.write(lambda tx: tx.api_keys.add(key))
    await users.ChangePassword(change())
    assert await store.read(lambda tx: tx.api_keys.find(secret_hash(secret))) == key


@pytest.mark.parametrize("caller", [Caller(user_id=ADA)])
async def test_made_without_a_session_it_ends_them_all(
    users: UserServiceStub, store: Accounts, caller: Caller
) -> None:
    await users.ChangePassword(change())
    assert set((await endings(store)).values()) == {"PASSWORD_CHANGED"}


async def test_a_wrong_password_changes_nothing(
    users: UserServiceStub, store: Accounts, passwords: Passwords
) -> None:
    refused = await refusal(users.ChangePassword(change("wrong")))
    assert (refused.code(), status.reason(refused)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "WRONG_PASSWORD",
    )
    bad = status.detail(refused, BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["current_password"]  # type: ignore[union-attr]
    assert await fits(store, passwords, OLD)
    assert await endings(store) == {HERE: None, ELSEWHERE: None}


async def test_who_has_only_the_access_token_cannot_guess_the_password(
    users: UserServiceStub, clock: FakeClock
) -> None:
    for _ in range(lockout.OF_ACCOUNT.free + 1):
        assert status.reason(await refusal(users.ChangePassword(change("wrong")))) == "WRONG_PASSWORD"
    locked = await refusal(users.ChangePassword(change()))
    assert (locked.code(), status.reason(locked), status.retry_after_s(locked)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SIGN_IN_LOCKED",
        30.0,
    )
    clock.advance(30)
    await users.ChangePassword(change())


async def test_a_repeated_wrong_guess_is_one_guess(users: UserServiceStub) -> None:
    for _ in range(3 * lockout.OF_ACCOUNT.free):
        refused = await refusal(users.ChangePassword(change("wrong", request_id="same")))
        assert status.reason(refused) == "WRONG_PASSWORD"
    await users.ChangePassword(change())


async def test_strangers_at_the_door_do_not_keep_the_owner_from_changing_it(
    users: UserServiceStub, sessions: SessionServiceStub
) -> None:
    guess = session_pb2.CreateSessionRequest(email=EMAIL, password="wrong")
    for _ in range(lockout.OF_ACCOUNT.free + 2):
        locked = await refusal(sessions.CreateSession(guess))
    assert status.reason(locked) == "SIGN_IN_LOCKED"
    await users.ChangePassword(change())


async def test_a_repeat_gets_the_same_answer_though_the_password_is_another_by_then(
    users: UserServiceStub, store: Accounts, passwords: Passwords
) -> None:
    request = change(request_id="same")
    await asyncio.gather(*(users.ChangePassword(request) for _ in range(4)))
    await users.ChangePassword(request)
    assert await fits(store, passwords, NEW)
    updates = await store.fetch(sa.select(outbox_rows).where(outbox_rows.c.type.endswith("UserUpdated")))
    assert len(updates) == 1


async def test_an_account_that_ended_has_no_password_to_change(
    users: UserServiceStub, store: Accounts, clock: FakeClock
) -> None:
    await store.write(lambda tx: tx.users.move(ADA, lambda user: user.deactivate(at=clock.now())))
    refused = await refusal(users.ChangePassword(change()))
    assert (refused.code(), status.reason(refused)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "USER_DEACTIVATED",
    )


async def test_an_account_made_an_administrators_is_signed_out(
    users: UserServiceStub, store: Accounts
) -> None:
    """Whoever was signed in may be who registered the address first, and not who has it."""
    await users.CreateAdministrator(pb.CreateAdministratorRequest(email=EMAIL, username="root", password=NEW))
    assert set((await endings(store)).values()) == {"PASSWORD_CHANGED"}


async def test_neither_password_is_stored_logged_or_told(
    users: UserServiceStub, store: Accounts, database_url: str
) -> None:
    with telemetry.captured() as lines:
        await refusal(users.ChangePassword(change("wrong password")))
        await users.ChangePassword(change())
    content = kept(database_url)
    for password in (OLD, NEW, "wrong password"):
        assert password.encode() not in content
        assert password not in str(lines)


async def test_bad_input_is_refused_with_every_violation_named(users: UserServiceStub) -> None:
    request = pb.ChangePasswordRequest(user_id="x", new_password="short", request_id="\n")
    bad = status.detail(await refusal(users.ChangePassword(request)), BadRequest)
    fields = {violation.field for violation in bad.field_violations}  # type: ignore[union-attr]
    assert fields == {"user_id", "current_password", "new_password", "request_id"}
