"""The store: what a service does with its database."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message

from services.chassis.storage import audit_trail, idempotency, readiness
from services.chassis.storage.faults import StorageOutdated
from services.chassis.storage.idempotency import Call
from services.chassis.storage.leadership import Lead, Leads, Undisputed
from services.chassis.storage.readers import ReaderInLoop, ReadersInThreads
from services.chassis.storage.readiness import AskedBeside, AskedOfTheWriter
from services.chassis.storage.schema import Schema
from services.chassis.storage.session import Session
from services.chassis.storage.spans import searched, traced
from services.chassis.storage.sqlite import Sqlite
from services.chassis.storage.statement import Statement
from services.chassis.storage.writer import Writer
from services.kernel.clock import Clock
from services.kernel.errors import DomainError

if TYPE_CHECKING:
    from services.chassis.storage.postgresql import Postgresql
    from services.chassis.storage.writers import Writers

T = TypeVar("T")
Tx = TypeVar("Tx")
M = TypeVar("M", bound=Message)


class Store(Generic[Tx]):
    """One service's database, open for as long as the context manager.

    A transaction is a plain function of the service's own transaction object (`open_transaction` makes it
    from a Session). It may run more than once, so it has no effect but the transaction; it cannot await, so
    it never holds a lock across the network, and a cancelled handler cannot tear it. Raise means that
    nothing happened.

    With a `schema`, a database that turns out (see `ready`) to have an older one is asked for nothing:
    whoever wants something is told StorageOutdated, which passes, until it has been migrated.
    """

    def __init__(
        self,
        url: str,
        *,
        open_transaction: Callable[[Session], Tx],
        clock: Clock,
        secret: bytes,
        schema: Schema | None = None,
    ) -> None:
        self._database: Sqlite | Postgresql
        self._writer: Writer | Writers
        self._database, self._writer = _opened(url, on_commit=self._wake_all)
        self._leads = None if isinstance(self._database, Sqlite) else Leads(self._database)
        self._open_transaction = open_transaction
        self._clock = clock
        self._secret = secret
        self._schema = schema
        self._is_outdated = False
        self._reads: ReaderInLoop | ReadersInThreads
        self._readiness: AskedOfTheWriter | AskedBeside
        self._wakes: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        self._writer.open()
        try:
            self._reads, self._readiness = _asking(self._database, self._writer, self._schema)
        except BaseException:
            await self._writer.close()
            raise
        self._engine = self._database.engine()
        self._searchers = ThreadPoolExecutor(self._database.searchers, thread_name_prefix="search")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _uncancellable(self._close())

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Runs `fn` in a transaction of its own; answers when it is on disk.

        Raises what `fn` raises, and then nothing has happened; `StorageUnavailable`, `StorageBusy` or
        `StorageClosed` if the database cannot do it; `StaleVersion` if it lost three races in a row.
        """

        def transaction(session: Session) -> T:
            answer = fn(self._open_transaction(session))
            if (request := audit_trail.acting()) is not None:
                audit_trail.record(session, request, answer, now=self._clock.now())
            return answer

        return await self._traced("store.write", transaction, self._writer.write)

    async def once(self, call: Call, fn: Callable[[Tx], M | DomainError]) -> M:
        """The same, but however often the call is repeated, `fn` has its effect once.

        The reply, or the definite refusal, is remembered under the call's request id for 24 hours and given
        to every repeat: as a message without its `debug_redact` fields, or raised as `status.Refused`.
        Passing errors (Stale, Unavailable, TooMuch, bugs) leave the id free. A DomainError that `fn` returns
        instead of raising is remembered and raised after the effects are committed.
        Raises RequestIdMissing, and RequestIdReused for the same id with other content.
        """
        digest = call.digest(self._secret)

        def transaction(session: Session) -> idempotency.Outcome[M]:
            now = self._clock.now()
            return idempotency.once(session, call, digest, now, lambda: fn(self._open_transaction(session)))

        return (await self._traced("store.once", transaction, self._writer.write)).unwrap()

    async def recall(self, call: Call, reply_type: type[M]) -> M | None:
        """What `once` would replay for this call, None if it has not happened yet.

        For handlers of several steps, which ask before they call a neighbour.
        """
        digest = call.digest(self._secret)

        def reading(session: Session) -> idempotency.Outcome[M] | None:
            return idempotency.recall(session, call, digest, reply_type)

        outcome = await self._traced("store.recall", reading, self._reads.glance)
        return outcome.unwrap() if outcome else None

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Runs `fn` on a connection that cannot write; all its reads see one moment.

        For reads by key: on SQLite they are done in the loop's thread, and take microseconds. Lists and
        searches belong to `fetch`.
        """
        return await self.look(lambda session: fn(self._open_transaction(session)))

    async def fetch(self, clause: sa.Select[Any]) -> list[sa.RowMapping]:
        """Runs a query, of any length, beside the event loop.

        If the caller is cancelled, a query that waits for its turn never has it; of one that was begun, the
        connection is given back before the cancellation goes on.
        """
        self._must_suit()
        return await searched(self._database.dialect, clause, self._fetch(clause))

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Has `wake` called in the loop after each commit that changed something."""
        self._wakes.append(wake)

    async def transact(self, fn: Callable[[Session], T], *, patient: bool = False) -> T:
        """`write` for the chassis' own tables, which need no more than a Session.

        What is patient joins somebody else's commit, or has its own if none comes along for a while.
        """
        return await self._traced("store.transact", fn, partial(self._writer.write, patient=patient))

    def look(self, fn: Callable[[Session], T]) -> Coroutine[Any, Any, T]:
        """`read` for the chassis' own tables."""
        return self._traced("store.read", fn, self._reads.look)

    def leading(self, name: str) -> AbstractAsyncContextManager[Lead]:
        """For what one process at a time may do: waits until no other leads in it."""
        return nullcontext(Undisputed()) if self._leads is None else self._leads.leading(name)

    async def alone(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Does work that never ends in one process at a time. If that dies another goes on: see `leadership`.

        The work is cancelled when we no longer lead, and begun anew when we do again.
        """
        while True:
            async with self.leading(name) as lead:
                await lead.during(work)

    @property
    def one_writer(self) -> bool:
        """Whether transactions are begun in the order in which they commit, and none elsewhere."""
        return isinstance(self._database, Sqlite)

    def transaction(self, session: Session) -> Tx:
        """The service's transaction object on an open session."""
        return self._open_transaction(session)

    async def ready(self, question: Statement = readiness.QUESTION) -> str:
        """Returns if the database does its work right now, and what is worth telling of it; for readiness.

        Raises StorageUnavailable, whose class says what is the matter, or the driver's error.
        """
        try:
            told = await self._readiness.ask(question)
        except StorageOutdated:
            self._is_outdated = True
            raise
        self._is_outdated = False
        return told

    @property
    def under_way(self) -> int:
        """Transactions taken and not yet answered; what a metric shows."""
        return self._writer.under_way

    def _traced(
        self,
        name: str,
        fn: Callable[[Session], T],
        run: Callable[[Callable[[Session], T]], Coroutine[Any, Any, T]],
    ) -> Coroutine[Any, Any, T]:
        self._must_suit()
        return traced(name, self._database.dialect.name, fn, run)

    def _must_suit(self) -> None:
        if self._is_outdated:
            raise StorageOutdated

    async def _fetch(self, clause: sa.Select[Any]) -> list[sa.RowMapping]:
        query = self._searchers.submit(self._search, clause)
        return await _uncancellable(asyncio.wrap_future(query), give_up=query.cancel)

    def _search(self, clause: sa.Select[Any]) -> list[sa.RowMapping]:
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(clause).mappings())
        except sa.exc.DBAPIError as error:
            if isinstance(error.orig, Exception):
                translated = self._database.translate(error.orig)
                if translated is not error.orig:
                    raise translated from error
            raise

    async def _close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._searchers.shutdown)
        await self._reads.close()
        await self._readiness.close()
        self._engine.dispose()

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake()


