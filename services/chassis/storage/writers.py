"""Those who write where there may be several: threads with a connection and a transaction each.

Transactions are serializable: what several of them do at once comes out as if one had come after the
other, or the database refuses one, which then is run again. Once refused, a transaction runs alone in this
process, so that those who all want the last piece of something do not refuse each other over and over.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from services.chassis import telemetry
from services.chassis.storage.faults import RaceLost, Rewind, StorageBusy, StorageClosed, StorageUnavailable
from services.chassis.storage.postgresql import WRITERS, Connection, Postgresql
from services.chassis.storage.session import Session
from services.chassis.storage.writer import AFTER_COMMIT, BEFORE_COMMIT, Job

T = TypeVar("T")

WAITING_MAX: Final = 1024
"""Transactions under way at once. At some 2,000 a second the last one waits half a second; more would wait
for longer than their callers do."""

log = telemetry.logger(__name__)


class Writers:
    """Owns the writing connections and their threads. Used from one event loop."""

    def __init__(self, database: Postgresql, *, on_commit: Callable[[], None]) -> None:
        self._database = database
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._road = _Road()
        self._under_way = 0  # counted in the loop's thread alone, hence no lock
        self._closing = False

    def open(self) -> None:
        """Begins to take transactions. Connects with the first ones: the server may come later than we."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            # Daemons, so that a program that forgets to close its store can still end.
            threading.Thread(target=self._work, name=f"writer:{self._database.name}:{number}", daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Takes nothing more, does what has been taken, closes the connections."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._join)

    @property
    def under_way(self) -> int:
        """Transactions taken and not yet answered."""
        return self._under_way

    async def write(self, fn: Callable[[Session], T], *, patient: bool = False) -> T:  # noqa: ARG002 (nobody shares a commit here)
        """Runs `fn` in a transaction and answers once it is on disk.

        Cancelling the caller cancels a transaction that has not begun, and never tears one that has.
        Raises StorageBusy, StorageClosed, or whatever `fn` raises.
        """
        if self._closing:
            raise StorageClosed
        if self._under_way >= WAITING_MAX:
            raise StorageBusy
        answer: asyncio.Future[T] = self._loop.create_future()
        self._under_way += 1
        self._queue.put(Job(fn, contextvars.copy_context(), answer))
        return await answer

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _settle(self, job: Job, wrote: bool) -> None:  # noqa: FBT001 (call_soon takes no keywords)
        self._under_way -= 1
        job.settle()
        if wrote:
            self._on_commit()

    # What follows runs in the writers' threads.

    def _work(self) -> None:
        desk = _Desk(self._database)
        while (job := self._queue.get()) is not None:
            wrote = False
            if not job.answer.cancelled():
                try:
                    wrote = self._run(desk, job)
                except BaseException as error:  # noqa: BLE001 (else its caller would wait for ever)
                    job.fail(error)
            self._tell(job, wrote=wrote)
        self._queue.put(None)  # for the next of us
        desk.close()

    def _run(self, desk: "_Desk", job: Job) -> bool:
        with self._road.shared():
            wrote = desk.run(job)
        while job.lost_a_race:
            job.races_lost += 1
            with self._road.alone():
                wrote = desk.run(job)
        return wrote

    def _tell(self, job: Job, *, wrote: bool) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, job, wrote)
        except RuntimeError:
            self._closing = True  # the loop has ended without closing us; nobody is left to be told


class _Desk:
    """One thread's connection, replaced when it breaks."""

    def __init__(self, database: Postgresql) -> None:
        self._database = database
        self._connection: Connection | None = None

    def run(self, job: Job) -> bool:
        """Runs a job in a transaction of its own; whether that changed anything."""
        wrote = self._run(job, with_savepoints=False)
        return self._run(job, with_savepoints=True) if isinstance(job.error, Rewind) else wrote

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, job: Job, *, with_savepoints: bool) -> bool:
        if self._database.silent:
            job.fail(StorageUnavailable())
            return False
        try:
            connection = self._begun()
        except self._database.driver_error as error:
            log.warning("no transaction could be begun", error=str(error))
            job.fail(self._database.translate(error))
            return False
        session = Session(connection, self._database, with_savepoints=with_savepoints)
        try:
            returned = job.run(session)
            if session.lost:
                job.fail(StorageUnavailable())
            elif returned:
                _commit(connection, job)
                return session.wrote
        except self._database.driver_error as error:  # many a race is lost only here
            job.fail(self._database.translate(error))
        finally:
            self._roll_back()
        return False

    def _begun(self) -> Connection:
        if self._connection is not None:
            try:
                self._connection.execute(self._database.begin_writing)
            except self._database.driver_error:
                self.close()  # it died while it was idle; perhaps the server is back by now
            else:
                return self._connection
        self._connection = self._database.writer()
        self._connection.execute(self._database.begin_writing)
        return self._connection

    def _roll_back(self) -> None:
        try:
            if self._connection is not None and self._database.in_transaction(self._connection):
                self._connection.execute("ROLLBACK")
        except self._database.driver_error:
            self.close()


def _commit(connection: Connection, job: Job) -> None:
    if not job.passes(BEFORE_COMMIT):
        return
    # A transaction in which something failed is rolled back by COMMIT, without an error.
    if connection.execute("COMMIT").statusmessage != "COMMIT":
        job.fail(RaceLost())
        return
    job.passes(AFTER_COMMIT)


class _Road:
    """Taken by many at once, or by one alone, who waits for the others to leave and lets nobody in before."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._travellers = 0
        self._waiting_alone = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_alone == 0 and self._travellers >= 0)
            self._travellers += 1
        try:
            yield
        finally:
            self._leave(1)

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting_alone += 1
            self._changed.wait_for(lambda: self._travellers == 0)
            self._waiting_alone -= 1
            self._travellers = -1
        try:
            yield
        finally:
            self._leave(-1)

    def _leave(self, weight: int) -> None:
        with self._changed:
            self._travellers -= weight
            self._changed.notify_all()
