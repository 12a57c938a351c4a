"""Shedding on a real server: a workshop of so many hands, seen by real clients, in a time that obeys.

By contract `Write` is critical, `Fire` normal, `Read` sheddable.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from services.chassis import context, status, telemetry
from services.chassis.metrics import Metrics
from services.chassis.policy.limiter import Limiter, Priority, Range
from services.chassis.server.deadline import DeadlineExceeded
from services.chassis.testing import FakeClock, serving, until
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong, Stub

WAIT_S = 10.0
STEP_S = 0.1
HANDS = 4


class Workshop:
    """Calls wait their turn; `work` does the oldest of them and lets time pass."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.begun = 0
        self._turns: deque[asyncio.Future[None]] = deque()

    async def handle(self, request: Any, _context: Any) -> Any:
        self.begun += 1
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        await turn
        return Pong(name=request.name)

    def work(self, hands: int = HANDS) -> list[asyncio.Future[None]]:
        self.clock.advance(STEP_S)
        turns = [self._turns.popleft() for _ in range(min(hands, len(self._turns)))]
        for turn in turns:
            turn.set_result(None)
        return turns

    @property
    def waiting(self) -> int:
        return len(self._turns)


class Shop:
    """The workshop, its limiter, and customers."""

    def __init__(self, stub: Stub, workshop: Workshop, limiter: Limiter, metrics: Metrics) -> None:
        self.workshop = workshop
        self.limiter = limiter
        self.metrics = metrics
        channel: Any = stub._channel
        self._send = {
            name: channel.raw.unary_unary(  # without our client's retries: every answer counts
                f"/{playground.SERVICE}/{name}",
                request_serializer=Ping.SerializeToString,
                response_deserializer=Pong.FromString,
            )
            for name in ("Read", "Write", "Fire")
        }
        self.done: Counter[str] = Counter()
        self.refusals: dict[str, list[grpc.aio.AioRpcError]] = {"Read": [], "Write": [], "Fire": []}
        self._calls: set[asyncio.Task[None]] = set()

    async def step(self, *names: str) -> None:
        """These calls arrive, and the workshop does a step's work."""
        self._calls.update(asyncio.create_task(self._ask(name)) for name in names)
        await until(lambda: self.answered + self.workshop.waiting >= self.sent)
        done = self.answered + len(self.workshop.work())
        await until(lambda: self.answered >= done and self.limiter.in_flight == self.workshop.waiting)

    @property
    def answered(self) -> int:
        return self.done.total() + sum(map(len, self.refusals.values()))

    @property
    def sent(self) -> int:
        return len(self._calls)

    def forget(self) -> None:
        """Begins to count anew."""
        self._calls = {call for call in self._calls if not call.done()}
        self.done.clear()
        for refused in self.refusals.values():
            refused.clear()

    async def close(self) -> None:
        while self.workshop.waiting:
            self.workshop.work(100)
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*self._calls), WAIT_S)

    async def _ask(self, name: str) -> None:
        try:
            await self._send[name](Ping(), timeout=WAIT_S)
        except grpc.aio.AioRpcError as error:
            self.refusals[name].append(error)
        else:
            self.done[name] += 1


@asynccontextmanager
async def open_shop(within: Range) -> AsyncIterator[Shop]:
    workshop, limiter, metrics = Workshop(clock := FakeClock()), Limiter(within), Metrics()
    handlers = dict.fromkeys(("Read", "Write", "Fire"), workshop.handle)
    async with serving(
        (playground.add_to_server, handlers),
        files=[playground.FILE],
        metrics=metrics,
        clock=clock,
        limiter=limiter,
    ) as channel:
        shop = Shop(Stub(channel), workshop, limiter, metrics)
        try:
            yield shop
        finally:
            await shop.close()


STORM = ("Write", *("Fire",) * 8, *("Read",) * 3)  # three times what the hands can do


async def test_at_three_times_its_capacity_it_does_as_much_as_ever_and_all_that_is_critical() -> None:
    async with open_shop(Range(first=48, least=6, most=48)) as shop:
        for _ in range(20):
            await shop.step("Fire", "Read")
        assert shop.done.total() >= 38, "before the storm nobody waits"
        for _ in range(40):
            await shop.step(*STORM)
        shop.forget()
        for _ in range(40):
            await shop.step(*STORM)
        assert shop.done.total() == 40 * HANDS
        assert not shop.refusals["Write"]
        assert len(shop.refusals["Read"]) / 3 > len(shop.refusals["Fire"]) / 8
        assert shop.limiter.limit < 20
        while shop.workshop.waiting:
            await shop.step()
        shop.forget()
        for _ in range(40):
            await shop.step("Fire", "Fire", "Read")
        assert not any(shop.refusals.values()), "and all is as before when it is over"


