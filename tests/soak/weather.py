"""What goes wrong in a shop, at random times: deaths by kill -9, and programs that hang for a while."""

import asyncio
import signal
from collections import Counter
from random import Random
from typing import Final

from services.cli.data_folder import PROGRAMS
from services.cli.shop import Shop

BACK_MAX_S: Final = 60.0  # a start takes seconds, of all at once on a busy laptop longer
HANGS_MAX_S: Final = 4.0

_ONE, _TWO, _ALL, _HANG = "one", "two", "all", "hang"
_KINDS: Final = {_ONE: 12, _TWO: 3, _HANG: 4, _ALL: 1}


class Weather:
    """Bad, every `every_s` seconds or so."""

    def __init__(self, shop: Shop, random: Random, *, every_s: float) -> None:
        self.blows: Counter[str] = Counter()
        """By what: `kill order`, `hang nats`, `power cut`."""

        self._shop = shop
        self._random = random
        self._every_s = every_s

    async def rage(self) -> None:
        """Until cancelled, which leaves every program running or on its way up."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._every_s))
            await self._blow(self._random.choices(list(_KINDS), list(_KINDS.values()))[0])

    async def _blow(self, kind: str) -> None:
        match kind:
            case "one" | "two":
                await self._kill(*self._random.sample(PROGRAMS, 1 if kind == _ONE else 2))
            case "all":
                self.blows["power cut"] += 1
                await self._dead_and_back(*PROGRAMS)
            case _:
                await self._hang(self._random.choice(PROGRAMS))

    async def _kill(self, *names: str) -> None:
        for name in names:
            self.blows[f"kill {name}"] += 1
        await self._dead_and_back(*names)

    async def _dead_and_back(self, *names: str) -> None:
        programs = self._shop.programs
        starts = {name: programs.starts(name) for name in names}
        for name in names:
            programs.kill(name)
        for name in names:
            await programs.wait_ready(name, starts=starts[name] + 1, timeout_s=BACK_MAX_S)

    async def _hang(self, name: str) -> None:
        self.blows[f"hang {name}"] += 1
        self._shop.programs.kill(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._random.uniform(0, HANGS_MAX_S))
        finally:
            self._shop.programs.kill(name, signal.SIGCONT)
