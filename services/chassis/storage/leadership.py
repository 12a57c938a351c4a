"""Of several processes on one database, one does it: leads, held as advisory locks of one connection.

A lead ends with the connection. That ends with the process; and should the process be frozen, or its host be
gone, the server ends it as soon as it has heard nothing for `SILENT_MAX_S`. On SQLite there is one process
anyway.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from services.chassis import telemetry
from services.chassis.storage.faults import StorageUnavailable

if TYPE_CHECKING:
    from services.chassis.storage.postgresql import Connection, Postgresql

TRY_EVERY_S: Final = 1.0
"""After a leader has died, this long until another leads. So often, too, the server hears that we live."""

SILENT_MAX_S: Final = 5
"""A leader that the server has not heard of for so long leads no more: longer than a busy process may be held
up, and short enough that nobody asks where the events are. Another follows within six seconds."""

_log = telemetry.logger("leadership")


class Lead(Protocol):
    """That we are the one."""

    async def confirm(self) -> None:
        """Raises StorageUnavailable if we no longer are."""

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        """Works until that ends or we no longer are the one; then the work is cancelled."""


class Undisputed:
    """Where nobody else can be."""

    async def confirm(self) -> None:
        return

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        await work()


class Elected:
    """A lead that others would take over."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.won = asyncio.Event()
        self.lost = asyncio.Event()
        self._ask = ask

    async def confirm(self) -> None:
        if not self.lost.is_set():
            await self._ask()
        if self.lost.is_set():
            raise StorageUnavailable

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        working = asyncio.ensure_future(work())
        losing = asyncio.create_task(self.lost.wait())
        try:
            await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            was_done = working.done()
            for task in (working, losing):
                task.cancel()
            await asyncio.gather(working, losing, return_exceptions=True)
        if was_done:
            await working  # or what it raised


class Leads:
    """Those of one process, on a connection that is there as long as it has or wants any."""

    def __init__(self, database: "Postgresql") -> None:
        self._database = database
        self._connection: Connection | None = None
        self._wanted: list[Elected] = []
        self._news = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def leading(self, name: str) -> AsyncIterator[Lead]:
        """Waits until nobody else leads in this, and until the database is there."""
        wanted = Elected(name, self._alive)
        self._wanted.append(wanted)
        self._news.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="leads")
        try:
            await wanted.won.wait()
            yield wanted
        finally:
            self._wanted.remove(wanted)
            await self._give_up(wanted)

    async def _keep(self) -> None:
        """Tries for what is wanted, and lets the server hear that what was won is still ours."""
        try:
            while self._wanted:
                self._news.clear()
                await self._try_all()
                await self._alive()
                with suppress(TimeoutError):
                    async with asyncio.timeout(TRY_EVERY_S):
                        await self._news.wait()
        finally:  # also when it is cancelled, at the end of all: who gives up a lead just then waits for it
            self._keeper = None
            self._close()

    async def _try_all(self) -> None:
        try:
            for lead in [wanted for wanted in self._wanted if not wanted.won.is_set()]:
                ours_on = await asyncio.to_thread(self._try, lead.name)
                if ours_on is not None and ours_on is self._connection:  # else it was lost again already
                    lead.won.set()
        except self._database.driver_error as error:
            self._lose(error)

    async def _give_up(self, lead: Elected) -> None:
        if lead.won.is_set() and not lead.lost.is_set():
            with suppress(self._database.driver_error):
                await asyncio.to_thread(self._release, lead.name)
        lead.lost.set()
        # The last one sees the connection closed, unless somebody wants a lead again meanwhile.
        while not self._wanted and self._keeper is not None:
            self._news.set()
            await asyncio.wait({self._keeper}, timeout=TRY_EVERY_S)

    async def _alive(self) -> None:
        """Says so to the server, or learns that it has given us up."""
        try:
            await asyncio.to_thread(self._say_something)
        except self._database.driver_error as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        lost = [lead.name for lead in self._wanted if lead.won.is_set() and not lead.lost.is_set()]
        if lost:
            _log.warning("no longer leading", leads=lost, error=type(error).__name__)
        for lead in self._wanted:
            if lead.won.is_set():
                lead.lost.set()
        self._close()

    # What follows runs in threads, but for closing what has broken; the driver lets in one at a time.

    def _try(self, name: str) -> "Connection | None":
        """The connection on which the lead is ours now."""
        connection = self._connection  # which may be lost, and None, at any moment
        if connection is None:
            connection = self._connection = self._database.leader()
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s, %s) AS ours", self._database.lock_key(name)
        ).fetchone()
        return connection if row is not None and row["ours"] else None

    def _release(self, name: str) -> None:
        if (connection := self._connection) is not None:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", self._database.lock_key(name))

    def _say_something(self) -> None:
        if (connection := self._connection) is not None:
            connection.execute("SELECT 1")

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
