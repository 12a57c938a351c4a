"""Everything that is particular to PostgreSQL: a database per service, several writers, several processes.

Imported only where a URL asks for it: the driver is nothing that a laptop's shop needs to hold in memory.
"""

import math
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from sqlalchemy.dialects.postgresql import psycopg as dialects

from services.chassis.storage.faults import (
    RaceLost,
    StorageBusy,
    StorageDamaged,
    StorageNotMigrated,
    StorageReadOnly,
    StorageSilent,
    StorageUnavailable,
)
from services.chassis.storage.leadership import SILENT_MAX_S, TRY_EVERY_S

T = TypeVar("T")

WRITERS: Final = 6  # connections that write; commits wait for the disk together, so a few are enough
READERS: Final = 2  # for reads by key, which take a fraction of a millisecond
LISTERS: Final = 2  # for lists and searches
# With one for the lead and one for readiness: twelve of the server's hundred connections.

STATEMENTS_CACHED: Final = 512  # more than any service has, so that nothing is ever planned twice

_LOOK_UP_S: Final = 0.1  # who waits for the server looks up so often

LOCKS: Final = 0xB0DE6A
"""The class of our advisory locks, so that they are nobody else's."""

HEARD_WITHIN_S: Final = 15.0
"""Where not even `statement_timeout` is kept, the server or the way to it is gone. Readiness sees sooner."""

ASKER_HEARD_WITHIN_S: Final = 0.8
"""The same for readiness, within its own patience; a server that is merely loaded says so before."""

_LINE: Final[dict[str, Any]] = {
    "connect_timeout": 2,  # the least that libpq takes; who is not let in by then tries again
    # A line that fell silent without a word (a firewall, a host without power) is given up in ten seconds
    # when idle, and in five if something of ours is not even acknowledged: far below the hours of TCP's own.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,  # milliseconds
}

_OPTIONS: Final = (
    ("lock_timeout", "5s"),  # behind a migration or a lock by hand: unavailable rather than waiting for ever
    ("idle_in_transaction_session_timeout", "10s"),  # a process that hangs must not hold locks
    # A host that vanished is noticed within half a minute, and its locks with it.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "4"),
    ("client_encoding", "UTF8"),
)

_BOUNDED: Final = (("statement_timeout", "10s"),)  # no caller waits for longer, and ours take milliseconds

_ASKING: Final = (
    # A server that waits for a lock, or is short of time, shall say so before it seems silent.
    ("lock_timeout", "400ms"),
    ("statement_timeout", "600ms"),
)

_AUDIT_MAX: Final = "10min"  # tables of millions of rows take minutes

_WRITING: Final = (
    ("synchronous_commit", "on"),  # an answered commit survives a power cut, whatever the server's default
    # Serializable transactions note what they have read. A scan notes the whole table, and small tables are
    # scanned; then everyone would be in everyone's way.
    ("enable_seqscan", "off"),
)

_READING: Final = (("default_transaction_read_only", "on"),)  # a read that writes is a bug, and shall be told

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_RACES: Final = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_WEATHER: Final = {"08", "53", "57", "58"}  # connection, resources, operator, system: what passes
_LOCK_TIMEOUT: Final = "55P03"
_IDLE_TIMEOUT: Final = "25P03"
_TROUBLE: Final = {
    "25006": StorageReadOnly,  # a standby, or told to be
    "3D000": StorageNotMigrated,  # no such database
    "42P01": StorageNotMigrated,  # no such table
    "XX001": StorageDamaged,
    "XX002": StorageDamaged,
    _LOCK_TIMEOUT: StorageBusy,
    "57014": StorageBusy,  # the statement took too long
}


class Silence(psycopg.OperationalError):
    """Nothing was heard from the server."""

    def __init__(self) -> None:
        super().__init__("nothing was heard from the server")


