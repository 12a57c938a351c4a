"""Transactions on a real SQLite file."""

import asyncio
import sqlite3
import threading
import traceback
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from services.chassis import context
from services.chassis.context import RequestContext, TraceContext
from services.chassis.storage import sqlite, writer
from services.chassis.storage.database import Store
from services.chassis.storage.faults import (
    StaleVersion,
    StorageBusy,
    StorageClosed,
    StorageUnavailable,
    TransactionLost,
)
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement
from services.chassis.storage.writer import Writer
from services.kernel import errors
from services.kernel.clock import SystemClock
from tests.chassis.storage.notebook import Notes, Transaction, notes
from tests.databases import VIOLATIONS, connected, only_sqlite

WAIT_S = 10.0


def add(note_id: str, text: str = "", parent_id: str | None = None) -> Callable[[Transaction], None]:
    def fn(tx: Transaction) -> None:
        tx.add(note_id, text, parent_id)

    return fn


@asynccontextmanager
async def writer_held(store: Notes) -> AsyncIterator[None]:
    """What is written inside queues up and is run as one batch afterwards."""
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(_: Transaction) -> None:
        loop.call_soon_threadsafe(entered.set)
        assert leave.wait(WAIT_S)

    holding = asyncio.create_task(store.write(hold))
    await entered.wait()
    try:
        yield
    finally:
        leave.set()
        await holding


async def queued(store: Notes, *fns: Callable[[Transaction], None]) -> list[asyncio.Task[None]]:
    """The transactions as tasks, all of them handed to the writer in this order."""
    tasks = [asyncio.create_task(store.write(fn)) for fn in fns]
    before = store.under_way
    while store.under_way < before + len(tasks):  # noqa: ASYNC110 (each sleep starts the tasks)
        await asyncio.sleep(0)
    return tasks


def writing(store: Notes) -> sqlite3.Connection:
    assert isinstance(store._writer, Writer)
    return store._writer._connection


async def ids(store: Notes) -> set[str]:
    return {row["id"] for row in await store.fetch(sa.select(notes.c.id))}


async def test_what_was_written_can_be_read(store: Notes) -> None:
    await store.write(add("a", "first"))

    assert await store.read(lambda tx: tx.text("a")) == "first"
    assert await ids(store) == {"a"}


@only_sqlite
async def test_what_queues_up_shares_one_commit(store: Notes) -> None:
    said: list[str] = []
    async with writer_held(store):
        tasks = await queued(store, *(add(str(n)) for n in range(100)))
        writing(store).set_trace_callback(said.append)
    await asyncio.gather(*tasks)

    assert await store.read(lambda tx: tx.count()) == 100
    # One of them ends the transaction that held the writer.
    assert said.count("COMMIT") == 2
    assert not any("SAVEPOINT" in statement for statement in said)


async def test_who_raises_in_a_batch_is_undone_alone(store: Notes) -> None:
    def fails(tx: Transaction) -> None:
        tx.add("bad")
        raise ValueError("mine")

    async with writer_held(store):
        tasks = await queued(store, add("a"), fails, add("b"))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    assert await ids(store) == {"a", "b"}


@only_sqlite
async def test_who_breaks_the_commit_of_a_batch_fails_alone(store: Notes) -> None:
    async with writer_held(store):
        tasks = await queued(store, add("a"), add("orphan", parent_id="nobody"), add("b"))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), sqlite3.IntegrityError, type(None)]
    assert await ids(store) == {"a", "b"}


@only_sqlite
async def test_a_transaction_that_takes_the_others_down_fails_alone(store: Notes) -> None:
    rude = Statement(sa.insert(notes).prefix_with("OR ROLLBACK"))
    await store.write(add("there"))

    def takes_down(tx: Transaction) -> None:
        tx.add("mine")
        try:
            tx.session.run(rude, id="there", text="", parent_id=None)
        except sqlite3.IntegrityError:
            with pytest.raises(TransactionLost):
                tx.add("after")  # would commit by itself

    async with writer_held(store):
        tasks = await queued(store, add("a"), takes_down, add("b"))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), StorageUnavailable, type(None)]
    assert await ids(store) == {"a", "b", "there"}


