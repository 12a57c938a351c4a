"""What is particular to PostgreSQL: several writers at once, in one process and in several."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing

import psycopg
import pytest
import sqlalchemy as sa

from services.chassis.storage import postgresql
from services.chassis.storage.database import Store
from services.chassis.storage.faults import RaceLost, StorageBusy, StorageUnavailable
from services.chassis.storage.statement import Statement
from services.chassis.testing import until
from services.kernel.clock import SystemClock
from tests.chassis.storage.notebook import Notes, Transaction, notes
from tests.databases import SERVER, VIOLATIONS, connected, only_postgresql

pytestmark = [only_postgresql, pytest.mark.usefixtures("databases")]

SAY = Statement(sa.update(notes).where(notes.c.id == sa.bindparam("of_id")).values(text=sa.bindparam("said")))
TEXTS = Statement(sa.select(notes.c.id, notes.c.text).order_by(notes.c.id))


def counted(tx: Transaction) -> None:
    """Reads, decides, writes."""
    tx.session.run(SAY, of_id="counter", said=str(int(tx.text("counter") or 0) + 1))


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[Notes]:
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"secret") as opened:
        yield opened


async def persistently(store: Notes, fn: Callable[[Transaction], None]) -> None:
    """As a caller would who is told that others were faster."""
    while True:
        try:
            await store.write(fn)
        except RaceLost:
            continue
        return


async def test_nobody_s_count_is_lost_and_nobody_is_refused_in_one_process(store: Notes) -> None:
    await store.write(lambda tx: tx.add("counter", "0"))
    await asyncio.gather(*(store.write(counted) for _ in range(100)))
    assert await store.read(lambda tx: tx.text("counter")) == "100"


async def test_nobody_s_count_is_lost_between_processes(store: Notes, url: str) -> None:
    await store.write(lambda tx: tx.add("counter", "0"))
    async with replica(url) as other:
        await asyncio.gather(*(persistently(each, counted) for _ in range(50) for each in (store, other)))
    assert await store.read(lambda tx: tx.text("counter")) == "100"


async def test_two_who_each_rely_on_what_the_other_changes_are_not_both_right(store: Notes, url: str) -> None:
    """Two on duty, each may leave if the other stays: write skew, which only serializable refuses."""
    for name in ("ada", "bob"):
        await store.write(lambda tx, name=name: tx.add(name, "on duty"))  # type: ignore[misc]

    def leave(name: str) -> Callable[[Transaction], None]:
        def fn(tx: Transaction) -> None:
            on_duty = [row["id"] for row in tx.session.all(TEXTS) if row["text"] == "on duty"]
            if len(on_duty) > 1:
                tx.session.run(SAY, of_id=name, said="gone")

        return fn

    async with replica(url) as other:
        await asyncio.gather(persistently(store, leave("ada")), persistently(other, leave("bob")))
    assert sorted(row["text"] for row in await store.fetch(sa.select(notes.c.text))) == ["gone", "on duty"]


async def test_a_constraint_that_is_checked_at_the_end_undoes_one_alone(store: Notes) -> None:
    results = await asyncio.gather(
        store.write(lambda tx: tx.add("a")),
        store.write(lambda tx: tx.add("orphan", parent_id="nobody")),
        store.write(lambda tx: tx.add("b")),
        return_exceptions=True,
    )
    assert isinstance(results[1], VIOLATIONS)
    assert {row["id"] for row in await store.fetch(sa.select(notes.c.id))} == {"a", "b"}


async def test_who_swallows_an_error_of_the_database_has_not_committed(store: Notes) -> None:
    await store.write(lambda tx: tx.add("there"))

    def swallows(tx: Transaction) -> None:
        tx.add("mine")
        try:
            tx.add("there")
        except psycopg.IntegrityError:
            return

    with pytest.raises(RaceLost):
        await store.write(swallows)
    assert await store.read(lambda tx: tx.count()) == 1


async def test_connections_that_were_cut_are_made_anew(store: Notes, url: str) -> None:
    await store.write(lambda tx: tx.add("a"))
    assert await store.read(lambda tx: tx.count()) == 1
    assert len(await store.fetch(sa.select(notes))) == 1
    with closing(connected(url)) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await store.write(lambda tx: tx.add("b"))
    assert await store.read(lambda tx: tx.count()) == 2
    assert len(await store.fetch(sa.select(notes))) == 2


async def test_a_server_that_is_away_is_unavailable_and_found_when_it_is_back() -> None:
    async with replica("postgresql://bodega@127.0.0.1:1/nowhere") as store:
        for attempt in (store.ready(), store.read(lambda tx: tx.count()), store.fetch(sa.select(notes))):
            with pytest.raises(StorageUnavailable):
                await attempt


async def test_too_much_at_once_is_refused(store: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.chassis.storage.writers.WAITING_MAX", 3)
    results = await asyncio.gather(
        *(store.write(lambda tx, n=n: tx.add(str(n))) for n in range(5)),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None)] * 3 + [StorageBusy] * 2


async def test_one_leads_and_another_takes_over(store: Notes, url: str) -> None:
    async with replica(url) as other:
        async with store.leading("relay") as lead:
            await lead.confirm()
            following = asyncio.create_task(_lead(other))
            async with other.leading("something else"):
                pass
            assert not following.done()
        async with asyncio.timeout(10):
            await following


async def _lead(store: Notes) -> None:
    async with store.leading("relay") as lead:
        await lead.confirm()


async def test_a_leader_who_was_cut_off_learns_it(store: Notes, url: str) -> None:
    async with store.leading("relay") as lead:
        _cut_off_leaders(url)
        with pytest.raises(StorageUnavailable):
            await lead.confirm()


def _cut_off_leaders(url: str) -> None:
    for pid in _leaders(url):
        with closing(connected(url)) as server:
            server.execute("SELECT pg_terminate_backend(%s)", (pid,))


def _leaders(url: str) -> set[int]:
    """The server's processes that hold advisory locks of this database."""
    with closing(connected(url)) as server:
        rows = server.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    return {pid for (pid,) in rows}


