"""The one who writes: a thread that runs whatever has queued up, one commit for all.

Durability is that of a commit each, since every caller is answered after the commit that holds its work;
the fsync, which costs far more than the statements, is shared. Batches form by themselves: while one is
being written to disk, the next one queues up. Nobody ever waits for a batch to fill.

Savepoints, which undo one function without the others, cost a copy of every page that it touches. So a batch
is first run without them. Hardly any function raises after it has written something; when one does, all is
rolled back and the batch run again with a savepoint each.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from services.chassis import failpoints
from services.chassis.fault import PlayedFault
from services.chassis.storage.faults import (
    RaceLost,
    Rewind,
    StaleVersion,
    StorageBusy,
    StorageClosed,
    StorageUnavailable,
    TransactionLost,
)
from services.chassis.storage.session import Session
from services.chassis.storage.sqlite import Sqlite

T = TypeVar("T")

WAITING_MAX: Final = 2048
"""Transactions under way at once. At some 10,000 a second the last one waits a fifth of a second; more
would wait for longer than their callers do."""

BATCH_MAX: Final = 256
"""Transactions in one commit, so that the first of them does not wait for hundreds of others."""

PATIENCE_S: Final = 0.05
"""How long a patient transaction waits for others to share their commit."""

RUNS_MAX: Final = 3
"""How often a transaction is run that loses the race for a version."""

BEFORE_COMMIT: Final = failpoints.site("storage.commit.before")
AFTER_COMMIT: Final = failpoints.site("storage.commit.after")


@dataclass(eq=False, slots=True)
class Job:
    """A transaction function on its way: who asked for it, and what has become of it."""

    fn: Callable[[Session], Any]
    context: contextvars.Context
    answer: asyncio.Future[Any]
    races_lost: int = 0
    result: Any = None
    error: BaseException | None = None
    after_commit: list[Callable[[], None]] = field(default_factory=list)

    def run(self, session: Session) -> bool:
        """Whether the function returned, instead of raising."""
        self.result = self.error = None
        self.after_commit.clear()
        session.collect_after_commit(self.after_commit)
        try:
            self.result = self.context.run(self.fn, session)
        except BaseException as error:  # noqa: BLE001 (it belongs to the caller, whatever it is)
            self.error = error
        return self.error is None

    def fail(self, error: BaseException) -> None:
        self.result, self.error = None, error

    def passes(self, site: str) -> bool:
        """Visits a failpoint on behalf of who asked; whether that did no harm."""
        try:
            self.context.run(failpoints.reach, site)
        except PlayedFault as fault:
            self.fail(fault)
            return False
        return True

    @property
    def lost_a_race(self) -> bool:
        return (
            isinstance(self.error, StaleVersion | RaceLost)
            and self.races_lost + 1 < RUNS_MAX
            and not self.answer.cancelled()
        )

    def settle(self) -> None:
        """Does what was left for after the commit, then tells the caller, unless they have gone."""
        if self.error is None:
            for act in self.after_commit:
                self.context.run(act)
        if self.answer.done():
            return
        if isinstance(self.error, StopIteration):  # which a future refuses to carry
            self.answer.set_exception(RuntimeError("a transaction raised StopIteration"))
        elif self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


class Writer:
    """Owns the writing connection and its thread. Used from one event loop."""

    def __init__(self, database: Sqlite, *, on_commit: Callable[[], None]) -> None:
        self._database = database
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._under_way = 0  # counted in the loop's thread alone, hence no lock
        self._closing = False
        self._patient: list[Job] = []
        self._batch: list[Job] = []
        self._again: list[Job] = []

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connection = self._database.writer()
        # A daemon, so that a program that forgets to close its store can still end.
        self._thread = threading.Thread(
            target=self._work, name=f"writer:{self._database.path.name}", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Takes nothing more, does what has been taken, closes the connection."""
        if not self._closing:
            self._closing = True
            self._put_patient()
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    @property
    def under_way(self) -> int:
        """Transactions taken and not yet answered."""
        return self._under_way

    async def write(self, fn: Callable[[Session], T], *, patient: bool = False) -> T:
        """Runs `fn` in a transaction and answers once it is on disk; a patient one when others are, too.

        Cancelling the caller cancels a transaction that has not begun, and never tears one that has.
        Raises StorageBusy, StorageClosed, or whatever `fn` raises.
        """
        if self._closing:
            raise StorageClosed
        if self._under_way >= WAITING_MAX:
            raise StorageBusy
        answer: asyncio.Future[T] = self._loop.create_future()
        self._under_way += 1
        job = Job(fn, contextvars.copy_context(), answer)
        if patient:
            if not self._patient:
                self._loop.call_later(PATIENCE_S, self._put_patient)
            self._patient.append(job)
        else:
            self._put_patient()
            self._queue.put(job)
        return await answer

    def _put_patient(self) -> None:
        for job in self._patient:
            self._queue.put(job)
        self._patient.clear()

    # What follows runs in the writer's thread.

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._batch = batch
                before = self._connection.total_changes
                self._commit(batch)
                wrote = self._connection.total_changes != before
                self._batch = []
                self._again = [job for job in batch if job.lost_a_race]
                self._tell(self._settle, [job for job in batch if not job.lost_a_race], wrote)
                for job in self._again:
                    job.races_lost += 1
        finally:
            # Reached with work left only if the connection itself is broken: then nobody shall wait for ever.
            self._closing = True
            self._tell(self._settle, self._abandoned(), False)
            self._connection.close()
            self._tell(self._end)

    def _abandoned(self) -> list[Job]:
        left = [*self._batch, *self._again]
        while not self._queue.empty():
            if (job := self._queue.get()) is not None:
                left.append(job)
        for job in left:
            job.fail(StorageUnavailable())
        return left

    def _next_batch(self) -> list[Job]:
        """Whatever waits, but at least one; nothing once all is done and no more will come."""
        batch, self._again = self._again, []
        if not batch:
            if (job := self._queue.get()) is None:
                return []
            batch = [job]
        while len(batch) < BATCH_MAX and not self._queue.empty():
            if (job := self._queue.get()) is None:
                self._queue.put(None)  # found again when the rest is done
                break
            batch.append(job)
        return batch

    def _commit(self, batch: list[Job]) -> None:
        awaited = [job for job in batch if not job.answer.cancelled()]
        if len(awaited) > 1 and self._run_together(awaited):
            return
        for job in awaited:
            if not isinstance(job.error, PlayedFault):
                self._run_alone(job)

    def _run_together(self, batch: list[Job]) -> bool:
        """One transaction for all. False if it came to nothing, for whatever reason."""
        try:
            self._connection.execute(self._database.begin_writing)
        except self._database.driver_error as error:
            # Alone each of them would wait for the same lock just as long.
            for job in batch:
                job.fail(self._database.translate(error))
            return True
        try:
            if not self._run_boldly(batch):
                self._roll_back()
                self._connection.execute(self._database.begin_writing)
                self._run_in_savepoints(batch)
            self._make_durable(batch)
        except (self._database.driver_error, TransactionLost):
            self._roll_back()
            return False
        return True

    def _run_boldly(self, batch: list[Job]) -> bool:
        """Whether all went well without savepoints; if not, the transaction must be rolled back."""
        session = Session(self._connection, self._database, with_savepoints=False)
        for job in batch:
            session.wrote = False
            returned = job.run(session)
            if session.lost:
                raise TransactionLost
            if not returned and session.wrote:
                return False
        return True

    def _run_in_savepoints(self, batch: list[Job]) -> None:
        session = Session(self._connection, self._database)
        for job in batch:
            self._connection.execute("SAVEPOINT job")
            returned = job.run(session)
            if session.lost:
                raise TransactionLost
            if not returned:
                self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")

    def _run_alone(self, job: Job) -> None:
        self._run_in_its_own(job, with_savepoints=False)
        if isinstance(job.error, Rewind):
            self._run_in_its_own(job, with_savepoints=True)

    def _run_in_its_own(self, job: Job, *, with_savepoints: bool) -> None:
        session = Session(self._connection, self._database, with_savepoints=with_savepoints)
        try:
            self._connection.execute(self._database.begin_writing)
            returned = job.run(session)
            if session.lost:
                job.fail(StorageUnavailable())
            elif returned:
                self._make_durable([job])
        except self._database.driver_error as error:
            job.fail(self._database.translate(error))
        except TransactionLost:
            pass  # it was lost on purpose, and the job knows
        finally:
            self._roll_back()

    def _make_durable(self, batch: list[Job]) -> None:
        if not _reach(BEFORE_COMMIT, batch):
            raise TransactionLost
        self._connection.execute("COMMIT")
        _reach(AFTER_COMMIT, batch)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            self._closing = True  # the loop has ended without closing us; nobody is left to be told

    # What follows runs in the loop again.

    def _settle(self, jobs: list[Job], wrote: bool) -> None:  # noqa: FBT001 (call_soon takes no keywords)
        self._under_way -= len(jobs)
        for job in jobs:
            job.settle()
        if wrote:
            self._on_commit()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _reach(site: str, batch: list[Job]) -> bool:
    """A visit by each of the calls whose work is being committed; whether none of them failed there."""
    if not failpoints.are_on():
        return True
    failed = [job for job in batch if not job.passes(site)]
    return not failed