def _opened(
    url: str, *, on_commit: Callable[[], None]
) -> "tuple[Sqlite, Writer] | tuple[Postgresql, Writers]":
    match sa.make_url(url).get_backend_name():
        case "sqlite":
            database = Sqlite(url)
            return database, Writer(database, on_commit=on_commit)
        case "postgresql":
            # Its driver is for those who use it: it costs every process memory.
            from services.chassis.storage.postgresql import Postgresql  # noqa: PLC0415
            from services.chassis.storage.writers import Writers  # noqa: PLC0415

            server = Postgresql(url)
            return server, Writers(server, on_commit=on_commit)
        case other:
            raise ValueError(f"there is no store on {other}: sqlite:///path, or postgresql://host/name")


def _asking(
    database: "Sqlite | Postgresql", writer: "Writer | Writers", schema: Schema | None
) -> tuple[ReaderInLoop, AskedOfTheWriter] | tuple[ReadersInThreads, AskedBeside]:
    if isinstance(database, Sqlite):
        assert isinstance(writer, Writer)
        return ReaderInLoop(database), AskedOfTheWriter(database, writer, schema)
    return ReadersInThreads(database), AskedBeside(database, schema)


async def _uncancellable(work: Awaitable[T], *, give_up: Callable[[], object] = lambda: None) -> T:
    """Awaits `work` to its end even if the caller is cancelled, and only then lets the cancellation through.

    A query that nobody waits for any more goes on in its thread all the same: callers who gave up would
    queue ever more of them there. `give_up` is called first, to spare what has not begun.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        give_up()
        while not task.done():
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # looked at, so that nobody warns of it
        raise
