"""Takes back holds whose time is over, soon after it is over."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from services.chassis import telemetry
from services.chassis.storage.database import Store
from services.inventory import holds
from services.inventory.store import Transaction
from services.kernel.clock import Clock

NAP_MAX_S: Final = 1.0
"""The contract's shortest hold. One made during a nap of at most this long ends after the nap does, so that
nobody has to wake the sweeper."""


class Sweeper:
    """Sleeps until the next hold runs out of time, then takes back what has lapsed, batch by batch.

    Nobody depends on it for the truth: a lapsed hold counts as expired wherever it is met. It brings the
    goods back for those who only look, and tells the world.
    """

    def __init__(
        self,
        store: Store[Transaction],
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Sweeps for ever; errors end it and are its owner's to log and start again."""
        while True:
            if expired := await self.sweep():
                _log.info("holds expired", holds=expired)
            await self._sleep(await self._nap_s())

    async def sweep(self) -> int:
        """Takes back every hold that has lapsed by now; how many it was.

        A transaction a batch, so that nobody else's write waits behind more than one of them.
        """
        expired = 0
        while batch := await self._sweep_batch():
            expired += batch
            if batch < holds.HOLDS_PER_BATCH:
                break
        return expired

    async def _sweep_batch(self) -> int:
        now = self._clock.now()
        if not await self._store.read(lambda tx: tx.reservations.lapsed(at=now, holds_max=1)):
            return 0  # the usual case: no need to take the write lock
        return await self._store.write(lambda tx: holds.expire_lapsed(tx, at=now))

    async def _nap_s(self) -> float:
        expiry = await self._store.read(lambda tx: tx.reservations.next_expiry())
        if expiry is None:
            return NAP_MAX_S
        left_s = (expiry - self._clock.now()) / timedelta(seconds=1)
        return min(max(left_s, 0.0), NAP_MAX_S)


_log = telemetry.logger("inventory.sweeper")
