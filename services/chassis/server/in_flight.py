"""Counts the calls being handled, for a drain that loses none.

grpc's own `stop(grace)` returns before handlers that were cancelled have run their `finally`
(https://github.com/grpc/grpc/issues/37239), so the end is awaited here.
"""

import asyncio


class InFlight:
    """How many calls are inside; belongs to one event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Future[None] | None = None

    def enter(self) -> None:
        self.count += 1

    def leave(self) -> None:
        self.count -= 1
        if self._idle is not None and self.count == 0 and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Returns when nothing is inside."""
        while self.count:
            if self._idle is None or self._idle.done():
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
