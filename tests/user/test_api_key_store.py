"""API keys on a real database: what a restart leaves, what the audit sees."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis import audit as chassis_audit
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock, SequentialIds
from services.user import audit
from services.user.api_keys import ApiKey, new_secret, secret_hash
from services.user.domain import Details, User
from services.user.store import Transaction
from tests import databases

Accounts = Store[Transaction]
HASH = "$argon2id$v=19$m=32,t=1,p=1$c2FsdHNhbHQ$aGFzaA"
ADA = "00000000-0000-7000-8000-0000000000ad"


async def owner(store: Accounts, at: datetime) -> User:
    new = User.register(user_id=ADA, details=Details("ada@example.com", "ada"), password_hash=HASH, at=at)
    return await store.write(lambda tx: tx.users.save(new.activate(at=at)))


def key_of(user: User, key_id: str, at: datetime, secret: str = "") -> ApiKey:
    ends = at + timedelta(days=1)
    secret = secret or new_secret()
    return ApiKey.make(user, secret, key_id=key_id, name="n", scopes=["order:read"], expires_at=ends, at=at)


async def test_keys_outlive_the_process(store: Accounts, database_url: str, clock: FakeClock) -> None:
    at, secret = clock.now(), new_secret()
    key = key_of(await owner(store, at), "k1", at, secret)
    await store.write(lambda tx: tx.api_keys.add(key))
    await store.write(lambda tx: tx.api_keys.note_use(key, at=at))
    async with Store(
        database_url,
        open_transaction=lambda session: Transaction(session, SequentialIds()),
        clock=clock,
        secret=b"another secret",
    ) as next_process:
        found = await next_process.read(lambda tx: tx.api_keys.find(secret_hash(secret)))
    assert found == replace(key, last_used_at=at)


DAMAGES = {
    "UPDATE api_keys SET secret_hash = 'bodega_plain' WHERE api_key_id = 'k1'": {"api_keys.hashed"},
    "UPDATE api_keys SET user_id = 'nobody' WHERE api_key_id = 'k1'": {"api_keys.owned"},
    "DELETE FROM outbox WHERE type LIKE '%ApiKeyCreated' AND aggregate_id = 'k1'": {"api_keys.told"},
    "DELETE FROM outbox WHERE type LIKE '%ApiKeyRevoked'": {"api_keys.told"},
    "UPDATE api_keys SET revoke_time = create_time WHERE api_key_id = 'k1'": {"api_keys.told"},
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_audit_holds_and_sees_what_is_broken(
    store: Accounts, database_url: str, damage: str
) -> None:
    now = datetime.now(UTC)
    user = await owner(store, now)
    for key_id in ("k1", "k2"):
        key = key_of(user, key_id, now)
        await store.write(lambda tx, key=key: tx.api_keys.add(key))  # type: ignore[misc]
    await store.write(lambda tx: tx.api_keys.revoke(tx.api_keys.get(ADA, "k2"), at=now))

    def violated() -> set[str]:
        with chassis_audit.reading(database_url) as connection:
            found = [check.find(connection) for check in audit.CHECKS]
        return {finding.name for finding in found if not finding.holds}

    assert violated() == set()
    databases.damage(database_url, damage)
    assert violated() == DAMAGES[damage]
