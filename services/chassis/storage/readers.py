"""Reads by key: in the event loop's own thread where they take microseconds, in threads where they travel."""

import asyncio
import contextvars
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from services.chassis.storage.faults import StorageUnavailable
from services.chassis.storage.session import Session
from services.chassis.storage.sqlite import Sqlite

if TYPE_CHECKING:
    from services.chassis.storage.postgresql import Connection, Postgresql

T = TypeVar("T")


class ReaderInLoop:
    """SQLite's: a file beside us is read faster than a thread is woken."""

    def __init__(self, database: Sqlite) -> None:
        self._database = database
        self.connection = database.reader()

    async def look(self, fn: Callable[[Session], T]) -> T:
        """Runs `fn` on a connection that cannot write; all its reads see one moment."""
        session = Session(self.connection, self._database)
        self.connection.execute(self._database.begin_reading)
        try:
            return fn(session)
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    async def glance(self, fn: Callable[[Session], T]) -> T:
        """The same for one statement, which sees one moment without a transaction around it."""
        return fn(Session(self.connection, self._database))

    async def close(self) -> None:
        self.connection.close()


class ReadersInThreads:
    """PostgreSQL's: a few connections, none of which the event loop ever waits for."""

    def __init__(self, database: "Postgresql") -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(database.readers, thread_name_prefix="reader")
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()

    async def look(self, fn: Callable[[Session], T]) -> T:
        """Runs `fn` on a connection that cannot write; all its reads see one moment."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, context.run, self._look, fn, self._database.begin_reading
        )

    async def glance(self, fn: Callable[[Session], T]) -> T:
        """The same for one statement, which sees one moment without a transaction around it."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, context.run, self._look, fn, "SELECT"
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        while not self._idle.empty():
            self._idle.get().close()

    def _look(self, fn: Callable[[Session], T], begin: str) -> T:
        if self._database.silent:
            raise StorageUnavailable
        try:
            connection = self._begun(begin)
        except self._database.driver_error as error:
            raise self._database.translate(error) from error
        try:
            return fn(Session(connection, self._database))
        finally:
            self._give_back(connection)

    def _begun(self, begin: str) -> "Connection":
        """A connection that answers. One that died while idle is replaced; nothing has happened yet."""
        while not self._idle.empty():
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                break
            try:
                connection.execute(begin)
            except self._database.driver_error:
                connection.close()
            else:
                return connection
        connection = self._database.reader()
        connection.execute(begin)
        return connection

    def _give_back(self, connection: "Connection") -> None:
        try:
            if self._database.in_transaction(connection):
                connection.execute("ROLLBACK")
        except self._database.driver_error:
            connection.close()
        if connection.closed:
            return
        self._idle.put(connection)
