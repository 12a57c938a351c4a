"""Changing the signing key on schedule, beside the requests.

Every replica looks; whoever sees first that a key is due makes it, in a transaction, and the others find it
there. Who signs and who publishes reads the keys from the database each time: there is nobody to tell.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from services.chassis import telemetry
from services.chassis.storage.database import Store
from services.kernel.clock import Clock
from services.user import key_schedule, signing_keys
from services.user.key_schedule import Schedule, SigningKey
from services.user.sealing import Seal
from services.user.store import Transaction
from services.user.tokens import NoSigningKey

_log = telemetry.logger("keys")

EVERY_MAX_S: Final = 60.0


class KeyRotation:
    """Makes keys for as long as it runs."""

    def __init__(
        self,
        store: Store[Transaction],
        schedule: Schedule,
        seal: Seal,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._schedule = schedule
        self._seal = seal
        self._clock = clock
        self._sleep = sleep
        self._every_s = min(EVERY_MAX_S, schedule.lead.total_seconds() / 2)  # several times in each lead

    async def run(self) -> None:
        """Looks again and again, for ever; errors end it and are its owner's to log and start again."""
        while True:
            await self.turn()
            await self._sleep(self._every_s)

    async def turn(self) -> None:
        """Makes the next key, if it is due."""
        now = self._clock.now()
        keys = await self._store.read(lambda tx: tx.signing_keys.all())
        if self._schedule.due(keys, now, sealed_with=self._seal.name) is None:
            return
        made = signing_keys.generate(self._seal, at=now)
        added = await self._store.write(lambda tx: self._add(tx, made))
        if added is not None:
            _log.info("signing key made", key_id=added.id, signs_from=added.signs_from.isoformat())

    async def check(self) -> None:
        """For readiness: raises NoSigningKey as long as nobody can be signed in."""
        keys = await self._store.read(lambda tx: tx.signing_keys.all())
        if key_schedule.signing(keys, self._clock.now(), sealed_with=self._seal.name) is None:
            raise NoSigningKey

    def _add(self, tx: Transaction, made: SigningKey) -> SigningKey | None:
        keys = tx.signing_keys.all()
        signs_from = self._schedule.due(keys, made.created_at, sealed_with=self._seal.name)
        if signs_from is None:
            return None  # another replica was first
        number = max((key.number for key in keys), default=0) + 1
        key = signing_keys.successor(made, number=number, signs_from=signs_from)
        return (
            key if tx.signing_keys.add(key, retires_others_at=key_schedule.retires_at(signs_from)) else None
        )
