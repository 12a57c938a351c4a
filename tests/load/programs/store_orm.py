"""Writes order steps as SQLAlchemy's tutorial shows: ORM, async session, aiosqlite, a commit each.

python -m tests.load.programs.store_orm DATABASE_FILE
"""

import json
import sys

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import registry

from services.chassis.events.envelope import envelope
from services.kernel.clock import to_micros
from tests.load.programs import commands, steps, tables
from tests.load.programs.commands import Json
from tests.load.programs.steps import Step

BUSY_TIMEOUT_MS = 60_000  # they queue for SQLite's one lock, and shall not fail for it


class Event:
    """One row of `order_events`."""


class Order:
    """One row of `orders`."""


class Told:
    """One row of `outbox`."""


_mapping = registry()
_mapping.map_imperatively(Event, tables.order_events)
_mapping.map_imperatively(Order, tables.orders)
_mapping.map_imperatively(Told, tables.outbox_rows)


def _with(made: object, values: Json) -> object:
    for name, value in values.items():
        setattr(made, name, value)
    return made


async def write(session: AsyncSession, step: Step) -> None:
    at = to_micros(step.at)
    session.add(
        _with(
            Event(),
            {
                "stream_id": step.order_id,
                "version": step.version,
                "type": "step_done",
                "body": steps.event(step).SerializeToString(),
                "at": at,
                "trace_id": "",
                "actor": "",
            },
        )
    )
    order = await session.get(Order, step.order_id)
    if order is None:
        order = Order()
        session.add(order)
    _with(order, steps.row(step, at))
    told = envelope("order", step.order_id, steps.told(step), id=step.event_id, at=step.at)
    session.add(
        _with(
            Told(),
            {
                "event_id": told.id,
                "aggregate_id": told.subject,
                "subject": told.nats_subject,
                "type": told.type,
                "headers": json.dumps(told.headers()).encode(),
                "body": told.data,
                "create_time": at,
            },
        )
    )


async def main(path: str) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    sa.event.listen(engine.sync_engine, "connect", _configure)
    async with engine.begin() as connection:
        await connection.run_sync(tables.metadata.create_all)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def do(step: Step) -> None:
        async with sessions.begin() as session:
            await write(session, step)

    async def handle(command: Json) -> Json:
        return await steps.taken(do, command["requests"], command["in_flight"])

    await commands.obey(handle)
    await engine.dispose()


def _configure(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
    """The same durability as ours."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


if __name__ == "__main__":
    commands.run_yardstick(main(sys.argv[1]))
