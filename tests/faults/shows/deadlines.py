"""Time that runs out: what each hop is left, who is begun, and how soon those stop whom nobody waits for."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from services.chassis import context, testing
from services.chassis.client.deadline import DEADLINE_MARGIN_S
from services.chassis.context import TraceContext
from services.kernel.clock import SystemClock
from tests.chassis import playground
from tests.chassis.playground import FILE, Ping, Pong, Stub
from tests.faults.crowd import Crowd, median, percentile
from tests.faults.figures import Figure
from tests.faults.wired import GATEWAY, Way, Wired
from tests.faults.witness import Seen, Witness

ORDER: Final[Way] = (GATEWAY, "order")
PAYMENT: Final[Way] = ("order", "payment")
USER: Final[Way] = ("order", "user")

STOPPED_MAX_MS: Final = 100.0
STOPPED_PERCENT: Final = 99

AT_ONCE: Final = 10
TIMEOUTS_S: Final = (0.4, 0.7, 1.0, 1.5, 2.0, 2.5)  # GetOrderDetails has 3 s by its contract
TOO_SHORT_S: Final = (0.005, 0.02, 0.04)  # less than order keeps for itself, the wire's rounding included
ROUNDING_S: Final = 0.02  # on the wire grpc rounds timeouts up to three digits
WHOLE_MIN: Final = 0.5  # on a busy machine the time of some is over on the way
WAIT_S: Final = 10.0
NEARLY_LEAST_PERCENT: Final = 5
SHORT_S: Final = 0.001

STALL_S: Final = 0.03
STALL_EVERY_S: Final = 0.05


class _Remembered(SystemClock):
    """Knows what it said last: what the onion went by when it let a handler begin.

    What the machine does with our process between the two is nobody's fault.
    """

    last = 0.0

    def monotonic(self) -> float:
        self.last = super().monotonic()
        return self.last


async def shrink(stage: Wired, chains: int) -> Sequence[Figure]:
    """The edge is told how long somebody waits; witnesses see what order and payment are given of it."""
    crowd = Crowd(stage.scene, AT_ONCE, 0.0)
    asked: dict[str, float] = {}

    async def ask(timeout_s: float) -> None:
        trace, another = TraceContext.fresh(), TraceContext.fresh()
        asked[trace.trace_id] = timeout_s
        await crowd.details(timeout_s=timeout_s, trace=trace)
        await crowd.order(timeout_s=timeout_s, trace=another)

    async with (
        crowd.at_home(),
        stage.witnessed(ORDER) as order,
        stage.witnessed(PAYMENT) as payment,
        stage.witnessed(USER) as user,
    ):
        await crowd.whole()
        for timeouts in (TIMEOUTS_S, TOO_SHORT_S):
            await _few_at_once([ask(timeouts[number % len(timeouts)]) for number in range(chains)])
    at_order, at_payment = _left(order, "GetOrderDetails"), _left(payment, "GetPayment")
    ordering, at_user = _left(order, "CreateOrder"), _left(user, "GetUser")
    whole = [trace for trace in asked if trace in at_order and trace in at_payment]
    roomy = [trace for trace, timeout_s in asked.items() if timeout_s in TIMEOUTS_S]
    return [
        Figure(
            "requests with time enough, seen at each hop",
            len({*whole} & {*roomy}),
            at_least=WHOLE_MIN * chains,
        ),
        Figure(
            "lost from browser to order, in nearly all",
            _nearly_least(asked[trace] - at_order[trace] for trace in whole),
            "ms",
            at_least=0,
        ),
        Figure(
            "lost from order to payment, in nearly all",
            _nearly_least(at_order[trace] - at_payment[trace] for trace in whole),
            "ms",
            at_least=(DEADLINE_MARGIN_S - ROUNDING_S) * 1000,
        ),
        Figure(
            "lost from order to user while an order is accepted, in nearly all",
            _nearly_least(left_s - at_user[trace] for trace, left_s in ordering.items() if trace in at_user),
            "ms",
            at_least=(DEADLINE_MARGIN_S - ROUNDING_S) * 1000,
        ),
        Figure(
            "median budget at order, of what the browser gave",
            median(at_order[trace] / asked[trace] for trace in whole) * 100,
            "%",
        ),
        Figure(
            "median budget at payment, of what the browser gave",
            median(at_payment[trace] / asked[trace] for trace in whole) * 100,
            "%",
        ),
        Figure("requests with hardly any time", len(asked) - len(roomy)),
        Figure("of these sent to payment", len({*at_payment} & {*asked} - {*roomy}), at_most=0),
    ]


async def stop(stage: Wired, calls: int, *, stopped_max_ms: float = STOPPED_MAX_MS) -> Sequence[Figure]:
    """Whoever asked at the edge leaves; the time until the call at the innermost service has ended, too."""
    crowd = Crowd(stage.scene, AT_ONCE, 0.0)
    took_ms: list[float] = []
    async with crowd.at_home(), stage.witnessed(PAYMENT) as payment:
        await crowd.whole()
        payment.keeps = True

        async def leave() -> None:
            trace = TraceContext.fresh()
            asking = asyncio.create_task(crowd.details(trace=trace))
            call = await _seen(payment, trace)
            left_at = time.monotonic()
            asking.cancel()
            await testing.until(lambda: call.ended_at is not None, WAIT_S)
            assert call.ended_at is not None
            took_ms.append((call.ended_at - left_at) * 1000)
            with contextlib.suppress(asyncio.CancelledError):
                await asking

        async with _lags() as lags_ms:
            await _few_at_once([leave() for _ in range(calls)])
    return [
        Figure("calls whose browser left while payment worked", len(took_ms), at_least=calls),
        Figure(
            f"what our own process had to wait for the machine: {STOPPED_PERCENT} %",
            percentile(lags_ms, STOPPED_PERCENT),
            "ms",
        ),
        Figure("until payment's call had ended: median", median(took_ms), "ms"),
        Figure(
            f"until payment's call had ended: {STOPPED_PERCENT} %",
            percentile(took_ms, STOPPED_PERCENT),
            "ms",
            at_most=stopped_max_ms,
        ),
    ]


async def late(calls: int, *, stopped_max_ms: float = STOPPED_MAX_MS) -> Sequence[Figure]:
    """A server that stalls again and again, asked with hardly any time: who is begun, and who goes on?"""
    clock = _Remembered()
    left_at_begin: list[float] = []
    went_on: list[float] = []

    async def read(_request: Any, _context: Any) -> Any:
        request = context.current()
        assert request is not None
        assert request.deadline is not None
        left_at_begin.append(request.deadline - clock.last)
        try:
            await asyncio.sleep(WAIT_S)
        finally:
            went_on.append(time.monotonic() - request.deadline)
        return Pong()

    async def stall() -> None:
        while True:
            await asyncio.sleep(STALL_EVERY_S)
            time.sleep(STALL_S)  # noqa: ASYNC251 (that is what is shown)

    async with testing.serving(
        (playground.add_to_server, {"Read": read}), files=[FILE], clock=clock
    ) as channel:
        ask = Stub(channel.without_retries()).Read

        async def once(timeout_s: float) -> None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await ask(Ping(), timeout=timeout_s)

        stalling = asyncio.create_task(stall())
        await _few_at_once([once(0.002 + 0.001 * (number % 40)) for number in range(calls)])
        await testing.until(lambda: len(went_on) == len(left_at_begin), WAIT_S)
        stalling.cancel()
    return [
        Figure("calls with 2 to 41 ms to live, at a server that stalls for 30 ms at a time", calls),
        Figure("handlers begun", len(left_at_begin), at_least=1),
        Figure("handlers begun after their deadline", sum(left <= 0 for left in left_at_begin), at_most=0),
        Figure(
            f"handlers went on after their deadline: {STOPPED_PERCENT} %",
            percentile(went_on, STOPPED_PERCENT) * 1000,
            "ms",
            at_most=stopped_max_ms,
        ),
    ]


def _left(witness: Witness, method: str) -> dict[str, float]:
    """What the calls of a method had left when they came, by trace. An attempt after the first has less."""
    left: dict[str, float] = {}
    for seen in witness.calls:
        if seen.method == method:
            assert seen.left_s is not None, f"{method} was called without a deadline"
            left.setdefault(seen.trace_id, seen.left_s)
    return left


def _nearly_least(lost_s: Iterable[float]) -> float:
    """In ms. Timeouts count from their arrival: the odd call that was long under way finds some again."""
    return percentile(lost_s, NEARLY_LEAST_PERCENT) * 1000


async def _seen(witness: Witness, trace: TraceContext) -> Seen:
    found: list[Seen] = []

    def look() -> bool:
        found[:] = [seen for seen in witness.calls if seen.trace_id == trace.trace_id]
        return bool(found)

    await testing.until(look, WAIT_S)
    return found[0]


@asynccontextmanager
async def _lags() -> AsyncIterator[list[float]]:
    """By how much a short sleep was too long, in ms: what is no program's fault."""
    lags_ms: list[float] = []

    async def keep_on() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(SHORT_S)
            lags_ms.append((time.monotonic() - began - SHORT_S) * 1000)

    looking = asyncio.create_task(keep_on())
    try:
        yield lags_ms
    finally:
        looking.cancel()


async def _few_at_once(deeds: Sequence[Any]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def done(deed: Any) -> None:
        async with room:
            await deed

    async with asyncio.TaskGroup() as tasks:
        for deed in deeds:
            tasks.create_task(done(deed))
