"""What the edge gets for an API key."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import jwt
import pytest
from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import api_key_pb2 as pb
from bodega.user.v1 import user_pb2
from bodega.user.v1.api_key_pb2_grpc import ApiKeyServiceStub
from bodega.user.v1.user_pb2_grpc import UserServiceStub
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.chassis import telemetry
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StorageBusy
from services.chassis.testing import FakeClock
from services.chassis.wire import timestamp
from services.user.api_keys import TOKEN_LIFE, USE_NOTED_EVERY, new_secret
from services.user.key_rotation import KeyRotation
from services.user.store import Transaction
from tests.databases import kept
from tests.user.accounts import active, reason, refusal

INVALID = (grpc.StatusCode.UNAUTHENTICATED, "INVALID_API_KEY")
Accounts = Store[Transaction]


@pytest.fixture(autouse=True)
async def signing(rotation: KeyRotation) -> None:
    """There is a key to sign with."""
    await rotation.turn()


async def made(keys: ApiKeyServiceStub, user: user_pb2.User, **changes: Any) -> pb.CreateApiKeyResponse:
    said = {"user_id": user.user_id, "name": "till", "scopes": ["order:write", "order:read"], **changes}
    return await keys.CreateApiKey(pb.CreateApiKeyRequest(**said))


def exchanging(secret: str) -> pb.ExchangeApiKeyRequest:
    return pb.ExchangeApiKeyRequest(api_key=secret)


async def claims(store: Accounts, token: str) -> dict[str, Any]:
    """What a token says whose signature holds."""
    signing_keys = await store.read(lambda tx: tx.signing_keys.all())
    public = {key.id: Ed25519PublicKey.from_public_bytes(key.public) for key in signing_keys}
    key = public[jwt.get_unverified_header(token)["kid"]]
    said: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=["EdDSA"],
        audience="bodega",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    return said


async def test_a_key_is_worth_a_token_of_its_owner_and_of_its_scopes(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Accounts, clock: FakeClock
) -> None:
    user = await active(users)
    await users.GrantRole(user_pb2.GrantRoleRequest(user_id=user.user_id, role=policy_pb2.ROLE_SUPPORT))
    key = await made(keys, user)
    reply = await keys.ExchangeApiKey(exchanging(key.secret))
    assert reply.api_key_id == key.api_key.api_key_id
    assert reply.expire_time == timestamp(clock.now() + TOKEN_LIFE)
    said = await claims(store, reply.access_token)
    assert said["sub"] == user.user_id
    assert said["scopes"] == ["order:read", "order:write"]
    assert said["roles"] == ["customer", "support"]
    assert "sid" not in said
    assert said["exp"] == int((clock.now() + TOKEN_LIFE).timestamp())


async def test_a_token_does_not_outlive_its_key(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Accounts, clock: FakeClock
) -> None:
    ends_at = clock.now() + timedelta(seconds=90)
    key = await made(keys, await active(users), expire_time=timestamp(ends_at))
    reply = await keys.ExchangeApiKey(exchanging(key.secret))
    assert reply.expire_time == timestamp(ends_at)
    assert (await claims(store, reply.access_token))["exp"] == int(ends_at.timestamp())
    clock.advance(90)
    assert await reason(keys.ExchangeApiKey(exchanging(key.secret))) == INVALID


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same_and_the_log_knows(
    users: UserServiceStub, keys: ApiKeyServiceStub, clock: FakeClock
) -> None:
    ada, bob, eve = [await active(users, name) for name in ("ada", "bob", "eve")]
    revoked, expired, suspended, ended = (
        await made(keys, ada),
        await made(keys, ada, expire_time=timestamp(clock.now() + timedelta(seconds=1))),
        await made(keys, bob),
        await made(keys, eve),
    )
    await keys.RevokeApiKey(
        pb.RevokeApiKeyRequest(user_id=ada.user_id, api_key_id=revoked.api_key.api_key_id)
    )
    clock.advance(1)
    await users.SuspendUser(user_pb2.SuspendUserRequest(user_id=bob.user_id, reason="r"))
    await users.DeactivateUser(user_pb2.DeactivateUserRequest(user_id=eve.user_id))
    secrets = [revoked.secret, expired.secret, suspended.secret, ended.secret, new_secret(), "é" * 512, "x"]
    with telemetry.captured() as lines:
        answers = [await refusal(keys.ExchangeApiKey(exchanging(secret))) for secret in secrets]
    assert {(answer.code(), answer.details()) for answer in answers} == {(INVALID[0], answers[0].details())}
    assert len({str(answer.trailing_metadata()) for answer in answers}) == 1
    assert [line["why"] for line in lines if line["event"] == "API key refused"] == [
        "revoked", "expired", "owner is SUSPENDED", "owner is DEACTIVATED", "unknown", "unknown", "unknown",
    ]  # fmt: skip
    assert not any(secret in str(lines) for secret in secrets[:-1])


async def test_a_reinstated_owners_keys_work_again(users: UserServiceStub, keys: ApiKeyServiceStub) -> None:
    user = await active(users)
    key = await made(keys, user)
    await users.SuspendUser(user_pb2.SuspendUserRequest(user_id=user.user_id, reason="r"))
    assert await reason(keys.ExchangeApiKey(exchanging(key.secret))) == INVALID
    await users.ReinstateUser(user_pb2.ReinstateUserRequest(user_id=user.user_id))
    assert (await keys.ExchangeApiKey(exchanging(key.secret))).access_token


async def test_use_is_noted_to_the_hour(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Accounts, clock: FakeClock
) -> None:
    user = await active(users)
    key = await made(keys, user)
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    async def last_use() -> Any:
        [shown] = (await keys.ListApiKeys(pb.ListApiKeysRequest(user_id=user.user_id))).api_keys
        return shown.last_use_time

    store.on_commit(count)
    first = timestamp(clock.now())
    for _ in range(3):
        await keys.ExchangeApiKey(exchanging(key.secret))
        assert await last_use() == first
    clock.advance(USE_NOTED_EVERY.total_seconds() - 1)
    await keys.ExchangeApiKey(exchanging(key.secret))
    assert await last_use() == first
    clock.advance(1)
    await asyncio.gather(*(keys.ExchangeApiKey(exchanging(key.secret)) for _ in range(4)))
    assert await last_use() == timestamp(clock.now())
    assert commits <= 1 + 4


async def test_a_database_that_takes_no_writes_keeps_nobody_from_using_their_key(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(keys, await active(users))

    async def refuse(_: Any) -> None:
        raise StorageBusy

    monkeypatch.setattr(store, "write", refuse)
    assert (await keys.ExchangeApiKey(exchanging(key.secret))).access_token


async def test_an_account_taken_over_by_an_operator_has_no_keys_left(
    users: UserServiceStub, keys: ApiKeyServiceStub
) -> None:
    user = await active(users)
    key = await made(keys, user)
    await users.CreateAdministrator(
        user_pb2.CreateAdministratorRequest(email=user.email, username="root", password="a new password")
    )
    assert await reason(keys.ExchangeApiKey(exchanging(key.secret))) == INVALID


async def test_an_exchange_leaves_no_secret_behind(
    users: UserServiceStub, keys: ApiKeyServiceStub, database_url: str
) -> None:
    key = await made(keys, await active(users))
    with telemetry.captured() as lines:
        reply = await keys.ExchangeApiKey(exchanging(key.secret))
    stored = kept(database_url)
    for secret in (key.secret, reply.access_token):
        assert secret not in str(lines)
        assert secret.encode() not in stored
