"""API keys: shown once, kept as a hash, limited, ended."""

import asyncio
import re
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from bodega.user.v1 import api_key_pb2 as pb
from bodega.user.v1 import user_events_pb2 as told
from bodega.user.v1 import user_pb2
from bodega.user.v1.api_key_pb2_grpc import ApiKeyServiceStub
from bodega.user.v1.user_pb2_grpc import UserServiceStub
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis import telemetry
from services.chassis.identity.caller import Caller
from services.chassis.storage.database import Store
from services.chassis.testing import FakeClock
from services.chassis.wire import timestamp
from services.user import scopes
from services.user.api_keys import KEYS_MAX, secret_hash
from services.user.store import Transaction
from tests.databases import connected, kept
from tests.user.accounts import NOBODY, active, events, reason, registration, violated


def creation(user: user_pb2.User, **changes: Any) -> pb.CreateApiKeyRequest:
    said = {"user_id": user.user_id, "name": "till 1", "scopes": ["order:read", "order:write"], **changes}
    return pb.CreateApiKeyRequest(**said)


async def listed(keys: ApiKeyServiceStub, user: user_pb2.User) -> list[pb.ApiKey]:
    return list((await keys.ListApiKeys(pb.ListApiKeysRequest(user_id=user.user_id))).api_keys)


def revoking(key: pb.ApiKey, **changes: str) -> pb.RevokeApiKeyRequest:
    return pb.RevokeApiKeyRequest(**{"user_id": key.user_id, "api_key_id": key.api_key_id, **changes})


async def test_a_key_is_shown_once_and_told_without_its_secret(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Store[Transaction], clock: FakeClock
) -> None:
    user = await active(users)
    made = await keys.CreateApiKey(creation(user, user_id=user.user_id.upper()))
    assert re.fullmatch(r"bodega_[0-9A-Za-z]{43}", made.secret)
    key = made.api_key
    assert (key.name, list(key.scopes), key.ending) == (
        "till 1",
        ["order:read", "order:write"],
        made.secret[-4:],
    )
    assert key.user_id == user.user_id
    assert key.create_time == timestamp(clock.now())
    assert not any(key.HasField(name) for name in ("expire_time", "revoke_time", "last_use_time"))
    assert await listed(keys, user) == [key]
    assert await events(store, told.ApiKeyCreated) == [
        told.ApiKeyCreated(
            api_key_id=key.api_key_id, user_id=user.user_id, scopes=["order:read", "order:write"]
        )
    ]


async def test_a_repeat_makes_no_other_key_and_shows_none(
    users: UserServiceStub, keys: ApiKeyServiceStub
) -> None:
    user = await active(users)
    request = creation(user, request_id="same")
    replies = await asyncio.gather(*(keys.CreateApiKey(request) for _ in range(8)))
    assert len({reply.api_key.api_key_id for reply in replies}) == 1
    assert sorted(bool(reply.secret) for reply in replies) == [False] * 7 + [True]
    assert len(await listed(keys, user)) == 1


async def test_a_secret_is_kept_told_and_logged_nowhere(
    users: UserServiceStub, keys: ApiKeyServiceStub, database_url: str
) -> None:
    user = await active(users)
    with telemetry.captured() as lines:
        made = await keys.CreateApiKey(creation(user))
    stored = kept(database_url)
    assert made.secret.encode() not in stored
    assert secret_hash(made.secret) in stored
    assert made.secret not in str(lines)


async def test_no_two_keys_are_alike(users: UserServiceStub, keys: ApiKeyServiceStub) -> None:
    user = await active(users)
    made = await asyncio.gather(*(keys.CreateApiKey(creation(user)) for _ in range(KEYS_MAX)))
    assert len({reply.secret for reply in made}) == KEYS_MAX


