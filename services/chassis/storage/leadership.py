"""Of several processes on one database, one does it: a lead, held as an advisory lock of its connection.

It ends with the connection, so a process that dies leads no longer; on SQLite there is one process anyway.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

from services.chassis.storage.faults import StorageUnavailable

if TYPE_CHECKING:
    from services.chassis.storage.postgresql import Connection, Postgresql

TRY_EVERY_S: Final = 1.0  # after a leader has died, this long until another leads


class Lead(Protocol):
    """That we are the one."""

    async def confirm(self) -> None:
        """Raises StorageUnavailable if we no longer are."""


class Undisputed:
    """Where nobody else can be."""

    async def confirm(self) -> None:
        return


class Elected:
    """A lead that others would take over."""

    def __init__(self, database: "Postgresql", connection: "Connection") -> None:
        self._database = database
        self._connection = connection

    async def confirm(self) -> None:
        await asyncio.to_thread(self._ask)

    def _ask(self) -> None:
        try:
            self._connection.execute("SELECT 1")
        except self._database.driver_error as error:
            raise StorageUnavailable from error


@asynccontextmanager
async def elected(database: "Postgresql", name: str) -> AsyncIterator[Lead]:
    """Waits until nobody else leads. Raises StorageUnavailable if the database is away."""
    try:
        connection = await asyncio.to_thread(database.reader)
    except database.driver_error as error:
        raise database.translate(error) from error
    try:
        while not await asyncio.to_thread(_try, database, connection, name):  # noqa: ASYNC110 (of others)
            await asyncio.sleep(TRY_EVERY_S)
        yield Elected(database, connection)
    finally:
        await asyncio.to_thread(connection.close)


def _try(database: "Postgresql", connection: "Connection", name: str) -> bool:
    try:
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s, %s) AS ours", database.lock_key(name)
        ).fetchone()
    except database.driver_error as error:
        raise database.translate(error) from error
    return row is not None and bool(row["ours"])
