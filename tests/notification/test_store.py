import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from services.chassis import audit as chassis_audit
from services.chassis.storage.migrations import differences, migrate
from services.chassis.storage.sqlite import engine_for_migrations
from services.notification import audit
from services.notification.domain import Channel, Fact, Message, Notification, State
from services.notification.store import Transaction, from_row
from services.notification.tables import metadata, notifications
from tests.databases import only_sqlite
from tests.notification.stage import MIGRATIONS, Messages, add, written

LATER = timedelta(minutes=1)


def _now() -> datetime:
    return datetime.now(UTC)


async def due(store: Messages, now: datetime, limit: int = 10) -> list[str]:
    return [found.id for found in await store.read(lambda tx: tx.notifications.due(now=now, limit=limit))]


async def change(store: Messages, notification: Notification) -> None:
    await store.write(lambda tx: tx.notifications.change(notification))


def test_the_migrations_lead_to_the_tables(database_url: str) -> None:
    assert differences(database_url, metadata) == []


async def test_what_is_written_is_found_again_when_it_is_due(store: Messages) -> None:
    message = written(1)
    await add(store, message)
    assert await store.read(lambda tx: tx.notifications.due(now=_now(), limit=1)) == [message]
    assert await due(store, message.created_at - LATER) == []


async def test_one_fact_has_one_message(store: Messages) -> None:
    await add(store, written(1))
    other = Notification.write(
        "other",
        Message("u1", "Title", "Body"),
        Fact("e1", "bodega.order.v1.OrderConfirmed"),
        channel=Channel.CONSOLE,
        at=_now(),
    )
    await add(store, other)
    assert await due(store, _now()) == ["n1"]


async def test_of_each_user_only_the_oldest_pending_message_is_due(store: Messages) -> None:
    await add(store, written(1), written(2), written(3, "u2"), written(4, "u2"))
    assert await due(store, _now()) == ["n1", "n3"]
    await change(store, written(1).sent(at=_now()))
    assert await due(store, _now()) == ["n2", "n3"]


async def test_who_waits_holds_up_the_users_later_messages_and_nobody_elses(store: Messages) -> None:
    await add(store, written(1), written(2), written(3, "u2"))
    now = _now()
    await change(store, written(1).failed("OSError", at=now, retry_in=LATER))
    assert await due(store, now) == ["n3"]
    assert await due(store, now + LATER) == ["n1", "n3"]
    assert await store.read(lambda tx: tx.notifications.next_due(now=now)) == now + LATER


async def test_a_parked_message_is_out_of_the_way(store: Messages) -> None:
    message = written(1)
    await add(store, message, written(2))
    while message.state is State.PENDING:
        message = message.failed("OSError", at=_now(), retry_in=timedelta())
        await change(store, message)
    assert await due(store, _now()) == ["n2"]
    assert await store.read(lambda tx: tx.notifications.count(State.PARKED)) == 1


async def test_a_sent_message_stays_sent(store: Messages) -> None:
    message = written(1)
    await add(store, message)
    await change(store, message.sent(at=_now()))
    await change(store, message.failed("OSError", at=_now(), retry_in=LATER))
    assert await store.read(lambda tx: tx.notifications.count(State.SENT)) == 1


@only_sqlite  # which has the table made anew
async def test_the_audit_holds_and_sees_what_is_broken(store: Messages, database_url: str) -> None:
    def findings() -> dict[str, bool]:
        with chassis_audit.reading(database_url) as connection:
            return {check.name: check.find(connection).holds for check in audit.CHECKS}

    await add(store, written(1), written(2))
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as vandal:
        vandal.execute("INSERT INTO inbox SELECT 'c', event_id, create_time FROM notifications")
        vandal.commit()
        assert findings() == {check.name: True for check in audit.CHECKS}
        vandal.execute(
            "UPDATE notifications SET state = 'PARKED', problem = 'NO_ADDRESS' WHERE event_id = 'e1'"
        )
        vandal.commit()
        assert findings() == {check.name: True for check in audit.CHECKS}
        vandal.execute("UPDATE notifications SET problem = '' WHERE event_id = 'e1'")
        vandal.execute("DELETE FROM inbox WHERE event_id = 'e1'")
        vandal.execute(f"UPDATE notifications SET next_try_time = next_try_time - {600 * 10**6}")  # noqa: S608
        vandal.executescript(_without_unique_events(vandal))
        assert findings() == {check.name: False for check in audit.CHECKS}


def _without_unique_events(connection: sqlite3.Connection) -> str:
    """Makes the table anew without its constraint, and a second message of the first fact."""
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'notifications'").fetchone()
    loose = re.sub(r",\s*UNIQUE \(event_id\)", "", sql)
    assert loose != sql
    columns = "user_id, event_id, event_type, order_id, title, body, channel, state, tries, next_try_time"
    columns += ", problem, particulars, traceparent, create_time"
    return f"""
        ALTER TABLE notifications RENAME TO old;
        {loose};
        INSERT INTO notifications SELECT * FROM old;
        INSERT INTO notifications (notification_id, {columns}) SELECT 'twin', {columns} FROM old LIMIT 1;
        DROP TABLE old;
    """  # noqa: S608


async def test_the_audit_counts_what_was_given_up_by_its_reason(store: Messages, database_url: str) -> None:
    await add(store, *(written(number, f"u{number}") for number in range(4)))
    for number, problem in enumerate(("NO_ADDRESS", "RECIPIENT_REFUSED_550", "NO_ADDRESS")):
        await change(store, written(number).given_up(problem))
    [check] = [check for check in audit.CHECKS if check.name == "notifications.explained"]
    with chassis_audit.reading(database_url) as connection:
        finding = check.find(connection)
    assert finding.holds
    assert finding.figures == {"parked_no_address": 2, "parked_recipient_refused_550": 1, "violations": 0}


def test_what_was_written_before_there_was_e_mail_is_still_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = engine_for_migrations(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO notifications (notification_id, user_id, event_id, event_type, order_id, title,"
            " body, channel, state, tries, next_try_time, problem, traceparent, create_time)"
            " VALUES ('n1', 'u1', 'e1', 'T', '', 'Title', 'Body', 'CONSOLE', 'PENDING', 0, 1, '', '', 1)"
        )
    migrate(url, MIGRATIONS)
    with engine.begin() as connection:
        [row] = connection.execute(sa.select(notifications)).mappings()
        indexes = "".join(
            connection.scalars(sa.text("SELECT sql FROM sqlite_master WHERE sql LIKE '%INDEX%'"))
        )
    engine.dispose()
    assert from_row(row).message == Message("u1", "Title", "Body")
    assert "WHERE state = 'PENDING'" in indexes


def test_the_transaction_needs_no_clock_and_no_ids() -> None:
    """What is written down follows from the event alone, so a transaction may run more than once."""
    assert Transaction.__init__.__code__.co_varnames == ("self", "session")