async def test_lists_come_newest_first_page_by_page_and_only_ones_own(
    users: UserServiceStub, keys: ApiKeyServiceStub, clock: FakeClock
) -> None:
    ada, bob = await active(users, "ada"), await active(users, "bob")
    await keys.CreateApiKey(creation(bob))
    for number in range(5):
        await keys.CreateApiKey(creation(ada, name=f"key {number}"))
        clock.advance(number % 2)  # some within one moment
    names, token = [], ""
    for size in (2, 2, 1):
        request = pb.ListApiKeysRequest(user_id=ada.user_id, page_size=2, page_token=token)
        page = await keys.ListApiKeys(request)
        assert len(page.api_keys) == size
        names += [key.name for key in page.api_keys]
        token = page.next_page_token
    assert token == ""
    assert names == [f"key {number}" for number in (4, 3, 2, 1, 0)]
    request.user_id = bob.user_id
    assert (await reason(keys.ListApiKeys(request)))[1] == "INVALID_PAGE_TOKEN"


async def test_a_revoked_key_stays_revoked_and_is_told_once(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Store[Transaction], clock: FakeClock
) -> None:
    user = await active(users)
    key = (await keys.CreateApiKey(creation(user))).api_key
    clock.advance(60)
    revoked_at = timestamp(clock.now())
    await asyncio.gather(*(keys.RevokeApiKey(revoking(key)) for _ in range(4)))
    clock.advance(60)
    await keys.RevokeApiKey(revoking(key))
    [shown] = await listed(keys, user)
    assert shown.revoke_time == revoked_at
    assert await events(store, told.ApiKeyRevoked) == [
        told.ApiKeyRevoked(api_key_id=key.api_key_id, user_id=user.user_id)
    ]


async def test_anothers_key_is_as_absent_as_one_that_never_was(
    users: UserServiceStub, keys: ApiKeyServiceStub
) -> None:
    ada, bob = await active(users, "ada"), await active(users, "bob")
    key = (await keys.CreateApiKey(creation(ada))).api_key
    absent = (grpc.StatusCode.NOT_FOUND, "API_KEY_NOT_FOUND")
    assert await reason(keys.RevokeApiKey(revoking(key, user_id=bob.user_id))) == absent
    assert await reason(keys.RevokeApiKey(revoking(key, api_key_id=NOBODY))) == absent
    [shown] = await listed(keys, ada)
    assert not shown.HasField("revoke_time")


