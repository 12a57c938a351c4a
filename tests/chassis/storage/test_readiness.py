"""A database that is not what it should be shows, by its name and in time; on both."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Never

import psycopg
import pytest
import sqlalchemy as sa

from services.chassis.health import LOST_WITHIN_S, Health, State
from services.chassis.storage import readiness
from services.chassis.storage.database import Store
from services.chassis.storage.faults import (
    StorageBusy,
    StorageDamaged,
    StorageNotMigrated,
    StorageOutdated,
    StorageReadOnly,
    StorageSilent,
    StorageUnavailable,
)
from services.chassis.storage.readiness import AskedBeside
from services.chassis.storage.schema import NEWER, Schema
from services.chassis.storage.writer import Writer
from services.chassis.testing import until
from services.kernel.clock import SystemClock
from tests.chassis.events.waiting import running
from tests.chassis.storage.notebook import Notes, Transaction, notes
from tests.databases import Databases, connected, damage, only_postgresql, only_sqlite
from tests.faults.proxy import Proxy

BACK_WITHIN_S = 5.0
SPARE_S = 4.0  # what a busy machine may add to a deadline; to the second it is judged in test_health
AT_ONCE_S = 0.5  # of a second, on a machine that does other things as well
DEADLINE_S = 2.0  # of a usual call
WAIT_S = 15.0
PAGE = 4096  # bytes


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Notes]:
    async with Store(url, open_transaction=Transaction, clock=SystemClock(), secret=b"secret") as store:
        yield store


@asynccontextmanager
async def watched(store: Notes) -> AsyncIterator[Health]:
    """The health of a process that needs the store, kept current as in a service."""
    health = Health()
    health.check("database", store.ready)
    assert await health.refresh() is State.SERVING
    async with running(health.run()):
        yield health


async def shows(health: Health, state: State, *, within_s: float) -> str:
    """Waits for a state, and what is told about the database then."""
    begun = time.monotonic()
    async with asyncio.timeout(WAIT_S):
        while health.state is not state:  # noqa: ASYNC110 (a health has no event to wait on)
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun <= within_s + SPARE_S
    return health.found[0].problem


async def test_a_database_that_does_its_work_is_ready(store: Notes) -> None:
    for _ in range(3):
        await store.ready()
    await store.write(lambda tx: tx.add("a"))
    await store.ready()


async def test_an_answer_that_comes_too_late_is_nobody_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    monkeypatch.setattr(readiness, "ANSWER_MAX_S", 0.01)
    asking, go_on = AskedBeside(Silent(), None), threading.Event()  # type: ignore[arg-type]
    monkeypatch.setattr(asking, "_execute", lambda _: go_on.wait(WAIT_S) and Silent().asker())
    for _ in range(2):
        with pytest.raises(StorageSilent):
            await asking.ask(readiness.QUESTION)
    go_on.set()
    await until(lambda: asking._asked is None or asking._asked.done())
    monkeypatch.setattr(readiness, "ANSWER_MAX_S", WAIT_S)
    with pytest.raises(StorageSilent):
        await asking.ask(readiness.QUESTION)
    await asking.close()
    gc.collect()
    assert complaints == []


class Silent:
    """As much of a server that does not answer as is asked for."""

    driver_error = psycopg.Error
    silent = False

    def asker(self) -> Never:
        raise psycopg.OperationalError("nothing was heard")

    def trouble(self, _error: Exception) -> Exception:
        return StorageSilent()


async def test_one_without_tables_is_not(databases: Databases) -> None:
    async with opened(databases.new("empty")) as store:
        with pytest.raises(StorageNotMigrated):
            await store.ready()


VERSIONED = ("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",)
SECOND = Schema("0002", frozenset(("0001", "0002")))


@asynccontextmanager
async def versioned(url: str, version: str) -> AsyncIterator[Notes]:
    """The notes of a program that is written for the second version."""
    damage(url, *VERSIONED, f"INSERT INTO alembic_version VALUES ('{version}')")  # noqa: S608 (ours)
    async with Store(
        url, open_transaction=Transaction, clock=SystemClock(), secret=b"secret", schema=SECOND
    ) as store:
        yield store


async def test_an_older_schema_is_not_ready_and_nothing_is_tried_with_it_until_it_is_migrated(
    url: str,
) -> None:
    async with versioned(url, "0001") as store:
        await store.write(lambda tx: tx.add("a"))  # nobody has looked yet
        with pytest.raises(StorageOutdated):
            await store.ready()
        for question in (
            lambda: store.write(lambda tx: tx.add("b")),
            lambda: store.read(lambda tx: tx.count()),
            lambda: store.transact(lambda _: None),
            lambda: store.fetch(sa.select(notes)),
        ):
            with pytest.raises(StorageOutdated):
                await question()
        damage(url, "UPDATE alembic_version SET version_num = '0002'")
        assert await store.ready() == ""
        assert await store.read(lambda tx: tx.count()) == 1


async def test_a_backup_that_is_restored_shows_while_the_program_runs(url: str) -> None:
    async with versioned(url, "0002") as store, watched(store) as health:
        damage(url, "UPDATE alembic_version SET version_num = '0001'")
        assert await shows(health, State.NOT_READY, within_s=LOST_WITHIN_S) == "StorageOutdated"
        damage(url, "UPDATE alembic_version SET version_num = '0002'")
        await shows(health, State.SERVING, within_s=BACK_WITHIN_S)


async def test_a_newer_schema_is_worth_a_word(url: str) -> None:
    async with versioned(url, "0003") as store:
        assert await store.ready() == NEWER
        await store.write(lambda tx: tx.add("a"))


async def test_a_schema_of_no_version_is_none(url: str) -> None:
    async with versioned(url, "0002") as store:
        damage(url, "DELETE FROM alembic_version")
        with pytest.raises(StorageOutdated):
            await store.ready()
        damage(url, "DROP TABLE alembic_version")
        with pytest.raises(StorageNotMigrated):
            await store.ready()


async def test_one_that_lost_its_table_is_not_ready_any_more(store: Notes, url: str) -> None:
    await store.ready()
    damage(url, "DROP TABLE audit_trail")
    with pytest.raises(StorageNotMigrated):
        await store.ready()


@only_sqlite
async def test_a_file_that_cannot_be_written_is_read_only(store: Notes) -> None:
    assert isinstance(store._writer, Writer)
    store._writer._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageReadOnly):
        await store.ready()
    store._writer._connection.execute("PRAGMA query_only = OFF")
    await store.ready()


@only_postgresql
async def test_a_server_that_takes_no_writes_is_read_only(store: Notes, url: str) -> None:
    name = sa.make_url(url).database
    damage(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with pytest.raises(StorageReadOnly):
        await store.ready()


@only_sqlite
async def test_a_damaged_file_is_told_as_such(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    with path.open("r+b") as file:  # noqa: ASYNC230 (nobody waits meanwhile)
        length = file.seek(0, os.SEEK_END)
        file.seek(PAGE)  # all but the first, which is read when it is opened
        file.write(b"\xff" * (length - PAGE))
    async with opened(url) as store:
        with pytest.raises(StorageDamaged):
            await store.ready()


@only_postgresql
async def test_a_locked_table_is_busy_and_not_silent(store: Notes, url: str) -> None:
    await store.ready()
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE audit_trail")
        with pytest.raises(StorageBusy):
            await store.ready()
        await store.write(lambda tx: tx.add("elsewhere"))
    await store.ready()


async def test_a_locked_database_shows_in_time_and_so_does_that_it_is_free(store: Notes, url: str) -> None:
    async with watched(store) as health:
        with closing(connected(url)) as other:
            other.execute("BEGIN")
            other.execute("DELETE FROM audit_trail" if store.one_writer else "LOCK TABLE audit_trail")
            problem = await shows(health, State.NOT_READY, within_s=LOST_WITHIN_S)
            assert problem in ("StorageBusy", "no answer within 1 s")
            other.execute("ROLLBACK")
        await shows(health, State.SERVING, within_s=BACK_WITHIN_S)


@pytest.fixture
async def way(url: str) -> AsyncIterator[Proxy]:
    """To the server."""
    made = sa.make_url(url)
    async with Proxy(f"{made.host}:{made.port}") as proxy:
        yield proxy


@pytest.fixture
async def far(url: str, way: Proxy) -> AsyncIterator[Notes]:
    """The notes behind that way."""
    async with opened(sa.make_url(url).set(port=way.port).render_as_string(hide_password=False)) as store:
        yield store


async def asked(store: Notes) -> list[tuple[type[BaseException] | None, float]]:
    """Every way to ask a store, at once: what each ended with, and after how long."""

    async def one(question: Callable[[], object]) -> tuple[type[BaseException] | None, float]:
        begun = time.monotonic()
        try:
            await question()  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 (looked at by the caller)
            return type(error), time.monotonic() - begun
        return None, time.monotonic() - begun

    return await asyncio.gather(
        *(one(lambda: store.write(lambda tx: tx.count())) for _ in range(10)),
        *(one(lambda: store.read(lambda tx: tx.count())) for _ in range(5)),
        *(one(lambda: store.fetch(sa.select(notes))) for _ in range(5)),
    )


@only_postgresql
async def test_nobody_waits_for_a_silent_server_longer_than_it_takes_to_find_out(
    far: Notes, way: Proxy
) -> None:
    await asked(far)
    async with watched(far) as health:
        way.hang()
        waiting = asyncio.create_task(asked(far))
        assert await shows(health, State.NOT_READY, within_s=LOST_WITHIN_S) == "StorageSilent"
        for error, took_s in await waiting:
            assert error is StorageUnavailable
            assert took_s < DEADLINE_S + AT_ONCE_S
        for error, took_s in await asked(far):
            assert error is StorageUnavailable
            assert took_s < AT_ONCE_S
        way.forward()
        await shows(health, State.SERVING, within_s=BACK_WITHIN_S)
        assert {error for error, _ in await asked(far)} == {None}


@only_postgresql
@pytest.mark.parametrize("gone", ["refuse", "reset", "drop"])
async def test_a_server_that_is_gone_is_missed_and_found_again(far: Notes, way: Proxy, gone: str) -> None:
    await asked(far)
    async with watched(far) as health:
        getattr(way, gone)()
        await shows(health, State.NOT_READY, within_s=LOST_WITHIN_S)
        assert {error for error, _ in await asked(far)} == {StorageUnavailable}
        way.forward()
        await shows(health, State.SERVING, within_s=BACK_WITHIN_S)
        assert {error for error, _ in await asked(far)} == {None}


@only_postgresql
async def test_without_anyone_who_asks_about_readiness_patience_ends_as_well(
    far: Notes, way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.storage.postgresql.Connection.heard_within_s", 0.2)
    await asked(far)
    way.hang()
    with pytest.raises(StorageUnavailable):
        await far.write(lambda tx: tx.count())
    way.forward()
    await far.write(lambda tx: tx.add("a"))


@only_postgresql
async def test_a_silent_server_does_not_hold_up_the_end(url: str) -> None:
    made = sa.make_url(url)
    async with Proxy(f"{made.host}:{made.port}") as way:
        address = made.set(port=way.port).render_as_string(hide_password=False)
        async with opened(address) as store:
            await asked(store)
            way.hang()
            with pytest.raises(StorageSilent):
                await store.ready()
            left = asyncio.create_task(asked(store))
            await asyncio.sleep(0)
            begun = time.monotonic()
        assert time.monotonic() - begun < BACK_WITHIN_S
        assert {error for error, _ in await left} == {StorageUnavailable}
