"""Forgetting what need not be kept: old rows go in small batches, so that nobody waits behind a big one."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa

from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import Clock, to_micros

T = TypeVar("T")

BATCH_ROWS: Final = 500  # some milliseconds of the writer's time
EVERY_S: Final = 60.0  # so that even a busy hour's rows go in batches


class Retention:
    """How long the rows of a table are kept, by a column that holds microseconds.

    Rows where the column is NULL, or for which `only` does not hold, stay for ever.
    """

    def __init__(
        self,
        table: sa.Table,
        column: sa.Column[Any],
        kept: timedelta,
        *,
        only: sa.ColumnElement[bool] | None = None,
    ) -> None:
        self.kept = kept
        keys = list(table.primary_key.columns)
        old = column < sa.bindparam("before", type_=sa.BigInteger)
        found = sa.select(*keys).where(old if only is None else sa.and_(old, only)).limit(BATCH_ROWS)
        key = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
        self._delete = Statement(sa.delete(table).where(key.in_(found)))

    def sweep(self, session: Session, *, now_micros: int) -> int:
        """Deletes one batch; how many rows that was."""
        kept_micros = self.kept // timedelta(microseconds=1)
        return session.run(self._delete, before=now_micros - kept_micros)


class Transactor(Protocol):
    """As much of a Store as is needed here."""

    async def transact(self, fn: Callable[[Session], T]) -> T: ...


class Janitor:
    """Applies retentions for as long as it runs."""

    def __init__(
        self,
        store: Transactor,
        *retentions: Retention,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._retentions = retentions
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Sweeps every minute, for ever; errors end it and are its owner's to log and start again."""
        while True:
            for retention in self._retentions:
                await self.sweep(retention)
            await self._sleep(EVERY_S)

    async def sweep(self, retention: Retention) -> int:
        """Deletes all that one retention no longer keeps, batch by batch; how many rows that was."""
        now_micros = to_micros(self._clock.now())
        swept = 0
        while rows := await self._store.transact(
            lambda session: retention.sweep(session, now_micros=now_micros)
        ):
            swept += rows
        return swept
