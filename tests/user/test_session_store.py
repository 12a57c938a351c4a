"""Sessions, tokens and failures on a real database: races, what the janitor takes, what the audit sees."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from services.chassis import audit as chassis_audit
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.retention import Janitor
from services.chassis.testing import FakeClock
from services.user import audit, lockout_store, session_store
from services.user.domain import Details, User
from services.user.key_rotation import KeyRotation
from services.user.lockout import FORGOTTEN_AFTER, OF_ACCOUNT, Failures, SignInLocked
from services.user.sessions import IDLE_MAX, Ending, RefreshToken, Session, SessionNotFound
from services.user.store import Transaction
from services.user.tables import lockouts, refresh_tokens, sessions
from tests import databases

Accounts = Store[Transaction]
AT = FakeClock().now()
HASH = "$argon2id$v=19$m=32,t=1,p=1$c2FsdHNhbHQ$aGFzaA"
ADA = Failures(b"ada", OF_ACCOUNT)


async def begun(store: Accounts, session_id: str = "s1", user_id: str = "u1", at: datetime = AT) -> Session:
    session = Session.begin(session_id=session_id, user_id=user_id, at=at)

    def begin(tx: Transaction) -> None:
        tx.sessions.add(session)
        tx.sessions.give(RefreshToken.of(session, session_id.encode()))

    await store.write(begin)
    return session


async def loaded(store: Accounts, session_id: str = "s1") -> Session:
    return await store.read(lambda tx: tx.sessions.get(session_id))


async def count(store: Accounts, table: sa.Table) -> int:
    return len(await store.fetch(sa.select(table)))


async def test_what_is_saved_is_loaded_again(store: Accounts) -> None:
    session = await begun(store)
    assert await loaded(store) == session
    refreshed = session.refresh(at=AT + timedelta(hours=1))
    await store.write(lambda tx: tx.sessions.save(refreshed))
    assert await loaded(store) == refreshed
    await store.write(lambda tx: tx.sessions.end(refreshed, Ending.SIGNED_OUT, at=AT))
    assert await loaded(store) == refreshed.end(Ending.SIGNED_OUT, at=AT)
    with pytest.raises(SessionNotFound):
        await loaded(store, "s2")


async def test_a_session_that_ended_meanwhile_cannot_be_brought_back(store: Accounts) -> None:
    old = await begun(store)
    await store.write(lambda tx: tx.sessions.end(old, Ending.SIGNED_OUT, at=AT))
    with pytest.raises(StaleVersion):
        await store.write(lambda tx: tx.sessions.save(old.refresh(at=AT)))


async def test_a_token_is_used_once(store: Accounts) -> None:
    await begun(store)
    token = await store.read(lambda tx: tx.sessions.token(b"s1"))
    assert token is not None
    await store.write(lambda tx: tx.sessions.use(token, at=AT))
    with pytest.raises(StaleVersion):
        await store.write(lambda tx: tx.sessions.use(token, at=AT))


async def test_all_sessions_end_but_one(store: Accounts) -> None:
    for session_id in ("s1", "s2", "s3"):
        await begun(store, session_id)
    await begun(store, "other", "u2")
    await store.write(lambda tx: tx.sessions.end_all("u1", Ending.PASSWORD_CHANGED, at=AT, but="s2"))
    endings = {
        session_id: (await loaded(store, session_id)).ending for session_id in ("s1", "s2", "s3", "other")
    }
    assert endings == {
        "s1": Ending.PASSWORD_CHANGED,
        "s2": None,
        "s3": Ending.PASSWORD_CHANGED,
        "other": None,
    }


async def test_failures_are_counted_until_they_are_forgotten(store: Accounts) -> None:
    for _ in range(OF_ACCOUNT.free + 1):
        await store.write(lambda tx: tx.lockouts.fail([ADA], at=AT))
    with pytest.raises(SignInLocked):
        await store.read(lambda tx: tx.lockouts.check([ADA], at=AT))
    await store.write(lambda tx: tx.lockouts.forget(ADA))
    await store.read(lambda tx: tx.lockouts.check([ADA], at=AT))


async def test_the_janitor_takes_what_says_nothing_any_more(store: Accounts, clock: FakeClock) -> None:
    await begun(store)
    await store.write(lambda tx: tx.lockouts.fail([ADA], at=AT))
    janitor = Janitor(store, clock=clock)

    async def kept_after(passed: timedelta) -> list[int]:
        clock.advance((AT + passed - clock.now()).total_seconds())
        for retention in (*session_store.RETENTIONS, lockout_store.RETENTION):
            await janitor.sweep(retention)
        return [await count(store, table) for table in (sessions, refresh_tokens, lockouts)]

    second = timedelta(seconds=1)
    assert await kept_after(FORGOTTEN_AFTER - second) == [1, 1, 1]
    assert await kept_after(FORGOTTEN_AFTER + second) == [1, 1, 0]
    assert await kept_after(IDLE_MAX - second) == [1, 1, 0]
    assert await kept_after(IDLE_MAX + second) == [1, 0, 0]
    assert await kept_after(IDLE_MAX + session_store.SESSIONS_KEPT + second) == [0, 0, 0]


TWIN = "INSERT INTO refresh_tokens SELECT x'00', session_id, expire_time, NULL FROM refresh_tokens"
EARLY = "UPDATE signing_keys SET retire_time = sign_time + 86400000000 WHERE number = 1"
DAMAGES = {
    "UPDATE users SET state = 'DEACTIVATED'": {"sessions.of_active"},
    "DELETE FROM users": {"sessions.of_active"},
    "DELETE FROM refresh_tokens": {"sessions.one_token"},
    "UPDATE refresh_tokens SET use_time = 1": {"sessions.one_token"},
    TWIN: {"sessions.one_token"},
    "UPDATE signing_keys SET retire_time = NULL": {"keys.succession"},
    EARLY: {"keys.succession"},
    "DELETE FROM signing_keys WHERE number = 2": {"keys.succession"},
    "UPDATE sessions SET end_time = 1, ending = 'SIGNED_OUT'; DELETE FROM refresh_tokens": set(),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_audit_holds_and_sees_what_is_broken(
    store: Accounts, rotation: KeyRotation, clock: FakeClock, database_url: str, damage: str
) -> None:
    now = datetime.now(UTC)
    user = User.register(user_id="u1", details=Details("a@example.com", "ada"), password_hash=HASH, at=now)
    await store.write(lambda tx: tx.users.save(user.activate(at=now)))
    await begun(store, at=now)
    for _ in range(2):
        await rotation.turn()
        clock.advance(24 * 3600)

    def violated() -> set[str]:
        with chassis_audit.reading(database_url) as connection:
            found = (check.find(connection) for check in audit.CHECKS if not check.name.startswith("users."))
            return {finding.name for finding in found if not finding.holds}

    assert violated() == set()
    databases.damage(database_url, damage)
    assert violated() == DAMAGES[damage]


async def test_a_sign_in_is_told_and_changes_nothing_that_is_audited(
    store: Accounts, database_url: str
) -> None:
    now = datetime.now(UTC)
    user = User.register(user_id="u1", details=Details("a@example.com", "ada"), password_hash=HASH, at=now)
    saved = await store.write(lambda tx: tx.users.save(user.activate(at=now)))
    await store.write(lambda tx: tx.users.tell(saved.sign_in("s1", at=now)))
    with chassis_audit.reading(database_url) as connection:
        assert all(check.find(connection).holds for check in audit.CHECKS)


STOPS: dict[str, Callable[[User], User]] = {
    "suspended": lambda user: user.suspend(reason="r", at=AT),
    "deactivated": lambda user: user.deactivate(at=AT),
}


@pytest.mark.parametrize("stop", STOPS)
async def test_whoever_stops_an_account_signs_it_out(store: Accounts, stop: str) -> None:
    user = User.register(user_id="u1", details=Details("a@example.com", "ada"), password_hash=HASH, at=AT)
    await store.write(lambda tx: tx.users.save(user.activate(at=AT)))
    await begun(store)
    await store.write(lambda tx: tx.users.move("u1", STOPS[stop]))
    assert (await loaded(store)).ending is Ending.ACCOUNT_STOPPED
