"""Everything that is particular to SQLite: one file per service, one writer, any number of readers."""

import sqlite3
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from services.chassis.storage.faults import (
    StorageDamaged,
    StorageNotMigrated,
    StorageReadOnly,
    StorageUnavailable,
)

WRITER_WAIT_MS: Final = 5000
"""How long the writer waits for a lock that another process (a migration, a backup) holds."""

READER_WAIT_MS: Final = 100
"""The same for reads in the event loop, which nothing may block for long; WAL readers hardly ever wait."""

STATEMENTS_CACHED: Final = 512  # more than any service has, so that nothing is ever parsed twice

READERS_MAX: Final = 4  # connections for lists and searches, a thread each; more would only queue on the CPU

_WRITER_PRAGMAS: Final = (
    ("journal_mode", "WAL"),  # readers never wait for the writer, nor it for them
    ("synchronous", "FULL"),  # an answered commit survives a power cut; NORMAL would lose the last ones
    ("busy_timeout", WRITER_WAIT_MS),
    ("foreign_keys", "ON"),  # SQLite checks them only when asked to, and per connection
    ("journal_size_limit", 64 * 1024 * 1024),  # a long backup must not leave a huge WAL file behind
)

_READER_PRAGMAS: Final = (
    ("busy_timeout", READER_WAIT_MS),
    ("query_only", "ON"),  # a read that writes is a bug, and shall be told so
)

# https://www.sqlite.org/rescode.html: what passes, as opposed to what we did wrong.
_WEATHER: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}

_TROUBLE: Final = {
    sqlite3.SQLITE_ERROR: StorageNotMigrated,  # whatever the statement names and the schema does not
    sqlite3.SQLITE_READONLY: StorageReadOnly,
    sqlite3.SQLITE_CORRUPT: StorageDamaged,
    sqlite3.SQLITE_NOTADB: StorageDamaged,
}


class Sqlite:
    """One SQLite file, by its `sqlite:///path` URL."""

    driver_error: type[Exception] = sqlite3.Error
    begin_writing = "BEGIN IMMEDIATE"
    """Takes the write lock at once: a plain BEGIN fails with "locked" when it would upgrade later."""

    begin_reading = "BEGIN"
    searchers = READERS_MAX

    def __init__(self, url: str) -> None:
        database = sa.make_url(url).database
        if not database or database == ":memory:":
            raise ValueError(f"{url!r}: a file is needed, several connections share it")
        self.path = Path(database).absolute()
        self.dialect: sa.Dialect = sqlite.dialect(paramstyle="qmark")

    def writer(self) -> sqlite3.Connection:
        """The one connection that writes. Creates the file if need be."""
        return self._connect("rwc", _WRITER_PRAGMAS)

    def reader(self) -> sqlite3.Connection:
        """A connection that cannot write."""
        return self._connect("ro", _READER_PRAGMAS)

    def engine(self) -> sa.Engine:
        """An engine for lists and searches; its connections cannot write either."""
        return sa.create_engine(
            "sqlite://",
            creator=self._lister,
            poolclass=sa.QueuePool,
            pool_size=READERS_MAX,
            max_overflow=0,
            hide_parameters=True,  # errors are logged, and what was looked for may be an e-mail address
        )

    def translate(self, error: Exception) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        return StorageUnavailable() if code is not None and code & 0xFF in _WEATHER else error

    def trouble(self, error: Exception) -> Exception:
        """What is the matter with a database in which a simple question fails."""
        kind = _TROUBLE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        return kind() if kind else self.translate(error)

    def in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction

    def _connect(self, mode: str, pragmas: tuple[tuple[str, object], ...]) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri(mode),
            uri=True,
            isolation_level=None,  # transactions begin where we say, not where the driver guesses
            check_same_thread=False,  # threads hand them over and never share them
            cached_statements=STATEMENTS_CACHED,
        )
        try:
            for name, value in pragmas:
                connection.execute(f"PRAGMA {name} = {value}")
        except BaseException:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        return connection

    def _lister(self) -> sqlite3.Connection:
        connection = self._connect("ro", (*_READER_PRAGMAS, ("busy_timeout", WRITER_WAIT_MS)))
        connection.row_factory = None  # Core makes its own rows
        return connection

    def _uri(self, mode: str) -> str:
        return f"file:{quote(str(self.path))}?mode={mode}"


def engine_for_migrations(url: str) -> sa.Engine:
    """A synchronous engine whose transactions take the write lock at their beginning."""
    engine = sa.create_engine(url, connect_args={"timeout": 60}, poolclass=sa.NullPool, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # else the driver commits before each CREATE TABLE

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