class Working:
    """Work that one process at a time does, and whose turn it is."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.at_it: set[str] = set()

    @asynccontextmanager
    async def by(self, name: str, store: Notes) -> AsyncIterator[None]:
        task = asyncio.create_task(store.alone("work", lambda: self._work(name)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self, name: str) -> None:
        self.turns.append(name)
        self.at_it.add(name)
        try:
            await asyncio.Event().wait()
        finally:
            self.at_it.remove(name)


async def test_work_of_one_goes_on_elsewhere_when_its_process_ends(store: Notes, url: str) -> None:
    working = Working()
    async with replica(url) as other, AsyncExitStack() as first:
        await first.enter_async_context(working.by("one", store))
        await until(lambda: working.at_it == {"one"})
        async with working.by("other", other):
            await first.aclose()
            await until(lambda: working.at_it == {"other"})
    assert working.turns == ["one", "other"]


async def test_work_ends_where_the_lead_was_lost_and_is_begun_again(store: Notes, url: str) -> None:
    working = Working()
    async with working.by("one", store):
        await until(lambda: working.at_it == {"one"})
        _cut_off_leaders(url)
        await until(lambda: len(working.turns) == 2)
        assert working.at_it == {"one"}


async def test_a_leader_that_says_nothing_is_followed_and_learns_it_when_it_wakes(
    store: Notes, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were frozen: its kernel keeps the connection open, and only the silence tells."""
    monkeypatch.setattr(postgresql, "SILENT_MAX_S", 2)
    assert store._leads is not None
    awake, says = asyncio.Event(), store._leads._alive

    async def asleep() -> None:
        await awake.wait()
        await says()

    working = Working()
    async with replica(url) as other, working.by("one", store):
        await until(lambda: working.at_it == {"one"})
        monkeypatch.setattr(store._leads, "_alive", asleep)
        async with working.by("other", other):
            await until(lambda: "other" in working.at_it)
            assert working.at_it == {"one", "other"}
            awake.set()
            await until(lambda: working.at_it == {"other"})


async def test_several_leads_are_one_connection(store: Notes, url: str) -> None:
    async with store.leading("relay") as relay, store.leading("sweeper") as sweeper:
        assert len(_leaders(url)) == 1
        await relay.confirm()
        await sweeper.confirm()
    await until(lambda: not _leaders(url))


async def test_who_gives_up_the_last_lead_is_not_held_up_by_who_wants_one_just_then(
    store: Notes, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store._leads is not None
    busy, go_on, says = asyncio.Event(), asyncio.Event(), store._leads._alive

    async def long() -> None:
        busy.set()
        await go_on.wait()
        await says()

    async with AsyncExitStack() as relay, replica(url) as other:
        await relay.enter_async_context(store.leading("relay"))
        monkeypatch.setattr(store._leads, "_alive", long)
        await busy.wait()
        leaving = asyncio.create_task(relay.aclose())
        await asyncio.sleep(0)
        async with asyncio.timeout(10), AsyncExitStack() as sweeper:
            wanting = asyncio.create_task(sweeper.enter_async_context(store.leading("sweeper")))
            await asyncio.sleep(0)
            go_on.set()
            await wanting
            await leaving
            await _lead(other)


async def test_sums_are_whole_numbers(store: Notes) -> None:
    total = Statement(sa.select(sa.func.sum(sa.cast(sa.literal_column("3"), sa.BigInteger)).label("sum")))
    row = await store.look(lambda session: session.one(total))
    assert row is not None
    assert (row["sum"], type(row["sum"])) == (3, int)


async def test_a_url_without_a_database_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="must name its database"):
        Store("postgresql://host", open_transaction=Transaction, clock=SystemClock(), secret=b"s")


def test_the_suite_runs_on_the_server_it_was_given() -> None:
    assert SERVER.startswith("postgresql://")
