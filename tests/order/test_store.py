"""Orders on a real database."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from services.chassis.audit import reading
from services.chassis.storage import migrations
from services.chassis.storage.database import Store
from services.chassis.storage.faults import StaleVersion
from services.order import audit, domain, projection, refusals, tables
from services.order.facts import Step, StepDone
from services.order.store import Drive, Due, Transaction
from tests.databases import damage, only_postgresql
from tests.order.conftest import placed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
ID = "0190dddd-0000-7000-8000-000000000001"


async def accepted(store: Store[Transaction]) -> domain.Order:
    return await store.write(lambda tx: tx.orders.save(domain.place(ID, placed(), at=NOW)))


def test_the_migrations_make_the_tables(database_url: str) -> None:
    assert migrations.differences(database_url, tables.metadata) == []


async def test_events_from_before_it_was_written_down_on_whose_behalf_are_still_read(
    store: Store[Transaction], database_url: str
) -> None:
    order = await accepted(store)
    damage(
        database_url,
        "CREATE TABLE was AS SELECT * FROM order_events",
        "DELETE FROM order_events",
        "INSERT INTO order_events (stream_id, version, type, body, at, trace_id, actor)"
        " SELECT stream_id, version, type, body, at, trace_id, 'user:ada' FROM was",
    )
    (stored,) = await store.read(lambda tx: tx.orders.timeline(ID))
    assert (stored.actor, stored.on_behalf_of, stored.request_id) == ("user:ada", "", "")
    assert await store.read(lambda tx: tx.orders.get(ID)) == order


async def test_what_is_saved_is_loaded_again(store: Store[Transaction]) -> None:
    order = await accepted(store)
    assert await store.read(lambda tx: tx.orders.get(ID)) == order


async def test_the_row_shows_what_the_events_say(store: Store[Transaction]) -> None:
    order = await accepted(store)
    order = order.apply(StepDone(Step.RESERVE_STOCK, 1, "r1"), at=LATER)
    await store.write(lambda tx: tx.orders.save(order))
    assert await store.read(lambda tx: tx.orders.shown(ID)) == projection.order_to_proto(order)


async def test_only_one_of_two_who_move_the_same_version_wins(store: Store[Transaction]) -> None:
    order = await accepted(store)
    cancelled = order.cancel(reason="buyer", at=LATER)
    stepped = order.apply(StepDone(Step.RESERVE_STOCK, 1), at=LATER)
    await store.write(lambda tx: tx.orders.save(cancelled))
    with pytest.raises(StaleVersion):
        await store.write(lambda tx: tx.orders.save(stepped))
    assert (await store.read(lambda tx: tx.orders.get(ID))).state is domain.State.CANCELLING


async def test_an_unknown_order_is_not_found(store: Store[Transaction]) -> None:
    with pytest.raises(refusals.OrderNotFound):
        await store.read(lambda tx: tx.orders.get(ID))
    with pytest.raises(refusals.OrderNotFound):
        await store.read(lambda tx: tx.orders.shown(ID))


def claim(
    tx: Transaction,
    *,
    now: datetime,
    leased_until: datetime = LATER,
    asked_for_max: int = 10,
    resumed_max: int = 10,
) -> list[Drive]:
    return tx.drives.claim(
        driver="b", leased_until=leased_until, now=now, asked_for_max=asked_for_max, resumed_max=resumed_max
    )


async def test_a_lapsed_lease_is_anyones_and_a_held_one_nobodys(store: Store[Transaction]) -> None:
    await store.write(lambda tx: tx.drives.begin(ID, driver="a", leased_until=LATER, now=NOW))

    async def claimed(at: datetime) -> list[str]:
        drives = await store.write(lambda tx: claim(tx, now=at, leased_until=at + timedelta(seconds=30)))
        return [drive.order_id for drive in drives]

    assert await claimed(NOW) == []
    assert await store.read(lambda tx: tx.drives.next_due()) == Due(asked_for=None, resumed=LATER)
    assert await claimed(LATER) == [ID]
    assert await claimed(LATER) == []


@only_postgresql
async def test_who_claims_passes_over_what_another_is_claiming(
    store: Store[Transaction], database_url: str
) -> None:
    def begin(tx: Transaction) -> None:
        for order_id in "1234":
            tx.drives.begin(order_id, driver="", leased_until=NOW, now=NOW)

    await store.write(begin)
    with closing(psycopg.connect(database_url)) as another:
        another.execute("SELECT * FROM order_drives WHERE order_id IN ('1', '2') FOR UPDATE")
        drives = await store.write(lambda tx: claim(tx, now=NOW))
    assert sorted(drive.order_id for drive in drives) == ["3", "4"]


async def test_a_parked_order_is_due_when_its_backoff_ends(store: Store[Transaction]) -> None:
    await store.write(lambda tx: tx.drives.begin(ID, driver="a", leased_until=LATER, now=NOW))
    await store.write(lambda tx: tx.drives.park(Drive(ID, attempts=3, step_since=NOW), due=LATER))
    assert await store.read(lambda tx: tx.drives.next_due()) == Due(asked_for=None, resumed=LATER)
    (drive,) = await store.write(lambda tx: claim(tx, now=LATER))
    assert (drive.attempts, drive.step_since) == (3, NOW)


@pytest.mark.parametrize("how", ["parked", "lapsed", "disowned"])
async def test_what_waited_is_told_from_what_somebody_has_just_asked_for(
    store: Store[Transaction], how: str
) -> None:
    def begin(tx: Transaction) -> None:
        for order_id in "12":
            tx.drives.begin(order_id, driver="a", leased_until=LATER, now=NOW)
            if how == "parked":
                tx.drives.park(Drive(order_id, attempts=1, step_since=NOW), due=NOW)
        if how == "disowned":
            tx.drives.disown("a", now=NOW)
        tx.drives.wake("2", now=LATER)

    await store.write(begin)
    free = LATER if how == "lapsed" else NOW
    assert await store.read(lambda tx: tx.drives.next_due()) == Due(asked_for=LATER, resumed=free)
    await store.write(lambda tx: tx.drives.wake("3", now=LATER + timedelta(seconds=1)))
    asked_for = await store.write(lambda tx: claim(tx, now=LATER, resumed_max=0))
    assert [(drive.order_id, drive.is_resumed) for drive in asked_for] == [("2", False)]
    resumed = await store.write(lambda tx: claim(tx, now=LATER + timedelta(minutes=1), asked_for_max=0))
    # Whoever claimed the second one seems to have died with it.
    assert {(drive.order_id, drive.is_resumed) for drive in resumed} == {("1", True), ("2", True)}


async def test_a_driver_that_comes_back_frees_what_it_held_when_it_died(store: Store[Transaction]) -> None:
    await store.write(lambda tx: tx.drives.begin(ID, driver="a", leased_until=LATER, now=NOW))
    assert await store.write(lambda tx: tx.drives.disown("b", now=NOW)) == 0
    assert await store.write(lambda tx: tx.drives.disown("a", now=NOW)) == 1
    assert await store.read(lambda tx: tx.drives.next_due()) == Due(asked_for=None, resumed=NOW)


def _break(url: str, sql: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(sql)
    engine.dispose()


def _violated(url: str) -> set[str]:
    with reading(url) as connection:
        return {check.name for check in audit.CHECKS if not check.find(connection).holds}


@pytest.mark.parametrize(
    ("sql", "check"),
    [
        ("UPDATE orders SET state = 'CONFIRMED'", "orders.replay"),
        ("UPDATE order_lines SET quantity = 3", "orders.replay"),
        ("DELETE FROM order_events WHERE version = 1", "orders.gapless"),
        ("DELETE FROM order_events WHERE version = 1", "orders.replay"),
        ("UPDATE order_events SET version = 0 WHERE version = 1", "orders.gapless"),
        ("UPDATE order_events SET body = (SELECT headers FROM outbox ORDER BY seq LIMIT 1)", "orders.replay"),
        ("DELETE FROM order_drives", "orders.driven"),
        ("UPDATE outbox SET type = 'bodega.order.v1.OrderRejected'", "orders.told"),
        ("DELETE FROM outbox WHERE seq = 1", "orders.told"),
        ("DELETE FROM outbox", "orders.told"),
        ("UPDATE orders SET update_time = 0", "orders.end"),
    ],
)
async def test_the_audit_finds_what_is_broken_on_purpose(
    store: Store[Transaction], database_url: str, sql: str, check: str
) -> None:
    now = datetime.now(UTC)
    for number, at in ((2, now - timedelta(seconds=5)), (1, now)):
        order_id = f"{ID[:-1]}{number}"
        order = domain.place(order_id, placed(), at=at).apply(StepDone(Step.RESERVE_STOCK, 1), at=at)
        await store.write(lambda tx, order=order: tx.orders.save(order))  # type: ignore[misc]
        await store.write(
            lambda tx, order_id=order_id, at=at: tx.drives.begin(  # type: ignore[misc]
                order_id, driver="a", leased_until=at, now=at
            )
        )
    assert _violated(database_url) == set()
    _break(database_url, sql)
    assert check in _violated(database_url)


def test_a_missing_database_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(sa.exc.OperationalError), reading(f"sqlite:///{tmp_path / 'none.db'}"):
        pass
