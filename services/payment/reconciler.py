"""The reconciler: finishes what a crash or a silent provider left open, and compares both books.

Authorizations, captures and refunds that turn up in the provider's books and not in ours are taken over; if
the order was given up meanwhile, the money goes back by the same way as any other undo, once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.chassis import telemetry
from services.chassis.storage.database import Store
from services.kernel.clock import Clock
from services.kernel.errors import DomainError
from services.payment.domain import Standing
from services.payment.operations import Operations
from services.payment.provider import Change, Provider, ProviderSilent
from services.payment.refusals import PaymentNotFound
from services.payment.store import Transaction

LOOK_EVERY_S: Final = 0.5  # how long something due may wait; a lost reply is settled about as soon
COMPARE_EVERY_S: Final = 5.0  # the books agree already unless someone else moved money
COMPARE_WITHIN_S: Final = 5.0
AT_ONCE_MAX: Final = 8  # payments finished side by side, so that the provider is not overrun after an outage
BATCH_MAX: Final = 64

_log = telemetry.logger("payment.reconciler")


class Reconciler:
    """Works for as long as `run` runs."""

    def __init__(
        self, store: Store[Transaction], operations: Operations, provider: Provider, *, clock: Clock
    ) -> None:
        self._store = store
        self._operations = operations
        self._provider = provider
        self._clock = clock

    async def run(self) -> None:
        """Never returns; errors end it and are its owner's to log and start again."""
        compared = float("-inf")
        while True:
            self._operations.work_waits.clear()
            await self.finish_due()
            if self._clock.monotonic() - compared >= COMPARE_EVERY_S:
                await self.compare_books()
                compared = self._clock.monotonic()
            await self._nap()

    async def take_over(self, driver: str) -> int:
        """Frees what the process that bore this name before us was at when it died; how much that was."""
        now = self._clock.now()
        return await self._store.write(lambda tx: tx.work.release_all(driver, now=now))

    async def finish_due(self) -> int:
        """Finishes every payment that is due, as far as the provider answers; how many it looked at."""
        now = self._clock.now()
        due = await self._store.read(lambda tx: tx.work.due(now=now, rows_max=BATCH_MAX))
        gate = asyncio.Semaphore(AT_ONCE_MAX)
        async with asyncio.TaskGroup() as tasks:
            for order_id in due:
                tasks.create_task(self._finish(order_id, gate))
        return len(due)

    async def compare_books(self) -> int:
        """Looks at all that moved at the provider since the last comparison; how many payments we changed."""
        taken_over = 0
        while True:
            after = await self._store.read(lambda tx: tx.books.cursor(self._provider.name))
            seen = await self._look(await self._changes(after))
            if seen is None:
                return taken_over
            taken_over += await self._take_over(seen)

    async def _look(self, changes: Sequence[Change]) -> "_Seen | None":
        return await self._store.read(lambda tx: _examine(tx, changes))

    async def _take_over(self, seen: "_Seen") -> int:
        def take_over(tx: Transaction) -> int:
            tx.books.advance(self._provider.name, seen.cursor)
            return sum(self._adopt(tx, standing) for standing in seen.ahead)

        return await self._store.write(take_over)

    def _adopt(self, tx: Transaction, standing: Standing) -> bool:
        payment = tx.payments.get(standing.payment_id)
        if payment.pending is not None:
            return False  # its own answer will say
        return self._operations.adopt(tx, payment, standing, now=self._clock.now()) is not payment

    async def _changes(self, after: str) -> Sequence[Change]:
        try:
            async with asyncio.timeout(COMPARE_WITHIN_S):
                return await self._provider.changes(after)
        except (ProviderSilent, TimeoutError, OSError) as error:
            _log.warning("provider's books cannot be read", error=type(error).__name__)
            return ()

    async def _finish(self, order_id: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await self._operations.finish(order_id)
            except DomainError as error:  # in progress elsewhere, or the provider is silent: it stays due
                _log.info("payment stays open", order_id=order_id, reason=error.reason)
            except Exception:  # noqa: BLE001 (one payment must not keep the others waiting)
                _log.exception("payment cannot be finished", order_id=order_id)

    async def _nap(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._operations.work_waits.wait()
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at the provider's books came to."""

    cursor: str
    ahead: tuple[Standing, ...]
    """Where they know more than we do."""


def _examine(tx: Transaction, changes: Sequence[Change]) -> _Seen | None:
    """Compares until the first payment of which something is pending: that one is looked at again later."""
    cursor, ahead = "", []
    for change in changes:
        try:
            payment = tx.payments.get(change.standing.payment_id)
        except PaymentNotFound:
            # Not ours to undo: it may be another shop's on the same account. The audit names it.
            _log.error("unknown payment in the provider's books", payment_id=change.standing.payment_id)
        else:
            if payment.pending is not None:
                break
            if payment.adopt(change.standing, at=payment.updated_at) is not payment:
                ahead.append(change.standing)
        cursor = change.cursor
    return _Seen(cursor, tuple(ahead)) if cursor else None
