"""Everything that is particular to PostgreSQL: a database per service, several writers, several processes.

Imported only where a URL asks for it: the driver is nothing that a laptop's shop needs to hold in memory.
"""

import zlib
from contextlib import suppress
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from sqlalchemy.dialects.postgresql import psycopg as dialects

from services.chassis.storage.faults import RaceLost, StorageUnavailable
from services.chassis.storage.leadership import SILENT_MAX_S

WRITERS: Final = 6  # connections that write; commits wait for the disk together, so a few are enough
READERS: Final = 2  # for reads by key, which take a fraction of a millisecond
LISTERS: Final = (
    2  # for lists and searches. With one for the lead: eleven of the server's hundred connections
)

STATEMENTS_CACHED: Final = 512  # more than any service has, so that nothing is ever planned twice

LOCKS: Final = 0xB0DE6A
"""The class of our advisory locks, so that they are nobody else's."""

_CONNECT_TIMEOUT_S: Final = 5

_OPTIONS: Final = (
    ("lock_timeout", "5s"),  # behind a migration or a lock by hand: unavailable rather than waiting for ever
    ("idle_in_transaction_session_timeout", "30s"),  # a process that hangs must not hold locks
    # A host that vanished is noticed within half a minute, and its locks with it.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "4"),
    ("client_encoding", "UTF8"),
)

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


class _Whole(Loader):
    """Sums of bigint come as numeric; ours have no fraction."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


class Connection(psycopg.Connection[Any]):
    """The driver's, with what a Session needs."""

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

    def writer(self) -> Connection:
        """A connection that writes."""
        return self._connect(_OPTIONS + _WRITING)

    def reader(self) -> Connection:
        """A connection that cannot write."""
        return self._connect(_OPTIONS + _READING)

    def leader(self) -> Connection:
        """A connection that ends if it says nothing for a while: see `leadership`."""
        return self._connect((*_OPTIONS, *_READING, ("idle_session_timeout", f"{SILENT_MAX_S}s")))

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
        connection = Connection.connect(
            self._conninfo,
            autocommit=True,  # transactions begin where we say
            row_factory=dict_row,
            options=" ".join(f"-c {name}={value}" for name, value in options),
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name="bodega",
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
        "postgresql+psycopg://", creator=database.lister, poolclass=sa.NullPool, hide_parameters=True
    )
