"""The client onion against real servers; time between attempts is the test's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.chassis import client, context, status, telemetry
from services.chassis.client.deadline import DEADLINE_MARGIN_S
from services.chassis.context import RequestContext, TraceContext
from services.chassis.contract import DEADLINE_MAX_S, STREAM_DEADLINE_MAX_S, ContractError
from services.chassis.metrics import Metrics
from services.chassis.policy.circuit import Limits
from services.chassis.testing import FakeClock, SequentialIds, serving
from services.kernel import errors
from services.kernel.clock import SystemClock
from tests.chassis import playground
from tests.chassis.playground import FILE, METHODS, Ping, Pong, Stub

WAIT_S = 5.0
NEVER_OPEN = Limits(consecutive_failures=10_000, calls_min=10_000)


class ShopClosed(errors.Unavailable):
    """The shop is closed."""

    retry_after_s = 0.0


class LostTheRace(errors.Stale):
    """Someone was faster."""


class Nowhere(errors.NotFound):
    """There is no {name}."""


class Flaky:
    """A handler that fails as told, then works; keeps what it was asked."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []

    @property
    def handler(self) -> Callable[[Any, Any], Any]:
        async def handle(request: Any, context: Any) -> Any:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            if self._failures:
                raise self._failures.pop(0)
            return Pong(name=request.name)

        return handle