@only_sqlite
async def test_on_a_full_disk_what_still_fits_is_written(store: Notes) -> None:
    await store.write(add("a"))
    connection = writing(store)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    async with writer_held(store):
        tasks = await queued(store, add("b"), add("huge", "x" * 1_000_000), add("c"))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), StorageUnavailable, type(None)]
    assert await ids(store) == {"a", "b", "c"}


@only_sqlite
async def test_a_database_locked_by_others_is_unavailable_for_now(store: Notes, url: str) -> None:
    writing(store).execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async with asyncio.timeout(WAIT_S):
        results = await asyncio.gather(*(store.write(add(str(n))) for n in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {StorageUnavailable}

    other.execute("ROLLBACK")
    other.close()
    await store.write(add("a"))
    assert await ids(store) == {"a"}


async def test_a_caller_who_leaves_does_not_tear_what_has_begun(store: Notes) -> None:
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(tx: Transaction) -> None:
        tx.add("a")
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(WAIT_S)
        tx.add("b")

    task = asyncio.create_task(store.write(slow))
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    go_on.set()

    await store.write(add("c"))
    assert await ids(store) == {"a", "b", "c"}


async def test_what_nobody_waits_for_any_more_is_not_begun(store: Notes) -> None:
    async with writer_held(store):
        (left, stayed) = await queued(store, add("left"), add("stayed"))
        left.cancel()
        await asyncio.wait({left})
    await stayed

    assert await ids(store) == {"stayed"}
    assert store.under_way == 0


@only_sqlite
async def test_too_much_at_once_is_refused(store: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WAITING_MAX", 3)
    async with writer_held(store):
        tasks = await queued(store, add("a"), add("b"))
        with pytest.raises(StorageBusy):
            await store.write(add("c"))
    await asyncio.gather(*tasks)

    await store.write(add("d"))
    assert await ids(store) == {"a", "b", "d"}


async def test_closing_does_what_was_taken_and_takes_no_more(url: str) -> None:
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"s") as store:
        async with writer_held(store):
            tasks = await queued(store, *(add(str(n)) for n in range(600)))
        ending = asyncio.create_task(store._close())
        await asyncio.sleep(0)
        with pytest.raises(StorageClosed):
            await store.write(add("late"))
        await ending
        assert all(task.done() for task in tasks)

    with closing(connected(url)) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (600,)


async def test_a_transaction_sees_the_request_it_belongs_to(store: Notes) -> None:
    async def traced(trace: TraceContext) -> str:
        with context.working_on(RequestContext(trace=trace)):
            return await store.write(lambda _: context.traceparent())

    traces = [TraceContext.fresh() for _ in range(20)]
    assert await asyncio.gather(*map(traced, traces)) == [str(trace) for trace in traces]


@pytest.mark.parametrize(("losses", "runs"), [(0, 1), (1, 2), (2, 3)])
async def test_a_lost_race_for_a_version_is_run_again(store: Notes, losses: int, runs: int) -> None:
    ran = 0

    def races(tx: Transaction) -> None:
        nonlocal ran
        ran += 1
        tx.add("a")
        if ran <= losses:
            raise StaleVersion(stream_id="a", expected_version=1)

    await store.write(races)

    assert ran == runs
    assert await ids(store) == {"a"}


@pytest.mark.parametrize(
    ("error", "runs"), [(StaleVersion(stream_id="a", expected_version=1), 3), (errors.Stale(), 1)]
)
async def test_a_race_lost_for_good_and_a_stale_etag_are_told(
    store: Notes, error: errors.Stale, runs: int
) -> None:
    ran = 0

    def races(_: Transaction) -> None:
        nonlocal ran
        ran += 1
        raise error

    with pytest.raises(errors.Stale):
        await store.write(races)
    assert ran == runs


async def test_commits_that_wrote_wake_whoever_wants_to_know(store: Notes) -> None:
    wakes = 0

    def wake() -> None:
        nonlocal wakes
        wakes += 1

    store.on_commit(wake)
    await store.write(lambda tx: tx.count())
    assert wakes == 0

    async with writer_held(store):
        tasks = await queued(store, *(add(str(n)) for n in range(50)))
    await asyncio.gather(*tasks)
    assert wakes == (1 if store.one_writer else 50)


async def test_reads_cannot_write(store: Notes) -> None:
    refused = (sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
    with pytest.raises(refused, match=r"read-?only"):
        await store.read(add("a"))

    assert await store.read(lambda tx: tx.count()) == 0


async def test_all_reads_of_one_function_see_one_moment(store: Notes, url: str) -> None:
    def look_twice(tx: Transaction) -> tuple[int, int]:
        before = tx.count()
        with closing(connected(url)) as other:
            other.execute("INSERT INTO notes VALUES ('a', '', NULL)")
        return before, tx.count()

    assert await store.read(look_twice) == (0, 0)
    assert await store.read(lambda tx: tx.count()) == 1


async def test_a_search_that_is_cancelled_gives_its_connection_back(store: Notes) -> None:
    pool = store._engine.pool
    assert isinstance(pool, sa.pool.QueuePool)
    counted = sa.text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) SELECT count(*) FROM n"
    )
    for _ in range(2 * sqlite.READERS_MAX):
        task = asyncio.create_task(store.fetch(counted))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=WAIT_S)
        assert task.cancelled()
        # Given back, not thrown away: thrown away, it would go on working at the query nobody waits for.
        assert (pool.checkedin(), pool.checkedout()) == (1, 0)

    assert await ids(store) == set()


