"""The naive shop, running: five processes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.load import children
from tests.load.children import Child


@dataclass(frozen=True, slots=True)
class NaiveShop:
    port: int
    """Of its edge."""

    pids: dict[str, int]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[NaiveShop]:
    """With one buyer and two products, see `tests.load.messages`."""
    async with AsyncExitStack() as stack:

        async def start(name: str, targets: dict[str, Child]) -> Child:
            arguments = [f"{other}=127.0.0.1:{child.ready['port']}" for other, child in targets.items()]
            return await stack.enter_async_context(
                children.running(
                    folder, "tests.load.naive", name, folder / f"{name}.db", *arguments, name=f"naive-{name}"
                )
            )

        neighbours = {name: await start(name, {}) for name in ("user", "inventory", "payment")}
        order = await start("order", neighbours)
        edge = await start("edge", {"order": order})
        programs = {**neighbours, "order": order, "edge": edge}
        yield NaiveShop(edge.ready["port"], {name: child.pid for name, child in programs.items()})