class _Whole(Loader):
    """Sums of bigint come as numeric; ours have no fraction."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


class Connection(psycopg.Connection[Any]):
    """The driver's, with what a Session needs, and without waiting for ever.

    A server that is stopped, or behind a firewall that drops what it does not know, acknowledges or ignores
    a statement and says nothing; neither its own timeouts nor TCP's end that in time.
    """

    heard_within_s = HEARD_WITHIN_S
    given_up: Callable[[], bool] = staticmethod(lambda: False)
    """Whether the server is known to be silent."""

    def wait(self, gen: PQGen[T], interval: float = _LOOK_UP_S, timeout: float | None = None) -> T:
        try:
            return super().wait(self._listening(gen), interval, timeout)
        except Silence:
            self.close()  # with a statement under way it is good for nothing else
            raise

    def _listening(self, gen: PQGen[T]) -> PQGen[T]:
        """Asks, each time that nothing has come, whether to wait on."""
        give_up = time.monotonic() + self.heard_within_s
        try:
            wish = next(gen)
            while True:
                ready = yield wish
                if not ready and (self.given_up() or time.monotonic() > give_up):
                    raise Silence
                wish = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value

    def executemany(self, statement: str, rows: list[Any]) -> psycopg.Cursor[Any]:
        cursor = self.cursor()
        cursor.executemany(statement, rows)
        return cursor


class Postgresql:
    """One PostgreSQL database, by its `postgresql://user:password@host/name` URL."""

    driver_error: type[Exception] = psycopg.Error
    begin_writing = "BEGIN ISOLATION LEVEL SERIALIZABLE"
    """What several do at once comes out as if one had done it after the other, as on SQLite."""

    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    searchers = LISTERS
    readers = READERS

    def __init__(self, url: str) -> None:
        made = sa.make_url(url)
        if not made.database:
            raise ValueError("a PostgreSQL URL must name its database")
        self.name = made.database
        self._conninfo = made.set(drivername="postgresql").render_as_string(hide_password=False)
        self.dialect: sa.Dialect = dialects.dialect()  # type: ignore[no-untyped-call]

        self.silent = False
        """That the server does not answer, as found by who asks about readiness: nobody else waits for it."""

    def writer(self) -> Connection:
        """A connection that writes."""
        return self._connect(_OPTIONS + _BOUNDED + _WRITING)

    def reader(self) -> Connection:
        """A connection that cannot write."""
        return self._connect(_OPTIONS + _BOUNDED + _READING)

    def auditor(self) -> Connection:
        """The same for SQLAlchemy and for questions that take their time: whole tables are read."""
        # Of several databases one is read at a time, and the others' snapshots have to stay.
        patient = ("idle_in_transaction_session_timeout", _AUDIT_MAX)
        connection = self._connect((*_OPTIONS, *_READING, patient))
        connection.heard_within_s = math.inf
        connection.row_factory = tuple_row
        return connection

    def asker(self) -> Connection:
        """A connection that finds out whether the server answers, and asks although it was silent."""
        connection = self._connected(_OPTIONS + _ASKING)
        connection.heard_within_s = ASKER_HEARD_WITHIN_S
        return connection

    def leader(self) -> Connection:
        """A connection that ends if it says nothing for a while: see `leadership`."""
        connection = self._connect((*_OPTIONS, *_READING, ("idle_session_timeout", f"{SILENT_MAX_S}s")))
        # Who cannot hear the server learns so before the server gives up who cannot be heard.
        connection.heard_within_s = SILENT_MAX_S - TRY_EVERY_S
        return connection

    def engine(self) -> sa.Engine:
        """An engine for lists and searches; its connections cannot write either."""
        return sa.create_engine(
            "postgresql+psycopg://",
            creator=self.lister,
            poolclass=sa.QueuePool,
            pool_size=LISTERS,
            max_overflow=0,
            hide_parameters=True,
            pool_pre_ping=True,  # the server may have been started again since
        )

    def translate(self, error: Exception) -> Exception:
        if not isinstance(error, psycopg.Error):
            return error
        state = error.sqlstate
        if state is None:
            # The line itself: psycopg says so without a state.
            return StorageUnavailable() if isinstance(error, psycopg.OperationalError) else error
        if state in _RACES:
            return RaceLost()
        if state[:2] in _WEATHER or state in (_LOCK_TIMEOUT, _IDLE_TIMEOUT):
            return StorageUnavailable()
        # Details quote the rows they are about, and what nobody expected is logged.
        error.args = (error.diag.message_primary,)
        return error

    def trouble(self, error: Exception) -> Exception:
        """What is the matter with a database in which a simple question fails."""
        if isinstance(error, Silence | psycopg.errors.ConnectionTimeout):
            return StorageSilent()
        kind = _TROUBLE.get(getattr(error, "sqlstate", None) or "")
        return kind() if kind else self.translate(error)

    def in_transaction(self, connection: Connection) -> bool:
        """Also in one that has failed: what is said in it is refused, and does not commit by itself."""
        return connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def lock_key(self, name: str) -> tuple[int, int]:
        """Of an advisory lock in this database."""
        return LOCKS, _number(name)

    def lister(self) -> Connection:
        """The same for SQLAlchemy, which makes its own rows."""
        connection = self.reader()
        connection.row_factory = tuple_row
        return connection

    def _connect(self, options: tuple[tuple[str, str], ...]) -> Connection:
        """Raises Silence at once where nobody would answer."""
        if self.silent:
            raise Silence
        connection = self._connected(options)
        connection.given_up = lambda: self.silent
        return connection

    def _connected(self, options: tuple[tuple[str, str], ...]) -> Connection:
        connection = Connection.connect(
            self._conninfo,
            autocommit=True,  # transactions begin where we say
            row_factory=dict_row,
            options=" ".join(f"-c {name}={value}" for name, value in options),
            application_name="bodega",
            **_LINE,
        )
        connection.prepared_max = STATEMENTS_CACHED
        connection.adapters.register_loader("numeric", _Whole)
        return connection


def _number(name: str) -> int:
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def engine_for_migrations(url: str) -> sa.Engine:
    """A synchronous engine whose transactions wait for each other. Makes the database if need be."""
    made = sa.make_url(url).set(drivername="postgresql+psycopg")
    _make_if_missing(made.set(drivername="postgresql"))
    engine = sa.create_engine(made, poolclass=sa.NullPool, hide_parameters=True)

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCKS}, {_number('migrations')})")

    return engine


def _make_if_missing(url: sa.URL) -> None:
    """Where we may; elsewhere the administrator has made it. Whoever connects next hears what is wrong."""
    try:
        psycopg.connect(url.render_as_string(hide_password=False)).close()
    except psycopg.OperationalError:
        administration = url.set(database="postgres").render_as_string(hide_password=False)
        made = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C'")
        with suppress(psycopg.Error), psycopg.connect(administration, autocommit=True) as server:
            server.execute(made.format(sql.Identifier(url.database or "")))


def reading_engine(url: str) -> sa.Engine:
    """For audits: connections of their own, which cannot write."""
    database = Postgresql(url)
    return sa.create_engine(
        "postgresql+psycopg://", creator=database.auditor, poolclass=sa.NullPool, hide_parameters=True
    )
