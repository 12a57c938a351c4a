"""Transactions a second: our store against SQLAlchemy's ORM on aiosqlite, both durable at every answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.load import children, procfs
from tests.load.children import Child
from tests.load.figures import (
    OURS,
    YARDSTICK,
    Figure,
    Pace,
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

IN_FLIGHT: Final = 16
REQUESTS: Final = {OURS: 16_000, "once": 8_000, YARDSTICK: 640}
"""As many as take each side about a second."""

CONDITIONS: Final = f"{IN_FLIGHT} in flight, SQLite WAL, synchronous=FULL"


async def store(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """store.write and store.once ÷ ORM + aiosqlite."""
    async with (
        children.running(folder, "tests.load.programs.store_ours", folder / "ours.db") as ours,
        children.running(folder, "tests.load.programs.store_orm", folder / "orm.db") as orm,
    ):
        sides = {OURS: (ours, False), "once": (ours, True), YARDSTICK: (orm, False)}

        async def measure(side: str) -> Run:
            return await _run(*sides[side], pace.count(REQUESTS[side]))

        for child, once in sides.values():
            await _run(child, once, IN_FLIGHT)
        rounds = await alternate(pace.rounds, sides, measure)
    remembering = [{OURS: measured["once"], YARDSTICK: measured[YARDSTICK]} for measured in rounds]
    for name, target, found in (
        ("store.write ÷ ORM + aiosqlite, tx/s", 20, rounds),
        ("store.once ÷ ORM + aiosqlite (which remembers no reply), tx/s", 12, remembering),
    ):
        cpu = " against ".join(in_us(typical(found, side, cpu_us)) for side in (OURS, YARDSTICK))
        conditions = f"{CONDITIONS}; CPU per tx {cpu}"
        yield compared(
            name, Target(target, at_most=False), found, per_second, show=in_rate, conditions=conditions
        )


async def _run(child: Child, once: bool, requests: int) -> Run:  # noqa: FBT001
    meter = procfs.Meter(child.pid)
    answer = await child.ask(requests=requests, in_flight=IN_FLIGHT, once=once)
    return Run(requests, answer["elapsed_s"], meter.used_s)
