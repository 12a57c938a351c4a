"""Work that goes on beside the requests: relays, consumers, sweepers. Every task has an owner here."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from services.chassis import telemetry
from services.chassis.policy.backoff import Backoff
from services.kernel.clock import Clock

_log = telemetry.logger("background")

RESTARTS: Final = Backoff(first_s=0.5, max_s=30.0)
CALM_S: Final = 60.0  # who ran this long is not in a crash loop
STOP_MAX_S: Final = 5.0

Work = Callable[[], Awaitable[object]]


class Background:
    """Runs works while inside: restarts what crashes, after a growing pause; cancels all at the end."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._monotonic = clock.monotonic
        self._sleep = sleep
        self._works: list[tuple[str, Work]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, work: Work) -> None:
        """`work` is called to begin, and again after each crash; returning ends it."""
        self._works.append((name, work))

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._supervise(name, work), name=name) for name, work in self._works
        ]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=STOP_MAX_S)
            for task in stuck:
                _log.error("background work does not stop", work=task.get_name())

    async def _supervise(self, name: str, work: Work) -> None:
        failures = 0
        while True:
            begun = self._monotonic()
            try:
                await work()
            except Exception:  # noqa: BLE001 (logged with its stack; a supervisor outlives what it supervises)
                failures = 1 if self._monotonic() - begun >= CALM_S else failures + 1
                delay_s = RESTARTS.delay_s(failures, random.random)
                _log.exception("background work crashed", work=name, restart_in_s=round(delay_s, 3))
                await self._sleep(delay_s)
            else:
                return
