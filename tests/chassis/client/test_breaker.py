"""Circuits in the client onion, against a real server; the breaker's time is the test's."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from services.chassis import context, status, telemetry
from services.chassis.client.deadline import DEADLINE_MARGIN_S
from services.chassis.client.unsent import was_sent
from services.chassis.context import RequestContext, TraceContext
from services.chassis.metrics import Metrics
from services.chassis.policy.circuit import DEFAULT, Limits
from services.chassis.server.shedding import Overloaded
from services.chassis.testing import FakeClock, until
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.client.neighbour import WAIT_S, Neighbour, Nowhere, ShopClosed, called, refusal, stub
from tests.chassis.playground import METHODS, Ping

LIMITS = Limits(consecutive_failures=3, open_s=2.0, probes=2)
IN_A_ROW = LIMITS.consecutive_failures


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def neighbour(clock: FakeClock) -> Neighbour:
    return Neighbour(clock)


async def fail(call: Callable[..., Any], times: int = IN_A_ROW) -> None:
    for _ in range(times):
        await refusal(call(Ping()))


async def test_what_keeps_failing_is_left_alone_and_says_until_when(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    neighbour.fails_with = ShopClosed()
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        await fail(fire)
        clock.advance(0.5)
        error = await refusal(fire(Ping()))
    assert (error.code(), status.reason(error)) == (grpc.StatusCode.UNAVAILABLE, "CIRCUIT_OPEN")
    assert status.retry_after_s(error) == pytest.approx(1.5)
    assert not was_sent(error)
    assert neighbour.calls == IN_A_ROW


async def test_it_is_called_again_when_its_probes_succeed(neighbour: Neighbour, clock: FakeClock) -> None:
    neighbour.fails_with = ShopClosed()
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        await fail(fire)
        clock.advance(LIMITS.open_s)
        await fail(fire, 1)
        assert status.reason(await refusal(fire(Ping()))) == "CIRCUIT_OPEN"
        clock.advance(LIMITS.open_s)
        neighbour.fails_with = None
        for _ in range(10):
            await fire(Ping())


async def test_a_thousand_who_wait_send_two_probes(neighbour: Neighbour, clock: FakeClock) -> None:
    neighbour.fails_with = ShopClosed()
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        await fail(fire)
        neighbour.fails_with, neighbour.hangs = None, True
        clock.advance(LIMITS.open_s)
        waiting = [asyncio.ensure_future(fire(Ping())) for _ in range(1000)]
        await until(lambda: sum(call.done() for call in waiting) == 1000 - LIMITS.probes)
        await until(lambda: neighbour.waiting == LIMITS.probes)
        neighbour.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), WAIT_S)
    assert sum(not isinstance(answer, Exception) for answer in answers) == LIMITS.probes
    assert neighbour.calls == IN_A_ROW + LIMITS.probes


async def test_a_probe_whose_caller_leaves_makes_room_for_another(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    neighbour.fails_with = ShopClosed()
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        await fail(fire)
        neighbour.fails_with, neighbour.hangs = None, True
        clock.advance(LIMITS.open_s)
        leaving = [asyncio.ensure_future(fire(Ping())) for _ in range(LIMITS.probes)]
        await until(lambda: neighbour.waiting == LIMITS.probes)
        for call in leaving:
            call.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        neighbour.gate.set()
        for _ in range(10):
            await fire(Ping())


class QueueFull(errors.Busy):
    """There are too many already."""

    retry_after_s = 0.0


@pytest.mark.parametrize("refusal", [Nowhere(name="x"), Overloaded(0.0), QueueFull()])
async def test_refusals_are_answers(neighbour: Neighbour, clock: FakeClock, refusal: Exception) -> None:
    neighbour.fails_with = refusal
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        await fail(stub(channel).Fire, 10)
    assert neighbour.calls == 10


async def test_a_bug_of_the_neighbours_is_a_failure(neighbour: Neighbour, clock: FakeClock) -> None:
    neighbour.fails_with = RuntimeError("as the test wants")
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        await fail(stub(channel).Fire, 10)
    assert neighbour.calls == IN_A_ROW


async def test_slow_answers_are_failures(neighbour: Neighbour, clock: FakeClock) -> None:
    neighbour.takes_s = METHODS["Fire"].deadline_s * 0.6
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        for _ in range(IN_A_ROW):
            await fire(Ping())
        assert status.reason(await refusal(fire(Ping()))) == "CIRCUIT_OPEN"


async def test_a_deadline_that_was_the_callers_own_is_no_failure(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    neighbour.hangs = True
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        errors = [await refusal(fire(Ping(), timeout=0.02)) for _ in range(5)]
    assert {error.code() for error in errors} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert all(was_sent(error) for error in errors)


async def test_a_neighbour_that_hangs_for_its_own_deadline_is_left_alone(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    neighbour.hangs = True
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        quick = stub(channel).Quick  # 100 ms by contract
        for _ in range(IN_A_ROW):
            hanging = asyncio.ensure_future(quick(Ping()))
            await until(lambda: neighbour.waiting > 0)
            clock.advance(METHODS["Quick"].deadline_s)
            assert (await refusal(hanging)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await until(lambda: neighbour.waiting == 0)
        assert status.reason(await refusal(quick(Ping()))) == "CIRCUIT_OPEN"


async def test_callers_who_leave_say_nothing(neighbour: Neighbour, clock: FakeClock) -> None:
    neighbour.hangs = True
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        fire = stub(channel).Fire
        for _ in range(5):
            call = asyncio.ensure_future(fire(Ping()))
            await until(lambda: neighbour.waiting > 0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await until(lambda: neighbour.waiting == 0)
        neighbour.hangs = False
        await fire(Ping())


async def test_each_method_has_a_circuit_of_its_own_and_all_channels_share_it(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    neighbour.fails_with = ShopClosed()
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        await fail(stub(channel.without_retries()).Fire)
        assert status.reason(await refusal(stub(channel).Fire(Ping()))) == "CIRCUIT_OPEN"
        assert status.reason(await refusal(stub(channel).Read(Ping()))) == "SHOP_CLOSED"


async def test_changes_are_told_once_and_the_state_can_be_read(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    metrics = Metrics()
    neighbour.fails_with = ShopClosed()

    def figure(name: str, **more: str) -> float | None:
        labels = {"target": channel.target, "grpc_service": playground.SERVICE, "grpc_method": "Fire"}
        return metrics.registry.get_sample_value(name, labels | more)

    with telemetry.captured("warning") as lines:
        async with called(neighbour, clock, circuits=LIMITS, metrics=metrics) as channel:
            fire = stub(channel).Fire
            assert figure("grpc_client_circuit_state") == 0
            await fail(fire, 10)
            assert figure("grpc_client_circuit_state") == 2
            clock.advance(LIMITS.open_s)
            assert figure("grpc_client_circuit_state") == 1
            await fail(fire, 1)
            assert figure("grpc_client_circuit_state") == 2
            clock.advance(LIMITS.open_s)
            neighbour.fails_with = None
            for _ in range(LIMITS.probes):
                await fire(Ping())
            assert figure("grpc_client_circuit_state") == 0
            assert figure("grpc_client_circuit_changes_total", to="open") == 1
            assert figure("grpc_client_circuit_changes_total", to="closed") == 1
    told = [(line["state"], line["method"]) for line in lines if line["event"] == "circuit"]
    assert told == [("open", METHODS["Fire"].path), ("closed", METHODS["Fire"].path)]


async def test_a_dead_dependency_hears_hardly_more_than_its_users_ask(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    """A minute of nothing but failures, at ten requests a second: retries and probes included."""
    neighbour.fails_with = ShopClosed()
    asked = 600
    async with called(neighbour, clock) as channel:
        read = stub(channel).Read
        for _ in range(asked):
            await refusal(read(Ping()))
            clock.advance(60 / asked)
        assert neighbour.calls <= 1.2 * asked
        # And far less, for it is asked a few times a second only; it is found again as soon as it is back.
        assert neighbour.calls <= 0.5 * asked
        neighbour.fails_with = None
        clock.advance(DEFAULT.open_s)
        for _ in range(100):
            await read(Ping())


async def test_through_two_hops_the_innermost_hears_hardly_more_than_users_ask(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    """Every hop has our onion; the middle one turns its neighbour's silence into its own."""
    neighbour.fails_with = ShopClosed()
    asked = 300
    async with called(neighbour, clock) as inner:
        relay = stub(inner).Read
        async with called(Relay(clock, relay), clock) as outer:
            read = stub(outer).Read
            for _ in range(asked):
                await refusal(read(Ping()))
                clock.advance(60 / asked)
    assert 0 < neighbour.calls <= 1.2 * asked


class Relay(Neighbour):
    """Answers what another answers."""

    def __init__(self, clock: FakeClock, relay: Callable[..., Any]) -> None:
        super().__init__(clock)
        self._relay = relay

    async def answer(self, request: Any, _context: Any) -> Any:
        return await self._relay(request)


async def test_a_call_that_cannot_end_in_time_is_not_made(neighbour: Neighbour, clock: FakeClock) -> None:
    at_hand = RequestContext(TraceContext.fresh(), deadline=clock.monotonic() + DEADLINE_MARGIN_S)
    async with called(neighbour, clock, circuits=LIMITS) as channel:
        with context.working_on(at_hand):
            errors = [await refusal(stub(channel).Fire(Ping())) for _ in range(5)]
        await stub(channel).Fire(Ping())
    assert {status.reason(error) for error in errors} == {"NO_TIME_LEFT"}
    assert neighbour.calls == 1
