"""More than can be done: a server is asked for three times its capacity, and what comes of it is measured."""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
import httpx

from services.chassis import status
from services.chassis.policy.limiter import Range
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong
from tests.faults.figures import Figure
from tests.faults.wired import GATEWAY, Wired
from tests.faults.workshop import HANDS, WORK_S
from tests.load.procfs import Meter

WAIT_S: Final = 30.0
TIMES: Final = 3
CHANNELS: Final = 4  # as of so many callers
TICK_S: Final = 0.01

NORMAL: Final = "Fire"
HANGS: Final = "Recite"
CRITICAL: Final = "Write"
STORM: Final = (CRITICAL, *(NORMAL,) * 8, *("Read",) * 3)  # a quarter of the capacity is critical
DEADLINE_S: Final = 2.0  # what comes later is of no use to anybody
CRITICAL_DEADLINE_S: Final = 10.0  # what was begun is worth waiting for

CALM: Final = (NORMAL, NORMAL, "Read")
CALM_RATE: Final = 0.7  # of the capacity
LOOK_S: Final = 0.5
SOON_S: Final = 3 * WORK_S  # a call that is done so fast did not wait for long

LEAD_S: Final = 3.0  # the limit is learned meanwhile; critical work counts from the first moment
VISITORS: Final = 32  # who ask on and on, for the most that there is
CROWD: Final = 600  # more than the edge takes at once
CALM_S: Final = 5.0
WARM_UP_S: Final = 1.0
ROW: Final = 20

REFUSED: Final = 1000  # so many refusals are measured at a time,
IN_FLIGHT: Final = 32  # so many at once,
ROUNDS: Final = 5  # and the median of so many counts: others use this machine, too


async def shown(_home: Path) -> Sequence[Figure]:
    """A minute of it over a server of its own, and what came of that."""
    async with workshop() as (address, process), calling(address) as callers:
        return (*await storm(callers, 60.0), await refusal(callers, process.pid))


async def at_the_edge(stage: Wired) -> Sequence[Figure]:
    """Asks a whole shop for products: three times as often, for half a minute, as it can tell of them."""
    if shutil.which("h2load") is None:
        return (Figure("not measured: h2load is not installed", 0),)
    scene = stage.scene
    url = f"{scene.shop.endpoints.gateway}/api/v1/products/{scene.product_id}"
    pid = stage.pid(GATEWAY)
    calm = [await _asked(pid, url, VISITORS, CALM_S) for _ in range(3)]
    peak = max(answers.good for answers in calm)
    storm = await _asked(pid, url, CROWD, 30.0, TIMES * peak)
    recovery_s = await _answered_s(url)
    calm += [await _asked(pid, url, VISITORS, CALM_S) for _ in range(3)]  # what others leave us changes
    usual = sum(answers.good for answers in calm) / sum(answers.cpu_s for answers in calm)
    edge = await stage.figures(GATEWAY)
    refused = sum(edge.of("http_server_requests_total", http_status="503"))
    ours = sum(edge.of("http_server_shed_total")) + sum(edge.of("grpc_client_bulkhead_refused_total"))
    return (
        Figure("peak goodput", peak, "a second"),
        Figure("answered then, refusals and all", storm.all / peak, "times the peak"),
        # Without a bound: the load takes its part of the same cores, and so do the services behind.
        Figure("goodput then", 100 * storm.good / peak, "% of the peak"),
        Figure(
            "goodput of a second of its CPU", 100 * storm.per_cpu_s / usual, "% of the usual", at_least=50
        ),
        Figure("refused by services only", 100 * (1 - ours / max(refused, 1)), "% of the refusals"),
        Figure("circuits opened", sum(edge.of("grpc_client_circuit_changes_total", state="open")), at_most=0),
        Figure("back to normal after", recovery_s, "s", at_most=10),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """Of an edge, a second."""

    good: float
    all: float
    cpu_s: float

    @property
    def per_cpu_s(self) -> float:
        """Good ones for each second of the edge's CPU, whatever others leave it of the machine."""
        return self.good / self.cpu_s


async def _asked(pid: int, url: str, connections: int, seconds: float, rate: float = 0.0) -> Answers:
    """Without a rate each connection asks on and on."""
    pace = ("--rps", f"{rate / connections:.2f}") if rate else ()
    length = ("-D", f"{seconds:.0f}", "--warm-up-time", f"{WARM_UP_S:.0f}")
    meter = Meter(pid)
    process = await asyncio.create_subprocess_exec(
        "h2load", "--h1", "-t1", "-c", str(connections), *length, *pace, url, stdout=PIPE, stderr=DEVNULL
    )
    said, _ = await asyncio.wait_for(process.communicate(), seconds + WAIT_S)
    found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said.decode())
    assert found is not None, said
    good, *others = map(int, found.groups())
    return Answers(good / seconds, (good + sum(others)) / seconds, meter.used_s / (WARM_UP_S + seconds))


async def _answered_s(url: str) -> float:
    """Seconds until a row of requests is answered well."""
    began, row = time.monotonic(), 0
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        while row < ROW and time.monotonic() - began < WAIT_S:
            row = row + 1 if (await http.get(url)).is_success else 0
    return time.monotonic() - began


