"""The gate that counts, on a real server and by what the edge says of its clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import user_pb2, user_pb2_grpc

from services.chassis import status
from services.chassis.context import RequestContext, TraceContext
from services.chassis.contract import ContractError, Method
from services.chassis.identity.caller import Caller
from services.chassis.networks import networks
from services.chassis.server.rates import RateLimited, Rates
from services.chassis.testing import FakeClock, serving
from tests.chassis.playground import METHODS
from tests.chassis.server.test_address import Call

REGISTRATIONS = 10  # a minute, as the contract has it
PER_S = 60
ADA, BOB = "0199a1b2-0000-7000-8000-00000000000a", "0199a1b2-0000-7000-8000-00000000000b"


class Users(user_pb2_grpc.UserServiceServicer):
    """Takes everybody."""

    async def RegisterUser(self, request: user_pb2.RegisterUserRequest, context: Any) -> user_pb2.User:
        return user_pb2.User()

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Any) -> user_pb2.User:
        return user_pb2.User()


@asynccontextmanager
async def counted(rates: Rates) -> AsyncIterator[user_pb2_grpc.UserServiceStub]:
    users: Any = Users()  # type: ignore[abstract]  # of all RPCs, two are called
    async with serving(
        (user_pb2_grpc.add_UserServiceServicer_to_server, users), files=[user_pb2.DESCRIPTOR], rates=rates
    ) as channel:
        yield user_pb2_grpc.UserServiceStub(channel)


NEW = user_pb2.RegisterUserRequest(email="ada@example.com", username="ada-lovelace", password="correct horse")


async def test_a_guest_may_ask_as_often_as_the_contract_says() -> None:
    clock = FakeClock()
    async with counted(Rates(clock.monotonic)) as stub:
        for _ in range(REGISTRATIONS):
            await stub.RegisterUser(NEW)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.RegisterUser(NEW)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status.reason(refused.value) == "RATE_LIMITED"
        wait_s = status.retry_after_s(refused.value)
        assert wait_s is not None
        assert 0 < wait_s <= 2 * PER_S
        for _ in range(3 * REGISTRATIONS):
            await stub.GetUser(user_pb2.GetUserRequest(user_id=ADA))  # which has no limit
        clock.advance(wait_s + 0.001)
        await stub.RegisterUser(NEW)


async def test_who_is_exempt_is_not_counted() -> None:
    rates = Rates(FakeClock().monotonic, networks(("127.0.0.0/8",)))
    async with counted(rates) as stub:
        for _ in range(3 * REGISTRATIONS):
            await stub.RegisterUser(NEW)


def limited(by: "policy_pb2.RateLimit.By.ValueType", requests: int = 2) -> Method:
    limit = policy_pb2.RateLimit(requests=requests, by=by)
    limit.per.seconds = PER_S
    return replace(METHODS["Fire"], policy=policy_pb2.MethodPolicy(rate_limits=[limit]))


class Door:
    """The gate in front of one method."""

    def __init__(self, method: Method, **options: Any) -> None:
        guard = Rates(FakeClock().monotonic, **options).guard(method)
        assert guard is not None
        self._guard = guard

    def lets_in(self, *calls: Call, caller: Caller | None = None) -> list[bool]:
        return [self._lets_in(call, caller or Caller()) for call in calls]

    def _lets_in(self, call: Any, caller: Caller) -> bool:
        try:
            self._guard(None, RequestContext(TraceContext.fresh(), caller=caller), call)
        except RateLimited:
            return False
        return True


def guest(address: str) -> Call:
    return Call(f"ipv4:{address}:4711", "")


def passed_on(address: str) -> Call:
    return Call("ipv4:10.0.0.1:4711", "gateway", ("x-bodega-client-address", address))


BY_ADDRESS, BY_CALLER = policy_pb2.RateLimit.BY_ADDRESS, policy_pb2.RateLimit.BY_CALLER


def test_what_the_edge_passes_on_counts_for_its_client() -> None:
    door = Door(limited(BY_ADDRESS))
    assert door.lets_in(*[passed_on("203.0.113.1")] * 3) == [True, True, False]
    assert door.lets_in(passed_on("203.0.113.2"))[0]
    assert not door.lets_in(guest("203.0.113.1"))[0], "by whichever way it comes"


def test_what_the_edge_does_not_say_is_not_held_against_all() -> None:
    assert all(Door(limited(BY_ADDRESS)).lets_in(*[Call("ipv4:10.0.0.1:4711", "gateway")] * 9))


def test_the_houses_own_programs_are_not_counted() -> None:
    assert all(Door(limited(BY_ADDRESS)).lets_in(*[Call("ipv4:10.0.0.2:4711", "order")] * 9))


def test_an_account_counts_wherever_it_comes_from_and_apart_from_its_keys() -> None:
    door = Door(limited(BY_CALLER))
    everywhere = [guest(f"203.0.113.{n}") for n in range(3)]
    assert door.lets_in(*everywhere, caller=Caller(user_id=ADA)) == [True, True, False]
    assert door.lets_in(guest("203.0.113.0"), caller=Caller(user_id=BOB))[0]
    by_key = Caller(user_id=ADA, scopes=frozenset({"order:read"}))
    assert door.lets_in(*everywhere, caller=by_key) == [True, True, False]
    assert door.lets_in(*[guest("203.0.113.9")] * 3) == [True, True, False], "nobody is their address"


def test_whoever_has_many_addresses_does_not_fill_the_memory() -> None:
    door = Door(limited(BY_ADDRESS, requests=1), kept_max=10)
    assert all(door.lets_in(*[guest(f"203.0.{n}.{m}") for n in range(4) for m in range(250)]))
    assert not door.lets_in(guest("203.0.3.249"))[0]


def test_a_method_without_limits_is_not_even_asked() -> None:
    assert Rates(FakeClock().monotonic).guard(METHODS["Fire"]) is None


def test_a_limit_that_makes_no_sense_stops_the_start() -> None:
    with pytest.raises(ContractError, match="rate limit"):
        Rates(FakeClock().monotonic).guard(limited(BY_ADDRESS, requests=0))
