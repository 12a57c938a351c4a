"""Writes order steps through our store.

python -m tests.load.programs.store_ours DATABASE_FILE
"""

import sys
from typing import Final

import sqlalchemy as sa
from bodega.order.v1 import order_pb2

from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage.database import Store
from services.chassis.storage.event_store import EventStore, NewEvent
from services.chassis.storage.idempotency import call
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import SystemClock, to_micros
from tests.load import messages
from tests.load.programs import commands, steps
from tests.load.programs.commands import Json
from tests.load.programs.steps import Step
from tests.load.programs.tables import metadata, order_events, orders

EVENTS: Final = EventStore(order_events)
_insert = insert(orders)
SHOW: Final = Statement(
    _insert.on_conflict_do_update(
        index_elements=["order_id"],
        set_={column.name: _insert.excluded[column.name] for column in orders.columns},
    )
)


def write(session: Session, step: Step) -> None:
    body = steps.event(step).SerializeToString()
    EVENTS.append(session, step.order_id, step.version - 1, [NewEvent("step_done", body)], at=step.at)
    session.run(SHOW, **steps.row(step, to_micros(step.at)))
    Outbox(session).add(envelope("order", step.order_id, steps.told(step), id=step.event_id, at=step.at))


class Writing:
    """Both ways to write a step."""

    def __init__(self, store: Store[Session]) -> None:
        self._store = store
        self._reply = messages.reply()

    async def write(self, step: Step) -> None:
        await self._store.write(lambda session: write(session, step))

    async def once(self, step: Step) -> None:
        def fn(session: Session) -> order_pb2.Order:
            write(session, step)
            return self._reply

        await self._store.once(call(messages.request(step.request_id)), fn)


async def main(path: str) -> None:
    url = f"sqlite:///{path}"
    engine = sa.create_engine(url)
    metadata.create_all(engine)
    engine.dispose()
    async with Store(
        url, open_transaction=lambda session: session, clock=SystemClock(), secret=b"bench"
    ) as store:
        writing = Writing(store)

        async def handle(command: Json) -> Json:
            do = writing.once if command["once"] else writing.write
            return await steps.taken(do, command["requests"], command["in_flight"])

        await commands.obey(handle)


if __name__ == "__main__":
    commands.run(main(sys.argv[1]))
