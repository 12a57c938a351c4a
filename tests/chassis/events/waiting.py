"""Waiting for things to happen elsewhere, always with a bound."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

WAIT_S = 15.0  # every wait here has this bound; what it waits for takes milliseconds


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110 (a broker and a database have no event to wait on)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """A task for as long as the block; if it fails, so does the test."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.wait({task})