async def test_a_search_that_is_cancelled_before_its_turn_never_has_it(
    store: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched, search, go_on = [], store._search, threading.Event()

    def noted(clause: sa.Select[Any]) -> list[sa.RowMapping]:
        searched.append(clause)
        return search(clause)

    monkeypatch.setattr(store, "_search", noted)
    try:
        others = [store._searchers.submit(go_on.wait, WAIT_S) for _ in range(store._database.searchers)]
        task = asyncio.create_task(store.fetch(sa.select(notes.c.id)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=WAIT_S / 2)
        assert task.cancelled()
    finally:
        go_on.set()
    assert all(other.result() for other in others)
    assert await ids(store) == set()
    assert len(searched) == 1, "by those who look now"


async def test_searches_beyond_the_connections_wait_for_their_turn(store: Notes) -> None:
    await store.write(add("a"))

    assert await asyncio.gather(*(ids(store) for _ in range(50))) == [{"a"}] * 50


@only_sqlite
async def test_the_writer_is_as_durable_as_it_claims(store: Notes) -> None:
    def pragma(name: str) -> object:
        return writing(store).execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1


async def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    store = Store(
        f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}",
        open_transaction=Transaction,
        clock=SystemClock(),
        secret=b"s",
    )
    with pytest.raises(sqlite3.OperationalError):
        await store.__aenter__()


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="a file is needed"):
        Store("sqlite://", open_transaction=Transaction, clock=SystemClock(), secret=b"s")


async def test_what_is_left_for_after_the_commit_is_done_then_and_never_without_it(store: Notes) -> None:
    done: list[str] = []

    def leaving(word: str, error: errors.DomainError | None = None) -> Callable[[Session], None]:
        def fn(session: Session) -> None:
            session.after_commit(lambda: done.append(word))
            if error:
                raise error

        return fn

    async with writer_held(store):
        kept = asyncio.create_task(store.transact(leaving("kept")))
        lost = asyncio.create_task(store.transact(leaving("lost", errors.Stale())))
        also = asyncio.create_task(store.transact(leaving("also")))
        await queued(store)
    await asyncio.gather(kept, also)
    with pytest.raises(errors.Stale):
        await lost
    assert sorted(done) == ["also", "kept"]


async def test_what_was_looked_for_or_written_is_not_in_an_error(store: Notes) -> None:
    """Errors that nobody expected are logged, and what they are about may be somebody's secret."""
    secret = uuid.uuid4().hex
    nonsense = sa.select(notes.c.id).where(notes.c.text == secret, sa.text("no_such"))
    with pytest.raises(sa.exc.SQLAlchemyError) as listing:
        await store.fetch(nonsense)
    await store.write(lambda tx: tx.add(secret, secret))
    with pytest.raises(VIOLATIONS) as writing:
        await store.write(lambda tx: tx.add(secret, secret))
    for failed in (listing, writing):
        assert secret not in "".join(traceback.format_exception(failed.value))
