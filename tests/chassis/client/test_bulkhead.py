"""How many calls may wait for one target, against real servers."""

import asyncio

import grpc
import pytest

from services.chassis import status
from services.chassis.client.bulkhead import CRITICAL_RESERVE, IN_FLIGHT_MAX
from services.chassis.metrics import Metrics
from services.chassis.testing import FakeClock, until
from tests.chassis.client.neighbour import WAIT_S, Neighbour, called, refusal, stub
from tests.chassis.playground import METHODS, Ping

ROOM = IN_FLIGHT_MAX - CRITICAL_RESERVE


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def neighbour(clock: FakeClock) -> Neighbour:
    found = Neighbour(clock)
    found.hangs = True
    return found


async def test_a_full_bulkhead_refuses_at_once_and_empties_again(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    metrics = Metrics()
    async with called(neighbour, clock, metrics=metrics) as channel:
        labels = {"target": channel.target}
        fire = stub(channel).Fire
        waiting = [asyncio.ensure_future(fire(Ping())) for _ in range(ROOM)]
        await until(lambda: neighbour.waiting == ROOM)
        error = await refusal(fire(Ping()))
        assert (error.code(), status.reason(error)) == (grpc.StatusCode.UNAVAILABLE, "BULKHEAD_FULL")
        assert status.retry_after_s(error)
        assert metrics.registry.get_sample_value("grpc_client_bulkhead_in_flight", labels) == ROOM
        assert metrics.registry.get_sample_value("grpc_client_bulkhead_refused_total", labels) == 1
        neighbour.gate.set()
        await asyncio.wait_for(asyncio.gather(*waiting), WAIT_S)
        await fire(Ping())
        assert metrics.registry.get_sample_value("grpc_client_bulkhead_in_flight", labels) == 0
    assert neighbour.calls == ROOM + 1


async def test_its_refusals_do_not_open_circuits(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        fire = stub(channel).Fire
        waiting = [asyncio.ensure_future(fire(Ping())) for _ in range(ROOM)]
        await until(lambda: neighbour.waiting == ROOM)
        reasons = {status.reason(await refusal(fire(Ping()))) for _ in range(50)}
        neighbour.gate.set()
        await asyncio.wait_for(asyncio.gather(*waiting), WAIT_S)
    assert reasons == {"BULKHEAD_FULL"}


async def test_critical_calls_have_room_of_their_own(neighbour: Neighbour, clock: FakeClock) -> None:
    assert METHODS["Settle"].is_critical
    async with called(neighbour, clock) as channel:
        # Those who repeat calls themselves share the room.
        fire, settle = stub(channel).Fire, stub(channel.without_retries()).Settle
        waiting = [asyncio.ensure_future(fire(Ping())) for _ in range(ROOM)]
        waiting += [asyncio.ensure_future(settle(Ping())) for _ in range(CRITICAL_RESERVE)]
        await until(lambda: neighbour.waiting == IN_FLIGHT_MAX)
        assert status.reason(await refusal(settle(Ping()))) == "BULKHEAD_FULL"
        neighbour.gate.set()
        await asyncio.wait_for(asyncio.gather(*waiting), WAIT_S)


async def test_a_hung_target_takes_no_room_from_another(neighbour: Neighbour, clock: FakeClock) -> None:
    well = Neighbour(clock)
    async with called(neighbour, clock) as hung, called(well, clock) as other:
        waiting = [asyncio.ensure_future(stub(hung).Fire(Ping())) for _ in range(ROOM)]
        await until(lambda: neighbour.waiting == ROOM)
        assert (await asyncio.wait_for(stub(other).Fire(Ping(name="a")), WAIT_S)).name == "a"
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
