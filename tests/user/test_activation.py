"""Activation by a token that only mail carries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1.user_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server

from services.chassis import telemetry
from services.chassis.paging import Pages
from services.chassis.server.access import Access
from services.chassis.storage.database import Store
from services.chassis.storage.retention import Janitor
from services.chassis.testing import FakeClock, SequentialIds, serving
from services.user import activation, activation_store
from services.user.passwords import Passwords
from services.user.search import Search
from services.user.servicer import UserServicer
from services.user.sign_in import Attempts
from services.user.store import Transaction
from tests.chassis.identity.issuer import TestIssuer
from tests.databases import connected, kept
from tests.user.accounts import NOBODY, reason, refusal, registration

REFUSED = (grpc.StatusCode.PERMISSION_DENIED, "ACTIVATION_REFUSED")


async def issued(users: UserServiceStub, user_id: str, request_id: str = "letter") -> str:
    reply = await users.IssueActivationToken(
        pb.IssueActivationTokenRequest(user_id=user_id, request_id=request_id)
    )
    return reply.activation_token


def activating(user_id: str, token: str) -> pb.ActivateUserRequest:
    return pb.ActivateUserRequest(user_id=user_id, activation_token=token)


async def test_who_has_the_token_activates_the_account(users: UserServiceStub, clock: FakeClock) -> None:
    user = await users.RegisterUser(registration())
    reply = await users.IssueActivationToken(
        pb.IssueActivationTokenRequest(user_id=user.user_id, request_id="letter")
    )
    assert reply.expire_time.ToDatetime(clock.now().tzinfo) == clock.now() + activation.LIFETIME
    activated = await users.ActivateUser(activating(user.user_id.upper(), reply.activation_token))
    assert activated.state == pb.User.STATE_ACTIVE
    assert activated.email == user.email


async def test_a_repeated_activation_gets_the_first_reply(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    request = activating(user.user_id, await issued(users, user.user_id))
    request.request_id = "same"
    replies = await asyncio.gather(*(users.ActivateUser(request) for _ in range(8)))
    assert all(reply == replies[0] for reply in replies)


async def test_a_token_is_good_for_one_activation(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    token = await issued(users, user.user_id)
    both = [users.ActivateUser(activating(user.user_id, token)) for _ in range(2)]
    ended = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(isinstance(end, grpc.aio.AioRpcError) for end in ended) == [False, True]
    assert await reason(users.ActivateUser(activating(user.user_id, token))) == REFUSED


async def test_a_letter_sent_twice_has_the_same_token_and_the_next_letter_another(
    users: UserServiceStub,
) -> None:
    user = await users.RegisterUser(registration())
    first = await issued(users, user.user_id)
    assert await issued(users, user.user_id) == first
    second = await issued(users, user.user_id, "next letter")
    assert second != first
    assert await reason(users.ActivateUser(activating(user.user_id, first))) == REFUSED
    assert (await users.ActivateUser(activating(user.user_id, second))).state == pb.User.STATE_ACTIVE


async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(
    users: UserServiceStub, clock: FakeClock
) -> None:
    ada, bob = [await users.RegisterUser(registration(name)) for name in ("ada", "bob")]
    of_bob = await issued(users, bob.user_id)
    answers = [await refusal(users.ActivateUser(activating(ada.user_id, of_bob)))]  # none was issued for her
    of_ada = await issued(users, ada.user_id)
    for user_id, token in (
        (ada.user_id, of_bob),
        (ada.user_id, of_ada[:-1]),
        (ada.user_id, "é" * 128),
        (NOBODY, of_ada),
    ):
        answers.append(await refusal(users.ActivateUser(activating(user_id, token))))
    clock.advance(activation.LIFETIME.total_seconds())
    answers.append(await refusal(users.ActivateUser(activating(ada.user_id, of_ada))))
    assert {(answer.code(), answer.details()) for answer in answers} == {
        (grpc.StatusCode.PERMISSION_DENIED, answers[0].details())
    }
    assert len({str(answer.trailing_metadata()) for answer in answers}) == 1
    assert (await users.GetUser(pb.GetUserRequest(user_id=ada.user_id))).state == pb.User.STATE_INACTIVE


async def test_a_token_works_to_its_last_moment(users: UserServiceStub, clock: FakeClock) -> None:
    user = await users.RegisterUser(registration())
    token = await issued(users, user.user_id)
    clock.advance(activation.LIFETIME.total_seconds() - 0.001)
    assert (await users.ActivateUser(activating(user.user_id, token))).state == pb.User.STATE_ACTIVE


async def test_a_token_is_for_the_address_it_was_sent_to(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    token = await issued(users, user.user_id)
    user.email = "somebody-else@example.com"
    await users.UpdateUser(pb.UpdateUserRequest(user=user))
    assert await reason(users.ActivateUser(activating(user.user_id, token))) == REFUSED


@pytest.mark.parametrize("end", ["activate", "deactivate"])
async def test_only_an_inactive_account_gets_a_token(users: UserServiceStub, end: str) -> None:
    user = await users.RegisterUser(registration())
    if end == "activate":
        await users.ActivateUser(pb.ActivateUserRequest(user_id=user.user_id))
    else:
        await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    asked = users.IssueActivationToken(pb.IssueActivationTokenRequest(user_id=user.user_id))
    assert await reason(asked) == (grpc.StatusCode.FAILED_PRECONDITION, "USER_NOT_ACTIVATABLE")


async def test_nobody_gets_a_token_for_nobody(users: UserServiceStub) -> None:
    asked = users.IssueActivationToken(pb.IssueActivationTokenRequest(user_id=NOBODY))
    assert await reason(asked) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")


async def test_an_account_ended_since_stays_ended(users: UserServiceStub) -> None:
    user = await users.RegisterUser(registration())
    token = await issued(users, user.user_id)
    await users.DeactivateUser(pb.DeactivateUserRequest(user_id=user.user_id))
    assert await reason(users.ActivateUser(activating(user.user_id, token))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "USER_NOT_ACTIVATABLE",
    )


async def test_a_token_is_neither_kept_nor_told_nor_logged(users: UserServiceStub, database_url: str) -> None:
    user = await users.RegisterUser(registration())
    with telemetry.captured() as lines:
        token = await issued(users, user.user_id)
        await refusal(users.ActivateUser(activating(user.user_id, token + "x")))
        await users.ActivateUser(activating(user.user_id, token))
    assert token.encode() not in kept(database_url)
    assert token not in str(lines)


async def test_expired_tokens_are_forgotten(
    users: UserServiceStub, store: Store[Transaction], clock: FakeClock, database_url: str
) -> None:
    user = await users.RegisterUser(registration())
    await issued(users, user.user_id)
    janitor = Janitor(store, clock=clock)
    assert await janitor.sweep(activation_store.RETENTION) == 0
    clock.advance(activation.LIFETIME.total_seconds() + 1)
    assert await janitor.sweep(activation_store.RETENTION) == 1
    with closing(connected(database_url)) as reader:
        assert reader.execute("SELECT count(*) FROM activations").fetchone() == (0,)


@dataclass(frozen=True)
class Guarded:
    users: UserServiceStub
    issuer: TestIssuer

    def activate(self, user_id: str, token: str = "", **claims: Any) -> Any:
        bearer = self.issuer.token(**claims) if claims else ""
        metadata = [("authorization", f"Bearer {bearer}")] if bearer else []
        return self.users.ActivateUser(activating(user_id, token), metadata=metadata)


@pytest.fixture
async def guarded(
    store: Store[Transaction], passwords: Passwords, clock: FakeClock
) -> AsyncIterator[Guarded]:
    """Accounts behind the gate that the contract describes."""
    issuer = TestIssuer(clock)
    search = Search(store, Pages(b"s", clock=clock))
    attempts = Attempts(store, passwords, clock=clock, secret=b"s")
    servicer = UserServicer(store, search, passwords, attempts, clock=clock, ids=SequentialIds(), secret=b"s")
    gate = Access(await issuer.trusted(), lambda _context: "")
    served = (add_UserServiceServicer_to_server, servicer)
    async with serving(served, files=[pb.DESCRIPTOR], access=gate) as channel:
        yield Guarded(UserServiceStub(channel), issuer)


GUESTS: list[dict[str, Any]] = [
    {},
    {"roles": ["customer"]},
    {"roles": ["support", "warehouse"]},
    {"roles": ["admin"], "scopes": ["user:read", "order:write"]},
    {"roles": ["admin"], "exp": 1},
]


@pytest.mark.parametrize("claims", GUESTS)
async def test_without_a_token_only_an_administrator_activates(
    guarded: Guarded, users: UserServiceStub, claims: dict[str, Any]
) -> None:
    user = await users.RegisterUser(registration())
    assert await reason(guarded.activate(user.user_id, **claims)) == REFUSED
    assert await reason(guarded.activate(NOBODY, **claims)) == REFUSED
    token = await issued(users, user.user_id)
    activated = await guarded.activate(user.user_id, token, **claims)
    assert activated.state == pb.User.STATE_ACTIVE


@pytest.mark.parametrize("claims", [{"roles": ["admin"]}, {"roles": ["admin"], "scopes": ["user:write"]}])
async def test_an_administrator_needs_no_token(
    guarded: Guarded, users: UserServiceStub, claims: dict[str, Any]
) -> None:
    user = await users.RegisterUser(registration())
    assert (await guarded.activate(user.user_id, **claims)).state == pb.User.STATE_ACTIVE
    assert await reason(guarded.activate(NOBODY, **claims)) == (
        grpc.StatusCode.NOT_FOUND,
        "USER_NOT_FOUND",
    )


async def test_what_an_administrator_was_answered_is_not_answered_to_others(
    guarded: Guarded, users: UserServiceStub
) -> None:
    """The method is open to all, so its request ids are everybody's."""
    user = await users.RegisterUser(registration())
    request = pb.ActivateUserRequest(user_id=user.user_id, request_id="same")
    bearer = guarded.issuer.token(roles=["admin"])
    await guarded.users.ActivateUser(request, metadata=[("authorization", f"Bearer {bearer}")])
    assert await reason(guarded.users.ActivateUser(request)) == REFUSED