async def storm(callers: "Callers", seconds: float) -> Sequence[Figure]:
    """Asks for three times the most that can be done, for so long."""
    await callers.in_turn(HANDS // 2, seconds=1.0)  # how fast it is when nobody waits
    peak = await callers.in_turn(2 * HANDS, seconds=2.0)
    lead, storm = await callers.at_rate(TIMES * peak, STORM, LEAD_S, seconds)
    recovery_s = await _recovery_s(callers, CALM_RATE * peak)
    lost = sum(came.refused[CRITICAL] + came.late[CRITICAL] for came in (lead, storm))
    return (
        Figure("peak goodput", peak, "a second"),
        Figure("asked for", storm.asked / seconds / peak, "times the peak", at_least=0.95 * TIMES),
        Figure("goodput in the first seconds", 100 * lead.done.total() / LEAD_S / peak, "% of the peak"),
        Figure("goodput then", 100 * storm.done.total() / seconds / peak, "% of the peak", at_least=85),
        Figure("critical calls done", lead.done[CRITICAL] + storm.done[CRITICAL], at_least=1),
        Figure("critical calls refused or late", lost, at_most=0),
        Figure("refused", 100 * storm.refused.total() / storm.asked, "% of what was asked for"),
        Figure("came too late", 100 * storm.late.total() / storm.asked, "% of what was asked for", at_most=5),
        Figure("back to normal after", recovery_s, "s", at_most=10),
    )


async def refusal(callers: "Callers", pid: int) -> Figure:
    """What it costs a server to refuse a call when it has all that it can do."""
    async with callers.filling_up():
        rounds = []
        for _ in range(ROUNDS):
            meter = Meter(pid)
            came = await callers.so_often(REFUSED, at_once=IN_FLIGHT)
            assert came.refused.total() == REFUSED, came
            rounds.append(meter.used_s / REFUSED * 1000)
    return Figure(f"CPU of a refusal, {IN_FLIGHT} in flight", median(rounds), "ms", at_most=0.3)


async def _recovery_s(callers: "Callers", rate: float) -> float:
    """Seconds until all of what is asked for is done, and soon."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        _, look = await callers.at_rate(rate, CALM, 0.0, LOOK_S)
        if look.done.total() == look.asked and look.slowest_s <= SOON_S:
            break
    return time.monotonic() - began - LOOK_S


@asynccontextmanager
async def workshop() -> AsyncIterator[tuple[str, Process]]:
    """A server of known capacity: its address, and its process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.workshop",
        env={
            **os.environ,
            "BODEGA_PLAYGROUND__GUESTS_PLAINTEXT": "true",
            "BODEGA_PLAYGROUND__GRPC_PORT": "0",
            "BODEGA_PLAYGROUND__OPERATIONS_PORT": "0",
        },
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        assert process.stdout is not None
        address = (await asyncio.wait_for(process.stdout.readline(), WAIT_S)).split()[0].decode()
        yield address, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Came:
    """What became of calls."""

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    slowest_s: float = 0.0


class Callers:
    """Call without our onion: every answer counts."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        names = {*STORM, HANGS}
        self._sends = {
            name: itertools.cycle([_send(channel, name) for channel in channels]) for name in names
        }

    async def call(self, name: str, came: Came) -> None:
        begun = time.monotonic()
        timeout_s = CRITICAL_DEADLINE_S if name == CRITICAL else DEADLINE_S
        try:
            await next(self._sends[name])(Ping(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() not in status.WEATHER:
                raise
            is_refused = status.reason(error) == "OVERLOADED"
            (came.refused if is_refused else came.late)[name] += 1
        else:
            came.done[name] += 1
            came.slowest_s = max(came.slowest_s, time.monotonic() - begun)

    async def in_turn(self, at_once: int, *, seconds: float) -> float:
        """So many call, each again as soon as it is answered; done calls a second."""
        came, begun = Came(), time.monotonic()

        async def keep_on() -> None:
            while time.monotonic() - begun < seconds:
                await self.call(NORMAL, came)

        await asyncio.gather(*(keep_on() for _ in range(at_once)))
        return came.done.total() / (time.monotonic() - begun)

    async def at_rate(
        self, rate: float, mix: Sequence[str], lead_s: float, seconds: float
    ) -> tuple[Came, Came]:
        """So many calls a second, whatever becomes of them: those of the lead, and those after it."""
        lead, after, names = Came(), Came(), itertools.cycle(mix)
        begun, sent = time.monotonic(), 0
        async with asyncio.TaskGroup() as calls:
            while (elapsed := time.monotonic() - begun) < lead_s + seconds:
                came = lead if elapsed < lead_s else after
                while sent < elapsed * rate:
                    sent += 1
                    came.asked += 1
                    calls.create_task(self.call(next(names), came))
                await asyncio.sleep(TICK_S)
        return lead, after

    async def so_often(self, times: int, *, at_once: int) -> Came:
        came, left = Came(), iter(range(times))

        async def keep_on() -> None:
            for _ in left:
                await self.call(NORMAL, came)

        await asyncio.gather(*(keep_on() for _ in range(at_once)))
        return came

    @asynccontextmanager
    async def filling_up(self) -> AsyncIterator[None]:
        """There is no room for anything while inside: what hangs has taken it."""
        hanging = [asyncio.ensure_future(self._hang()) for _ in range(2 * Range().first)]
        try:
            async with asyncio.timeout(WAIT_S):
                while not (await self.so_often(1, at_once=1)).refused:
                    pass  # each takes its time
            yield
        finally:
            for call in hanging:
                call.cancel()
            await asyncio.wait(hanging)

    async def _hang(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # when all room is taken
            await next(self._sends[HANGS])(Ping(), timeout=WAIT_S)


def _send(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_unary(
        f"/{playground.SERVICE}/{name}",
        request_serializer=Ping.SerializeToString,
        response_deserializer=Pong.FromString,
    )


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Callers]:
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            for _ in range(CHANNELS)
        ]
        yield Callers(channels)
