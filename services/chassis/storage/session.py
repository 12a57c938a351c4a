"""What a transaction function works with: statements on one open transaction. Synchronous throughout."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import sqlalchemy as sa

from services.chassis.storage.faults import Rewind, TransactionLost
from services.chassis.storage.statement import Statement


class Row(Protocol):
    """One row of a result; columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


class Cursor(Protocol):
    """As much of a DB-API cursor as is used here."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """As much of a driver's connection as is used here; sqlite3's fits, and psycopg's would."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor: ...
    def executemany(self, sql: str, parameters: Any, /) -> Cursor: ...
    def close(self) -> None: ...


class Database(Protocol):
    """What differs between databases, in one object."""

    dialect: sa.Dialect
    driver_error: type[Exception]

    def translate(self, error: Exception) -> Exception:
        """The house's word for a driver's error; the error itself if it is a bug."""

    def in_transaction(self, connection: Any) -> bool: ...


Watch = Callable[[str, int], AbstractContextManager[None]]


class Session:
    """An open transaction.

    Driver errors that are the weather come out as `StorageUnavailable`; constraint violations and bugs as
    the driver raised them.
    """

    __slots__ = (
        "_after_commit",
        "_connection",
        "_database",
        "_dialect",
        "_lost",
        "_watch",
        "_with_savepoints",
        "wrote",
    )

    def __init__(self, connection: Connection, database: Database, *, with_savepoints: bool = True) -> None:
        """Without savepoints, `savepoint` raises Rewind where one would be needed."""
        self._connection = connection
        self._database = database
        self._dialect = database.dialect
        self._with_savepoints = with_savepoints
        self._lost = False
        self._watch: Watch | None = None
        self._after_commit: list[Callable[[], None]] = []
        self.wrote = False
        """Whether a statement has changed anything since the writer last set this to False."""

    def after_commit(self, act: Callable[[], None]) -> None:
        """Has `act` called in the event loop once this transaction is on disk, and never if it is not.

        In the context of who asked, also if they have gone meanwhile. It must not raise. A process that dies
        in between does not call it: for what may be missed, like waking those who wait; what must not be
        missed belongs in the outbox.
        """
        self._after_commit.append(act)

    def collect_after_commit(self, acts: list[Callable[[], None]]) -> None:
        """For the writer, which runs several transactions on one session: where `after_commit` puts them."""
        self._after_commit = acts

    @contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """Each statement inside is run in a context that `watch` makes of its SQL and its count of rows."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None

    def one(self, statement: Statement, /, **params: object) -> Row | None:
        """The row that the statement finds, None if there is none; raises ValueError if there are more."""
        cursor = self._execute(statement, params)
        row: Row | None = cursor.fetchone()
        if row is not None and cursor.fetchone() is not None:
            raise ValueError("more than one row")
        return row

    def all(self, statement: Statement, /, **params: object) -> list[Row]:
        """Every row that the statement finds."""
        return self._execute(statement, params).fetchall()

    def run(self, statement: Statement, /, **params: object) -> int:
        """Runs a statement that returns no rows; how many rows it touched."""
        touched = self._execute(statement, params).rowcount
        if touched:
            self.wrote = True
        return touched

    def many(self, statement: Statement, rows: Iterable[Mapping[str, object]]) -> None:
        """Runs one statement for each of several sets of parameters."""
        bound = [statement.bound(self._dialect, row) for row in rows]
        if bound:
            self.wrote = True
            self._run(self._connection.executemany, bound[0][0], [params for _, params in bound], len(bound))

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What happens inside is undone if it raises, and only that."""
        if not self._with_savepoints:
            yield from self._nothing_to_undo()
            return
        self._guarded(self._connection.execute, "SAVEPOINT part")
        try:
            yield
        except BaseException:
            if not self.lost:
                self._guarded(self._connection.execute, "ROLLBACK TO part")
                self._guarded(self._connection.execute, "RELEASE part")
            raise
        self._guarded(self._connection.execute, "RELEASE part")

    @property
    def lost(self) -> bool:
        """Whether the database has rolled back the whole transaction by itself."""
        return self._lost

    def _nothing_to_undo(self) -> Iterator[None]:
        before, self.wrote = self.wrote, False
        try:
            yield
        except BaseException as error:
            if self.wrote:
                raise Rewind from error
            raise
        finally:
            self.wrote = self.wrote or before

    def _execute(self, statement: Statement, params: dict[str, object]) -> Cursor:
        sql, values = statement.bound(self._dialect, params)
        cursor: Cursor = self._run(self._connection.execute, sql, values)
        return cursor

    def _run(self, execute: Any, sql: str, values: Any, rows: int = 1) -> Any:
        if self._watch is None:
            return self._guarded(execute, sql, values)
        with self._watch(sql, rows):
            return self._guarded(execute, sql, values)

    def _guarded(self, execute: Any, *args: Any) -> Any:
        if self._lost:
            # Without a transaction every further statement would commit by itself.
            raise TransactionLost
        try:
            return execute(*args)
        except self._database.driver_error as error:
            self._lost = not self._database.in_transaction(self._connection)
            translated = self._database.translate(error)
            if translated is error:
                raise
            raise translated from error
