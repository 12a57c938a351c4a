from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from services.chassis import audit as chassis_audit
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.migrations import differences
from services.chassis.storage.statement import Statement
from services.chassis.testing import FakeClock
from services.user import audit, domain
from services.user.domain import Details, Profile, User
from services.user.store import Transaction
from services.user.tables import metadata, outbox_rows, users
from tests.databases import VIOLATIONS, damage

Accounts = Store[Transaction]
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
HASH = "$argon2id$v=19$m=32,t=1,p=1$c2FsdHNhbHQ$aGFzaA"


def new(user_id: str, email: str, username: str) -> User:
    details = Details(email, username, Profile("Ada", "+441234567890", "en-GB"))
    return User.register(user_id=user_id, details=details, password_hash=HASH, at=AT)


async def saved(store: Accounts, user: User) -> User:
    return await store.write(lambda tx: tx.users.save(user))


async def moved(store: Accounts, user_id: str, move: Callable[[User], User]) -> User:
    return await store.write(lambda tx: tx.users.save(move(tx.users.get(user_id))))


async def told(store: Accounts) -> list[str]:
    rows = await store.fetch(sa.select(outbox_rows.c.type).order_by(outbox_rows.c.seq))
    return [row["type"].rpartition(".")[2] for row in rows]


def test_the_migrations_lead_to_the_tables(database_url: str) -> None:
    assert differences(database_url, metadata) == []


async def test_what_is_saved_is_loaded_again(store: Accounts) -> None:
    written = await saved(store, new("u1", "Ada@Example.com", "Ada"))
    assert written.version == 1
    assert await store.read(lambda tx: tx.users.get("u1")) == written


async def test_every_change_is_told_in_its_transaction(store: Accounts) -> None:
    await saved(store, new("u1", "ada@example.com", "ada"))
    await moved(store, "u1", lambda user: user.activate(at=AT))
    await moved(store, "u1", lambda user: user.activate(at=AT))  # nothing left to do, nothing to tell
    await moved(store, "u1", lambda user: user.suspend(reason="r", at=AT))
    await moved(store, "u1", lambda user: user.reinstate(at=AT))
    await moved(store, "u1", lambda user: user.update(replace(user.details, username="b-b"), at=AT))
    await moved(store, "u1", lambda user: user.deactivate(at=AT))
    assert await told(store) == (
        "UserRegistered UserActivated UserSuspended UserReinstated UserUpdated UserDeactivated".split()
    )


@pytest.mark.parametrize(
    ("email", "username", "refusal"),
    [
        ("ADA@example.COM", "other", domain.EmailTaken),
        ("other@example.com", "ADA", domain.UsernameTaken),
        ("ada@example.com", "ada", domain.EmailTaken),
    ],
)
async def test_one_address_and_one_name_are_one_accounts(
    store: Accounts, email: str, username: str, refusal: type[Exception]
) -> None:
    await saved(store, new("u1", "ada@example.com", "Ada"))
    with pytest.raises(refusal):
        await saved(store, new("u2", email, username))
    assert await told(store) == ["UserRegistered"]


async def test_an_update_cannot_take_what_is_anothers(store: Accounts) -> None:
    await saved(store, new("u1", "ada@example.com", "ada"))
    await saved(store, new("u2", "bob@example.com", "bob"))
    with pytest.raises(domain.EmailTaken):
        await moved(store, "u2", lambda user: user.update(Details("ADA@example.com", "bob"), at=AT))


async def test_an_owner_may_change_the_case_of_their_own_name(store: Accounts) -> None:
    await saved(store, new("u1", "ada@example.com", "ada"))
    changed = await moved(store, "u1", lambda user: user.update(Details("ada@example.com", "ADA"), at=AT))
    assert changed.details.username == "ADA"


async def test_an_ended_account_frees_its_address_and_name(store: Accounts) -> None:
    await saved(store, new("u1", "ada@example.com", "ada"))
    await moved(store, "u1", lambda user: user.deactivate(at=AT))
    await saved(store, new("u2", "ada@example.com", "ada"))
    await moved(store, "u2", lambda user: user.deactivate(at=AT))  # and again


async def test_the_index_stands_behind_the_check(store: Accounts) -> None:
    """Two processes may both find an address free; the database lets only one of them have it."""
    await saved(store, new("u1", "ada@example.com", "ada"))
    await saved(store, new("u2", "bob@example.com", "bob"))
    steal = Statement(sa.update(users).where(users.c.user_id == "u2").values(email_key="ada@example.com"))
    with pytest.raises(VIOLATIONS):
        await store.transact(lambda session: session.run(steal))


async def test_who_saves_an_old_version_has_lost_the_race(store: Accounts) -> None:
    old = await saved(store, new("u1", "ada@example.com", "ada"))
    await moved(store, "u1", lambda user: user.activate(at=AT))
    with pytest.raises(StaleVersion):
        await saved(store, old.deactivate(at=AT))


async def test_the_audit_holds_and_sees_what_is_broken(
    store: Accounts, database_url: str, clock: FakeClock
) -> None:
    now = datetime.now(UTC)
    fresh = replace(new("u1", "ada@example.com", "ada"), created_at=now)
    await saved(store, fresh)
    await moved(store, "u1", lambda user: user.activate(at=now))

    def findings() -> dict[str, bool]:
        with chassis_audit.reading(database_url) as connection:
            return {check.name: check.find(connection).holds for check in checks}

    checks = [check for check in audit.CHECKS if check.name.startswith("users.")]
    assert findings() == {check.name: True for check in checks}
    names = [column.name for column in users.columns]
    twin = [f"{name} || '2'" if name in ("user_id", "username_key") else name for name in names]
    damage(
        database_url,
        "UPDATE users SET password_hash = 'plain', suspension_reason = 'none'",
        "DELETE FROM outbox WHERE seq = 1",
        "DROP INDEX users_by_email",
        f"INSERT INTO users ({', '.join(names)}) SELECT {', '.join(twin)} FROM users",  # noqa: S608
    )
    assert findings() == {check.name: False for check in checks}
