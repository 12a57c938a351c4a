"""What the onions cost: a server's and a client's, against bare grpc.aio with the same message."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

from tests.load import children, load, procfs
from tests.load.children import Child
from tests.load.figures import (
    OURS,
    YARDSTICK,
    Figure,
    Pace,
    Rounds,
    Run,
    Target,
    alternate,
    compared,
    cpu_us,
    in_us,
    typical,
)
from tests.load.load import IN_FLIGHT, Load

REQUESTS: Final = 8_000
ECHO: Final = "tests.load.programs.echo"
CALLS: Final = "tests.load.programs.calls"
SIDES: Final = {OURS: "onion", YARDSTICK: "bare"}


ACCESS_SIDES: Final = {OURS: "onion", YARDSTICK: "open"}


async def server(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """Full server onion ÷ bare echo."""
    rounds = await _served(folder, pace, SIDES)
    yield compared(
        "server onion ÷ bare echo, CPU", Target(1.30), rounds, cpu_us, show=in_us, conditions=_conditions()
    )


async def access(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """What it costs to know a token again and to let its user in."""
    rounds = await _served(folder, pace, ACCESS_SIDES)
    costs = [cpu_us(measured[OURS]) - cpu_us(measured[YARDSTICK]) for measured in rounds]
    yield Figure(
        "access check of a known token, CPU",
        Target(15),
        median(costs),
        unit="µs",
        spread=(min(costs), max(costs)),
        ours=in_us(typical(rounds, OURS, cpu_us)),
        yardstick=in_us(typical(rounds, YARDSTICK, cpu_us)),
        conditions=_conditions(),
    )


def _conditions() -> str:
    return f"{IN_FLIGHT} in flight, {load.tool()}"


async def _served(folder: Path, pace: Pace, sides: Mapping[str, str]) -> Rounds:
    requests = pace.count(REQUESTS)
    async with AsyncExitStack() as stack:
        servers: dict[str, tuple[Child, Load]] = {}
        for side, kind in sides.items():
            echo = await stack.enter_async_context(children.running(folder, ECHO, kind, name=f"echo-{kind}"))
            sender = await stack.enter_async_context(load.grpc_load(folder, echo.ready["port"]))
            servers[side] = echo, sender

        async def measure(side: str) -> Run:
            echo, sender = servers[side]
            meter = procfs.Meter(echo.pid)
            elapsed_s = await sender.send(requests)
            return Run(requests, elapsed_s, meter.used_s)

        for side in sides:
            await measure(side)
        return await alternate(pace.rounds, sides, measure)


async def client(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """Client onion ÷ bare call."""
    requests = pace.count(REQUESTS)
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(
            children.running(folder, ECHO, "bare", name="echo-for-clients")
        )
        target = f"127.0.0.1:{echo.ready['port']}"
        callers = {
            side: await stack.enter_async_context(
                children.running(folder, CALLS, target, kind, name=f"client-{kind}")
            )
            for side, kind in SIDES.items()
        }

        async def measure(side: str) -> Run:
            caller = callers[side]
            meter = procfs.Meter(caller.pid)
            answer = await caller.ask(requests=requests, in_flight=IN_FLIGHT)
            return Run(requests, answer["elapsed_s"], meter.used_s)

        for side in SIDES:
            await measure(side)
        rounds = await alternate(pace.rounds, SIDES, measure)
    yield compared(
        "client onion ÷ bare call, CPU",
        Target(1.30),
        rounds,
        cpu_us,
        show=in_us,
        conditions=f"{IN_FLIGHT} in flight",
    )