async def test_a_refusal_says_why_and_when_to_come_back() -> None:
    async with open_shop(Range(first=1, least=1, most=1)) as shop:
        await shop.step(*("Fire",) * 9)
        refused = shop.refusals["Fire"]
    assert len(refused) == 8
    assert {error.code() for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert {status.reason(error) for error in refused} == {"OVERLOADED"}
    waits = {status.retry_after_s(error) for error in refused}
    assert len(waits) == 8, "each another time"
    assert all(wait is not None and 0.5 <= wait < 1.5 for wait in waits)


async def test_a_storm_is_one_line_and_some_figures() -> None:
    with telemetry.captured() as lines:
        async with open_shop(Range(first=1, least=1, most=1)) as shop:
            await shop.step(*("Fire",) * 9)
    assert [line["event"] for line in lines if line.get("code") != "OK"] == ["overloaded"]
    assert shop.limiter.refused[Priority.NORMAL] == 8
    handled = shop.metrics.registry.get_sample_value(
        "grpc_server_handled_total",
        {"grpc_service": playground.SERVICE, "grpc_method": "Fire", "grpc_code": "UNAVAILABLE"},
    )
    assert handled == 8


async def test_however_a_call_ends_it_leaves() -> None:
    async def fails(_request: Any, _context: Any) -> Any:
        raise errors.NotFound

    async def crashes(_request: Any, _context: Any) -> Any:
        raise RuntimeError

    limiter = Limiter()
    handlers = {"Read": fails, "Write": crashes, "Fire": hangs}
    async with serving(
        (playground.add_to_server, handlers), files=[playground.FILE], limiter=limiter
    ) as channel:
        stub = Stub(channel)
        for call in (stub.Read(Ping()), stub.Write(Ping()), stub.Read(Ping(count=-1))):
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        leaving = asyncio.create_task(stub.Fire(Ping()))
        await until(lambda: limiter.in_flight == 1)
        leaving.cancel()
        await until(lambda: limiter.in_flight == 0)


async def hangs(_request: Any, _context: Any) -> Any:
    await asyncio.Event().wait()


async def taught(work_s: float, wait_s: float, *, late: bool = False) -> Limiter:
    """What forty calls teach of which the latter half waits and works so long, and may be late with it."""
    clock, limiter, calls = FakeClock(), Limiter(), 0

    async def handle(_request: Any, _context: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 20:
            clock.advance(work_s)
            with context.waiting(clock.monotonic):
                assert limiter.in_flight == 1, "it is one of those worked on"
                clock.advance(wait_s)
                if late:
                    raise DeadlineExceeded
        return Pong()

    async with serving(
        (playground.add_to_server, {"Fire": handle}), files=[playground.FILE], clock=clock, limiter=limiter
    ) as channel:
        for _ in range(40):
            with suppress(grpc.aio.AioRpcError):
                await Stub(channel).Fire(Ping())
    return limiter


@pytest.mark.parametrize("late", [False, True])
async def test_what_a_call_waits_for_teaches_nothing_about_the_server(late: bool) -> None:  # noqa: FBT001
    limiter = await taught(work_s=0.0, wait_s=5.0, late=late)
    assert (limiter.is_slow, limiter.limit) == (False, Range().first)


async def test_a_call_that_waits_teaches_how_long_it_was_worked_on() -> None:
    limiter = await taught(work_s=5.0, wait_s=5.0)
    assert limiter.is_slow
    assert limiter.limit < Range().first


async def test_streams_are_not_counted_but_refused_like_all_else() -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield Pong()
        await asyncio.Event().wait()

    limiter = Limiter(Range(first=1, least=1, most=1))
    async with serving(
        (playground.add_to_server, {"Watch": watch, "Fire": hangs}), files=[playground.FILE], limiter=limiter
    ) as channel:
        stub = Stub(channel)
        streams = [stub.Watch(Ping()) for _ in range(3)]
        for stream in streams:
            await stream.read()
        assert limiter.in_flight == 0
        busy = asyncio.create_task(stub.Fire(Ping()))
        await until(lambda: limiter.in_flight == 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Watch(Ping()).read()
        assert status.reason(refused.value) == "OVERLOADED"
        busy.cancel()
        for stream in streams:
            stream.cancel()
