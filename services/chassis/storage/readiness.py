"""Whether a database does its work right now: one question for all services, on both databases.

A table that each of them has is told to forget a row that is not there. That changes nothing and costs no
fsync, but it takes the lock, the right to write and the pages that every other write takes: a database that
is away, hangs, is locked, read-only, damaged or empty fails it, each by its name.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from services.chassis.storage.audit_trail import TRAIL
from services.chassis.storage.faults import StorageSilent
from services.chassis.storage.sqlite import Sqlite
from services.chassis.storage.statement import Statement
from services.chassis.storage.writer import Writer

if TYPE_CHECKING:
    from services.chassis.storage.postgresql import Connection, Postgresql

ANSWER_MAX_S: Final = 0.9
"""Less than a health check may take; the server itself gives up sooner on locks and load."""

QUESTION: Final = Statement(sa.delete(TRAIL).where(TRAIL.c.seq < 0))
"""Of the table that every service has; who has another, asks about that."""


class AskedOfTheWriter:
    """SQLite's: the one who writes answers for itself."""

    def __init__(self, database: Sqlite, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def ask(self, question: Statement) -> None:
        try:
            await self._writer.write(lambda session: session.run(question))
        except self._database.driver_error as error:
            raise self._database.trouble(error) from error

    async def close(self) -> None:
        return


class AskedBeside:
    """PostgreSQL's: on a connection of its own, for the others may all be waiting for something.

    A server that does not answer here at all is presumed to answer nobody: all who wait for it are told so,
    and nobody waits any more until it has answered here.
    """

    def __init__(self, database: "Postgresql") -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._connection: Connection | None = None
        self._asked: asyncio.Future[None] | None = None

    async def ask(self, question: Statement) -> None:
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._thread, self._ask, question)
        await asyncio.wait({self._asked}, timeout=ANSWER_MAX_S)
        if not self._asked.done():
            raise StorageSilent
        self._asked.result()

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()

    # What follows runs in the thread.

    def _ask(self, question: Statement) -> None:
        try:
            self._execute(*question.bound(self._database.dialect, {}))
        except self._database.driver_error as error:
            trouble = self._database.trouble(error)
            self._database.silent = isinstance(trouble, StorageSilent)
            raise trouble from error
        self._database.silent = False

    def _execute(self, sql: str, values: Any) -> None:
        if self._connection is not None and not self._connection.closed:
            try:
                self._connection.execute(sql, values)
            except self._database.driver_error:
                if not self._connection.broken:
                    raise
                self._connection.close()  # it died while it was idle; perhaps the server is back by now
            else:
                return
        self._connection = self._database.asker()
        self._connection.execute(sql, values)