async def test_so_many_keys_and_no_more_are_good_at_a_time(
    users: UserServiceStub, keys: ApiKeyServiceStub, clock: FakeClock
) -> None:
    user = await active(users)
    soon = timestamp(clock.now() + timedelta(hours=1))
    made = [await keys.CreateApiKey(creation(user, expire_time=soon))]
    made += [await keys.CreateApiKey(creation(user)) for _ in range(KEYS_MAX - 1)]
    too_many = (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_API_KEYS")
    request = creation(user, request_id="same")
    assert await reason(keys.CreateApiKey(request)) == too_many
    clock.advance(3600)  # the first has expired
    assert (await keys.CreateApiKey(request)).secret
    assert await reason(keys.CreateApiKey(creation(user))) == too_many
    await keys.RevokeApiKey(revoking(made[1].api_key))
    assert (await keys.CreateApiKey(creation(user))).secret
    other = await active(users, "bob")
    assert (await keys.CreateApiKey(creation(other))).secret


async def test_the_last_place_goes_to_one_of_two(users: UserServiceStub, keys: ApiKeyServiceStub) -> None:
    user = await active(users)
    for _ in range(KEYS_MAX - 1):
        await keys.CreateApiKey(creation(user))
    ended = await asyncio.gather(
        *(keys.CreateApiKey(creation(user)) for _ in range(2)), return_exceptions=True
    )
    assert sorted(isinstance(end, grpc.aio.AioRpcError) for end in ended) == [False, True]


async def test_only_an_active_account_has_keys_made(users: UserServiceStub, keys: ApiKeyServiceStub) -> None:
    user = await users.RegisterUser(registration())
    not_active = (grpc.StatusCode.FAILED_PRECONDITION, "USER_NOT_ACTIVE")
    assert await reason(keys.CreateApiKey(creation(user))) == not_active
    await users.ActivateUser(user_pb2.ActivateUserRequest(user_id=user.user_id))
    await users.SuspendUser(user_pb2.SuspendUserRequest(user_id=user.user_id, reason="r"))
    assert await reason(keys.CreateApiKey(creation(user))) == not_active
    nobody = creation(user_pb2.User(user_id=NOBODY))
    assert await reason(keys.CreateApiKey(nobody)) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")


@pytest.mark.parametrize(
    "scope", ["order:delete", "shop:read", "order", "order:read ", "Order:read", "*:read"]
)
async def test_a_scope_that_no_service_has_is_refused(
    users: UserServiceStub, keys: ApiKeyServiceStub, scope: str
) -> None:
    user = await active(users)
    call = keys.CreateApiKey(creation(user, scopes=["order:read", scope]))
    assert (await reason(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert await listed(keys, user) == []


def test_scopes_are_those_of_the_contracts() -> None:
    verbs = {"read", "write"}
    services = {"user", "inventory", "order", "payment", "notification"}
    known = scopes.known()
    assert known <= {f"{service}:{verb}" for service in services for verb in verbs}
    assert {"order:read", "order:write", "inventory:write", "user:read", "notification:read"} <= known


async def test_a_key_that_has_expired_before_it_is_made_is_refused(
    users: UserServiceStub, keys: ApiKeyServiceStub, clock: FakeClock
) -> None:
    user = await active(users)
    for at in (clock.now(), clock.now() - timedelta(days=1)):
        call = keys.CreateApiKey(creation(user, expire_time=timestamp(at)))
        assert await reason(call) == (grpc.StatusCode.INVALID_ARGUMENT, "EXPIRE_TIME_PASSED")


BAD: list[tuple[str, Any, set[str]]] = [
    ("CreateApiKey", pb.CreateApiKeyRequest(user_id="x"), {"user_id", "name", "scopes"}),
    (
        "CreateApiKey",
        pb.CreateApiKeyRequest(
            user_id=NOBODY,
            name="x" * 101,
            scopes=["order:read", "order:read"],
            expire_time=Timestamp(seconds=-1),
        ),
        {"name", "scopes", "expire_time"},
    ),
    (
        "CreateApiKey",
        pb.CreateApiKeyRequest(
            user_id=NOBODY, name="x", scopes=["order:read\n"], expire_time=Timestamp(seconds=2**60)
        ),
        {"scopes[0]", "expire_time"},
    ),
    (
        "CreateApiKey",
        pb.CreateApiKeyRequest(user_id=NOBODY, name="x", scopes=[f"a{n}:read" for n in range(21)]),
        {"scopes"},
    ),
    (
        "ListApiKeys",
        pb.ListApiKeysRequest(user_id="x", page_size=-1, page_token="x" * 1025),
        {"user_id", "page_size", "page_token"},
    ),
    ("RevokeApiKey", pb.RevokeApiKeyRequest(user_id="x"), {"user_id", "api_key_id"}),
    ("ExchangeApiKey", pb.ExchangeApiKeyRequest(), {"api_key"}),
    ("ExchangeApiKey", pb.ExchangeApiKeyRequest(api_key="x" * 513), {"api_key"}),
]


@pytest.mark.parametrize(("method", "request_", "fields"), BAD)
async def test_bad_input_is_refused_with_every_violation_named(
    keys: ApiKeyServiceStub, method: str, request_: Any, fields: set[str]
) -> None:
    assert await violated(getattr(keys, method)(request_)) == fields


@pytest.mark.parametrize("caller", [Caller(user_id=NOBODY, scopes=frozenset({"user:write"}))])
async def test_a_key_makes_no_keys(users: UserServiceStub, keys: ApiKeyServiceStub) -> None:
    user = await active(users)
    assert await reason(keys.CreateApiKey(creation(user))) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "NOT_ALLOWED",
    )
    assert await listed(keys, user) == []


async def test_what_stands_in_the_database_is_no_key(
    users: UserServiceStub, keys: ApiKeyServiceStub, store: Store[Transaction], database_url: str
) -> None:
    user = await active(users)
    made = await keys.CreateApiKey(creation(user))
    with closing(connected(database_url)) as thief:
        [(stolen,)] = thief.execute("SELECT secret_hash FROM api_keys").fetchall()
    found = await store.read(lambda tx: tx.api_keys.find(secret_hash(stolen.hex())))
    assert found is None
    right = await store.read(lambda tx: tx.api_keys.find(secret_hash(made.secret)))
    assert right is not None
    assert right.id == made.api_key.api_key_id
    assert isinstance(right.created_at, datetime)
    assert "secret_hash" not in repr(right)