class Waits:
    """A sleep that only remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@asynccontextmanager
async def calling(
    flaky: Flaky, method: str = "Write", waits: Waits | None = None, **options: Any
) -> AsyncIterator[Stub]:
    async with (
        serving((playground.add_to_server, {method: flaky.handler}), files=[FILE]) as served,
        client.connect(served.target, FILE, sleep=waits or Waits(), random=lambda: 0.5, **options) as channel,
    ):
        yield Stub(channel)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_unavailable_is_tried_again_with_doubling_jitter() -> None:
    flaky, waits = Flaky(ShopClosed(), ShopClosed()), Waits()
    async with calling(flaky, waits=waits) as stub:
        assert (await stub.Write(Ping(name="a"))).name == "a"
    assert waits.seconds == pytest.approx([0.05, 0.1])
    assert [seen.get("grpc-previous-rpc-attempts") for seen in flaky.metadata] == [None, "1", "2"]


async def test_three_attempts_are_the_most() -> None:
    flaky = Flaky(*[ShopClosed()] * 5)
    async with calling(flaky) as stub:
        error = await refusal(stub.Write(Ping()))
    assert status.reason(error) == "SHOP_CLOSED"
    assert len(flaky.requests) == 3


async def test_who_repeats_calls_himself_is_not_helped() -> None:
    flaky = Flaky(ShopClosed(), ShopClosed())
    async with (
        serving((playground.add_to_server, {"Write": flaky.handler}), files=[FILE]) as served,
        client.connect(served.target, FILE) as channel,
    ):
        error = await refusal(Stub(channel.without_retries()).Write(Ping()))
    assert status.reason(error) == "SHOP_CLOSED"
    assert len(flaky.requests) == 1
    assert flaky.requests[0].request_id


async def test_what_is_not_idempotent_is_never_tried_again() -> None:
    flaky = Flaky(ShopClosed())
    async with calling(flaky, "Fire") as stub:
        error = await refusal(stub.Fire(Ping()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len(flaky.requests) == 1


async def test_a_definite_refusal_is_not_tried_again() -> None:
    flaky = Flaky(Nowhere(name="x"))
    async with calling(flaky) as stub:
        await refusal(stub.Write(Ping()))
    assert len(flaky.requests) == 1


async def test_a_servers_explicit_retry_info_is_followed() -> None:
    flaky, waits = Flaky(LostTheRace()), Waits()
    async with calling(flaky, waits=waits) as stub:
        await stub.Write(Ping())
    assert waits.seconds == pytest.approx([status.STALE_RETRY_S + 0.05])


@pytest.mark.parametrize(("pushback", "attempts", "waited"), [("700", 2, [0.7]), ("-1", 1, []), ("x", 1, [])])
async def test_a_servers_pushback_has_the_last_word(
    pushback: str, attempts: int, waited: list[float]
) -> None:
    seen = []

    async def handler(_request: Any, context: Any) -> Any:
        seen.append(1)
        if len(seen) == 1:
            trailers = (("grpc-retry-pushback-ms", pushback),)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "busy", trailers)
        return Pong()

    waits = Waits()
    async with (
        serving((playground.add_to_server, {"Read": handler}), files=[FILE]) as served,
        client.connect(served.target, FILE, sleep=waits, random=lambda: 0.5) as channel,
    ):
        outcome = await asyncio.gather(Stub(channel).Read(Ping()), return_exceptions=True)
    assert len(seen) == attempts
    assert waits.seconds == pytest.approx(waited)
    assert isinstance(outcome[0], grpc.aio.AioRpcError) == (attempts == 1)


async def test_the_budget_ends_a_storm_of_retries() -> None:
    flaky = Flaky(*[ShopClosed()] * 1000)
    async with calling(flaky, circuits=NEVER_OPEN) as stub:
        write = stub.Write
        for _ in range(100):
            await refusal(write(Ping()))
    retries = len(flaky.requests) - 100
    assert 10 <= retries <= 10 + 100 * 0.1


async def test_through_two_hops_only_the_one_next_to_the_failure_retries() -> None:
    flaky, asked = Flaky(*[ShopClosed()] * 100), []
    async with calling(flaky, "Read") as inner:

        async def relay(request: Any, _context: Any) -> Any:
            asked.append(request)
            return await inner.Read(request)

        async with (
            serving((playground.add_to_server, {"Read": relay}), files=[FILE]) as served,
            client.connect(served.target, FILE, sleep=Waits()) as outer,
        ):
            error = await refusal(Stub(outer).Read(Ping()))
    assert status.reason(error) == "NEIGHBOUR_UNAVAILABLE"
    assert (len(asked), len(flaky.requests)) == (1, 3)


async def test_what_there_was_no_time_to_ask_is_late_and_not_the_neighbours_fault() -> None:
    flaky = Flaky()
    async with calling(flaky, "Read") as inner:

        async def hurried(request: Any, _context: Any) -> Any:
            at_hand = context.current()
            assert at_hand is not None
            at_hand.deadline = SystemClock().monotonic() + DEADLINE_MARGIN_S / 2
            return await inner.Read(request)

        async with serving((playground.add_to_server, {"Read": hurried}), files=[FILE]) as outer:
            error = await refusal(Stub(outer.without_retries()).Read(Ping()))
    assert (error.code(), status.reason(error)) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
    )
    assert not flaky.requests


async def test_no_caller_waits_longer_than_a_unary_call_may_take() -> None:
    left: list[float] = []

    async def note(_request: Any, context: Any) -> Any:
        left.append(context.time_remaining())
        return Pong()

    async def watch(_request: Any, context: Any) -> Any:
        left.append(context.time_remaining())
        yield Pong()

    async with serving((playground.add_to_server, {"Read": note, "Watch": watch}), files=[FILE]) as channel:
        await Stub(channel).Read(Ping(), timeout=1e6)
        async for _ in Stub(channel).Watch(Ping()):
            pass
    # The wire has fewer digits for long times, and rounds up by a hundredth at most.
    assert DEADLINE_MAX_S - WAIT_S < left[0] <= DEADLINE_MAX_S * 1.01
    assert STREAM_DEADLINE_MAX_S - WAIT_S < left[1] <= STREAM_DEADLINE_MAX_S * 1.01


async def test_no_retry_that_the_deadline_has_no_time_for() -> None:
    flaky = Flaky(ShopClosed())
    async with calling(flaky) as stub:
        await refusal(stub.Write(Ping(), timeout=0.04))
    assert len(flaky.requests) <= 1


async def test_all_attempts_of_a_write_are_one_request() -> None:
    flaky = Flaky(ShopClosed())
    async with calling(flaky, ids=SequentialIds()) as stub:
        mine = Ping(name="a")
        await stub.Write(mine)
        await stub.Write(mine)
    first, again, second = (request.request_id for request in flaky.requests)
    assert first == again == "00000000-0000-7000-8000-000000000001"
    assert second == "00000000-0000-7000-8000-000000000002"
    assert not mine.request_id


async def test_a_request_id_of_the_callers_own_stays() -> None:
    flaky = Flaky()
    async with calling(flaky) as stub:
        await stub.Write(Ping(request_id="mine"))
    assert flaky.requests[0].request_id == "mine"


async def test_a_read_is_given_no_request_id() -> None:
    flaky = Flaky()
    async with calling(flaky, "Read") as stub:
        await stub.Read(Ping())
    assert not flaky.requests[0].request_id


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with client.connect("127.0.0.1:1", FILE, sleep=Waits()) as channel:
        error = await refusal(Stub(channel).Read(Ping()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_whose_time_is_over_is_not_made() -> None:
    flaky, clock = Flaky(), FakeClock()
    at_hand = RequestContext(TraceContext.fresh(), deadline=clock.monotonic() + DEADLINE_MARGIN_S)
    async with calling(flaky, clock=clock) as stub:
        with context.working_on(at_hand):
            error = await refusal(stub.Write(Ping()))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not flaky.requests


async def test_deadline_and_trace_run_through_two_hops_and_the_deadline_shrinks() -> None:
    left: dict[str, float] = {}

    def note(name: str) -> None:
        request = context.current()
        assert request is not None
        assert request.deadline is not None
        left[name] = request.deadline - SystemClock().monotonic()

    async def last(_request: Any, _context: Any) -> Any:
        note("last")
        return Pong()

    with telemetry.captured() as lines:
        async with serving((playground.add_to_server, {"Write": last}), files=[FILE]) as to_last:

            async def middle(request: Any, _context: Any) -> Any:
                note("middle")
                return await Stub(to_last).Write(request)

            async with serving((playground.add_to_server, {"Fire": middle}), files=[FILE]) as to_middle:
                await Stub(to_middle).Fire(Ping(), timeout=2.0)
    assert left["middle"] < 2.1
    assert left["last"] < left["middle"] - DEADLINE_MARGIN_S / 2
    calls = [line for line in lines if line["event"] == "call"]
    assert [line["method"].rsplit("/")[-1] for line in calls] == ["Write", "Fire"]
    assert len({line["trace_id"] for line in calls}) == 1
    assert len({line["span_id"] for line in calls}) == 2


async def test_a_caller_that_gives_up_cancels_the_call_at_the_far_end() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(_request: Any, _context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving((playground.add_to_server, {"Write": handler}), files=[FILE]) as channel:
        call = asyncio.ensure_future(Stub(channel).Write(Ping()))
        await asyncio.wait_for(begun.wait(), WAIT_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(ended.wait(), WAIT_S)


async def test_metrics_count_a_call_once_and_its_retries_apart() -> None:
    metrics = Metrics()
    async with calling(Flaky(ShopClosed()), metrics=metrics) as stub:
        await stub.Write(Ping())
    labels = {"grpc_service": playground.SERVICE, "grpc_method": "Write"}
    assert metrics.registry.get_sample_value("grpc_client_retries_total", labels) == 1
    handled = labels | {"grpc_code": "OK"}
    assert metrics.registry.get_sample_value("grpc_client_handled_total", handled) == 1


async def test_streams_carry_the_trace_and_end_with_the_request() -> None:
    seen: list[Any] = []

    async def handler(request: Any, context_: Any) -> Any:
        seen.append((context.current(), context_.time_remaining()))
        yield Pong(name=request.name)
        await asyncio.Event().wait()

    monotonic = SystemClock().monotonic
    at_hand = RequestContext(TraceContext.fresh(), deadline=monotonic() + WAIT_S)
    async with serving((playground.add_to_server, {"Watch": handler}), files=[FILE]) as channel:
        with context.working_on(at_hand):
            stream = Stub(channel).Watch(Ping(name="s"))
            assert (await anext(aiter(stream))).name == "s"
            stream.cancel()
            at_hand.deadline = (
                monotonic() + DEADLINE_MARGIN_S + 0.1
            )  # perhaps not even its first reply is in time
            error = await refusal(watched(channel))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    served, left_s = seen[0]
    assert served.trace.trace_id == at_hand.trace.trace_id
    assert left_s < WAIT_S


async def watched(channel: Any) -> None:
    async for _ in Stub(channel).Watch(Ping()):
        pass


async def test_a_method_of_unknown_contract_is_not_called() -> None:
    async with client.connect("127.0.0.1:1") as channel:
        with pytest.raises(ContractError, match="not declared"):
            Stub(channel).Read  # noqa: B018


def test_the_playground_says_what_these_tests_rely_on() -> None:
    assert METHODS["Write"].is_idempotent
    assert not METHODS["Fire"].is_idempotent
    assert METHODS["Read"].is_read


async def test_a_call_that_the_other_side_drops_is_tried_again() -> None:
    """As servers do that stop, with what has just reached them."""
    calls = 0

    async def dropped_once(request: Any, context: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await context.abort(grpc.StatusCode.CANCELLED, "")
        return Pong(name=request.name)

    async with serving(
        (playground.add_to_server, {"Write": dropped_once, "Fire": dropped_once}), files=[FILE]
    ) as channel:
        assert (await Stub(channel).Write(Ping(name="hi"))).name == "hi"
        assert calls == 2
        calls = 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Stub(channel).Fire(Ping())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert calls == 1
