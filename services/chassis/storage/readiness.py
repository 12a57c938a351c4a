"""Whether a database does its work right now: one question for all services, on both databases.

A table that each of them has is told to forget a row that is not there. That changes nothing and costs no
fsync, but it takes the lock, the right to write and the pages that every other write takes: a database that
is away, hangs, is locked, read-only, damaged or empty fails it, each by its name. So does one that the code
at hand is too new for: its version is read before that.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from services.chassis.storage.audit_trail import TRAIL
from services.chassis.storage.faults import StorageOutdated, StorageSilent
from services.chassis.storage.schema import VERSION, Schema
from services.chassis.storage.session import Cursor, Session
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

    def __init__(self, database: Sqlite, writer: Writer, schema: Schema | None) -> None:
        self._database = database
        self._writer = writer
        self._schema = schema

    async def ask(self, question: Statement) -> str:
        """What is worth telling, often nothing."""

        def asked(session: Session) -> str:
            told = self._schema.judge(session.one(VERSION)) if self._schema else ""
            session.run(question)
            return told

        try:
            return await self._writer.write(asked)
        except self._database.driver_error as error:
            raise self._database.trouble(error) from error

    async def close(self) -> None:
        return


class AskedBeside:
    """PostgreSQL's: on a connection of its own, for the others may all be waiting for something.

    A server that does not answer here at all is presumed to answer nobody: all who wait for it are told so,
    and nobody waits any more until it has answered here.
    """

    def __init__(self, database: "Postgresql", schema: Schema | None) -> None:
        self._database = database
        self._schema = schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._connection: Connection | None = None
        self._asked: asyncio.Future[str] | None = None

    async def ask(self, question: Statement) -> str:
        """The same."""
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._thread, self._ask, question)
            self._asked.add_done_callback(_looked_at)
        await asyncio.wait({self._asked}, timeout=ANSWER_MAX_S)
        if not self._asked.done():
            raise StorageSilent
        return self._asked.result()

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()

    # What follows runs in the thread.

    def _ask(self, question: Statement) -> str:
        try:
            told = self._schema.judge(self._execute(VERSION).fetchone()) if self._schema else ""
            self._execute(question)
        except self._database.driver_error as error:
            trouble = self._database.trouble(error)
            self._database.silent = isinstance(trouble, StorageSilent)
            raise trouble from error
        except StorageOutdated:
            self._database.silent = False  # that was an answer
            raise
        self._database.silent = False
        return told

    def _execute(self, question: Statement) -> Cursor:
        sql, values = question.bound(self._database.dialect, {})
        if self._connection is not None and not self._connection.closed:
            try:
                return self._connection.execute(sql, values)
            except self._database.driver_error:
                if not self._connection.broken:
                    raise
                self._connection.close()  # it died while it was idle; perhaps the server is back by now
        self._connection = self._database.asker()
        return self._connection.execute(sql, values)


def _looked_at(asked: asyncio.Future[str]) -> None:
    """An answer that came too late is no news to anybody; asyncio would report it as an error nobody saw."""
    if not asked.cancelled():
        asked.exception()
