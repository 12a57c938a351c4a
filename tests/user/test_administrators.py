"""Who runs the shop: roles, the first administrator, and that there is always one."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from argon2 import PasswordHasher
from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import session_pb2
from bodega.user.v1 import user_events_pb2 as told
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1.session_pb2_grpc import SessionServiceStub
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis.storage.database import Store
from services.user.store import Transaction
from tests.user.accounts import NOBODY, PASSWORD, active, events, reason, registration

ADMIN, SUPPORT, CUSTOMER = policy_pb2.ROLE_ADMIN, policy_pb2.ROLE_SUPPORT, policy_pb2.ROLE_CUSTOMER
LAST = (grpc.StatusCode.FAILED_PRECONDITION, "LAST_ADMINISTRATOR")
NEW_PASSWORD = "a password for the shop"


def creation(email: str = "root@example.com", **changes: Any) -> pb.CreateAdministratorRequest:
    return pb.CreateAdministratorRequest(
        **{"email": email, "username": "root", "password": NEW_PASSWORD, **changes}
    )


def granting(user: pb.User, role: policy_pb2.Role.ValueType = ADMIN) -> pb.GrantRoleRequest:
    return pb.GrantRoleRequest(user_id=user.user_id, role=role)


def revoking(user: pb.User, role: policy_pb2.Role.ValueType = ADMIN) -> pb.RevokeRoleRequest:
    return pb.RevokeRoleRequest(user_id=user.user_id, role=role)


async def has_password(store: Store[Transaction], user: pb.User, password: str) -> bool:
    found = await store.read(lambda tx: tx.users.get(user.user_id))
    return PasswordHasher().verify(found.password_hash, password)


async def test_a_role_is_granted_and_revoked_and_told_once_each(
    users: UserServiceStub, store: Store[Transaction]
) -> None:
    user = await active(users)
    granted = await users.GrantRole(granting(user, SUPPORT))
    assert list(granted.roles) == [CUSTOMER, SUPPORT]
    assert (await users.GrantRole(granting(user, SUPPORT))).etag == granted.etag
    revoked = await users.RevokeRole(revoking(user, SUPPORT))
    assert list(revoked.roles) == [CUSTOMER]
    assert (await users.RevokeRole(revoking(user, SUPPORT))).etag == revoked.etag
    assert await events(store, told.UserRoleGranted) == [
        told.UserRoleGranted(user_id=user.user_id, role=SUPPORT)
    ]
    assert await events(store, told.UserRoleRevoked) == [
        told.UserRoleRevoked(user_id=user.user_id, role=SUPPORT)
    ]


async def test_an_account_may_have_no_role_left(users: UserServiceStub) -> None:
    user = await active(users)
    await users.RevokeRole(revoking(user, CUSTOMER))
    assert not (await users.GetUser(pb.GetUserRequest(user_id=user.user_id))).roles


async def test_an_ended_account_is_trusted_with_nothing_new(users: UserServiceStub) -> None:
    user = await active(users)
    await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    ended = (grpc.StatusCode.FAILED_PRECONDITION, "USER_DEACTIVATED")
    assert await reason(users.GrantRole(granting(user))) == ended
    assert await reason(users.RevokeRole(revoking(user))) == ended


LOSSES: list[Callable[[UserServiceStub, pb.User], Any]] = [
    lambda users, user: users.RevokeRole(revoking(user)),
    lambda users, user: users.SuspendUser(pb.SuspendUserRequest(user_id=user.user_id, reason="r")),
    lambda users, user: users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id)),
]


@pytest.mark.parametrize("lose", LOSSES, ids=["revoked", "suspended", "deactivated"])
async def test_the_shop_keeps_an_administrator_who_can_act(
    users: UserServiceStub, lose: Callable[[UserServiceStub, pb.User], Any]
) -> None:
    root = await users.CreateAdministrator(creation())
    waiting = await users.RegisterUser(registration("ada"))
    await users.GrantRole(granting(waiting))  # could, but not before it is activated
    stopped = await active(users, "bob")
    await users.GrantRole(granting(stopped))
    await users.SuspendUser(pb.SuspendUserRequest(user_id=stopped.user_id, reason="r"))
    assert await reason(lose(users, root)) == LAST
    assert (await users.GetUser(pb.GetUserRequest(user_id=root.user_id))) == root
    await users.ActivateUser(pb.ActivateUserRequest(user_id=waiting.user_id))
    await lose(users, root)


async def test_who_leaves_at_the_same_moment_as_the_other_stays(users: UserServiceStub) -> None:
    both = [await active(users, name) for name in ("ada", "bob")]
    for user in both:
        await users.GrantRole(granting(user))
    ended = await asyncio.gather(*(users.RevokeRole(revoking(user)) for user in both), return_exceptions=True)
    assert sorted(isinstance(end, grpc.aio.AioRpcError) for end in ended) == [False, True]


async def test_a_shop_gets_its_first_administrator(users: UserServiceStub, store: Store[Transaction]) -> None:
    root = await users.CreateAdministrator(creation())
    assert (root.state, list(root.roles)) == (pb.User.STATE_ACTIVE, [CUSTOMER, ADMIN])
    assert (root.email, root.username) == ("root@example.com", "root")
    assert await has_password(store, root, NEW_PASSWORD)
    assert await events(store, told.UserRegistered, told.UserActivated, told.UserRoleGranted) == [
        told.UserRegistered(user_id=root.user_id, username="root"),
        told.UserActivated(user_id=root.user_id),
        told.UserRoleGranted(user_id=root.user_id, role=ADMIN),
    ]


async def test_a_repeat_makes_one_administrator_and_gets_the_first_reply_whole(
    users: UserServiceStub,
) -> None:
    request = creation(request_id="same")
    replies = await asyncio.gather(*(users.CreateAdministrator(request) for _ in range(4)))
    assert all(reply == replies[0] for reply in replies)
    assert replies[0].email == "root@example.com"
    assert len((await users.ListUsers(pb.ListUsersRequest())).users) == 1


@pytest.mark.parametrize("activated", [True, False])
async def test_an_account_of_that_address_is_taken_over_and_whoever_knew_its_password_is_out(
    users: UserServiceStub, store: Store[Transaction], *, activated: bool
) -> None:
    before = await active(users) if activated else await users.RegisterUser(registration())
    root = await users.CreateAdministrator(creation("ADA@example.com", username="other"))
    assert (root.user_id, root.username, root.email) == (before.user_id, "ada", "ada@example.com")
    assert (root.state, list(root.roles)) == (pb.User.STATE_ACTIVE, [CUSTOMER, ADMIN])
    assert await has_password(store, root, NEW_PASSWORD)


async def test_an_administrator_who_is_locked_out_gets_back_in(
    users: UserServiceStub, store: Store[Transaction]
) -> None:
    root = await users.CreateAdministrator(creation())
    again = await users.CreateAdministrator(creation(password=PASSWORD))
    assert again.user_id == root.user_id
    assert await has_password(store, again, PASSWORD)


async def test_an_operator_unlocks_the_door_that_others_have_locked(
    users: UserServiceStub, sessions: SessionServiceStub
) -> None:
    await users.CreateAdministrator(creation())
    wrong = session_pb2.CreateSessionRequest(email="root@example.com", password="not the password")
    right = session_pb2.CreateSessionRequest(email="ROOT@example.com", password=NEW_PASSWORD)
    while (await reason(sessions.CreateSession(wrong)))[1] != "SIGN_IN_LOCKED":
        pass
    assert (await reason(sessions.CreateSession(right)))[1] == "SIGN_IN_LOCKED"
    await users.CreateAdministrator(creation())
    assert (await sessions.CreateSession(right)).access_token


async def test_a_suspended_account_is_not_let_in_by_the_back_door(users: UserServiceStub) -> None:
    user = await active(users)
    await users.SuspendUser(pb.SuspendUserRequest(user_id=user.user_id, reason="fraud"))
    assert await reason(users.CreateAdministrator(creation(user.email))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "USER_NOT_ACTIVATABLE",
    )
    assert (await users.GetUser(pb.GetUserRequest(user_id=user.user_id))).state == pb.User.STATE_SUSPENDED


async def test_an_administrator_cannot_have_anothers_name(users: UserServiceStub) -> None:
    await active(users, "root")
    assert await reason(users.CreateAdministrator(creation("boss@example.com"))) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "USERNAME_TAKEN",
    )


async def test_nobody_is_trusted_who_is_not_there(users: UserServiceStub) -> None:
    missing = (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    for call in (
        users.GrantRole(granting(pb.User(user_id=NOBODY))),
        users.RevokeRole(revoking(pb.User(user_id=NOBODY))),
    ):
        assert await reason(call) == missing
