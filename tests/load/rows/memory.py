"""Memory of every process of an idle shop."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from services.cli.data_folder import GATEWAY, NATS, SERVICES
from services.cli.shop import Shop
from tests.load import procfs
from tests.load.figures import Figure, Pace, Target

MB: Final = 1e6
SERVICE_MAX: Final = Target(90)


async def memory(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """RSS and PSS of each process, idle since it was ready."""
    async with Shop(folder / "idle") as shop:
        found = {name: procfs.memory(shop.programs.pid(name)) for name in (*SERVICES, GATEWAY, NATS)}
    for name, memory in found.items():
        yield Figure(
            f"{name}, idle, RSS",
            SERVICE_MAX if name in SERVICES else None,
            memory.rss / MB,
            unit="MB",
            conditions=f"PSS {memory.pss / MB:.0f} MB",
        )
