"""Two little services: one says things about orders, the other writes down what it hears."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from bodega.order.v1 import order_events_pb2

from services.chassis.events import inbox, outbox
from services.chassis.events.envelope import Envelope, envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage import audit_trail
from services.chassis.storage.database import Store
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement

metadata = sa.MetaData()
sent = outbox.define(metadata)
inbox.define(metadata)
audit_trail.define(metadata)
heard = sa.Table(
    "heard",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
)

_HEAR = Statement(
    sa.insert(heard).values({n: sa.bindparam(n) for n in ("event_id", "order_id", "trace_id")}).inline()
)
_HEARD = Statement(sa.select(heard).order_by(heard.c.seq))
_SENT = Statement(sa.select(sent).order_by(sent.c.seq))

AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Transaction:
    session: Session
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.session)

    def say(self, event_id: str, order_id: str) -> None:
        message = order_events_pb2.OrderCancelled(order_id=order_id)
        self.outbox.add(envelope("order", order_id, message, id=event_id, at=AT))

    def hear(self, event: Envelope) -> None:
        self.session.run(
            _HEAR, event_id=event.id, order_id=event.subject, trace_id=event.traceparent.split("-")[1]
        )


Ledger = Store[Transaction]


async def say(store: Ledger, *events: tuple[str, str]) -> None:
    """Each event is an id and the order it is about; all in one transaction."""

    def fn(tx: Transaction) -> None:
        for event_id, order_id in events:
            tx.say(event_id, order_id)

    await store.write(fn)


async def ids_heard(store: Ledger, order_id: str | None = None) -> list[str]:
    rows = await store.look(lambda session: session.all(_HEARD))
    return [row["event_id"] for row in rows if order_id in (None, row["order_id"])]


async def rows_sent(store: Ledger) -> list[Any]:
    return await store.look(lambda session: session.all(_SENT))
