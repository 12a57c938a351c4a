"""Whether the world was told what the books of inventory say has happened."""

from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from bodega.inventory.v1 import inventory_events_pb2 as pb
from google.protobuf.message import Message

from services.chassis.audit import Check, Finding, judged
from services.inventory.stock import MovementKind
from services.inventory.tables import outbox_rows, reservations, restock_plans, returns, stock_movements
from services.kernel.clock import to_micros

TOLD_WITHIN: Final = timedelta(hours=23)
"""How far back the outbox is compared with the ledger: it keeps what was published for a day."""

_EVENT_OF: Final[dict[MovementKind, type[Message]]] = {
    MovementKind.SET: pb.StockAdjusted,
    MovementKind.ADJUST: pb.StockAdjusted,
    MovementKind.RELEASE: pb.StockReleased,
    MovementKind.EXPIRE: pb.ReservationExpired,
    MovementKind.COMMIT: pb.StockCommitted,
}
"""The event that tells of a movement. Of others it depends: an expired hold is taken again silently, and
goods come back by a return or by the undoing of the whole sale."""

_Fact = tuple[str, str, int]
"""An event by its key, type and time."""


def _movements_are_told(connection: sa.Connection) -> Finding:
    since = to_micros(datetime.now(UTC) - TOLD_WITHIN)
    told = {
        (str(row[0]), str(row[1]), int(row[2]))
        for row in connection.execute(
            sa.select(outbox_rows.c.aggregate_id, outbox_rows.c.type, outbox_rows.c.create_time).where(
                outbox_rows.c.create_time >= since
            )
        )
    }
    facts = _facts(connection, since)
    unpublished = connection.execute(
        sa.select(sa.func.count()).select_from(outbox_rows).where(outbox_rows.c.stream_seq.is_(None))
    )
    return judged(
        "stock.told",
        [f"{type_} of {id_} is not in the outbox" for id_, type_, _ in sorted(facts - told)],
        facts=len(facts),
        unpublished=unpublished.scalar_one(),
    )


def _facts(connection: sa.Connection, since: int) -> set[_Fact]:
    """What the books say has happened since, as the events that must tell it."""
    return _moved(connection, since) | _opened(connection, since) | _crossed(connection, since)


def _moved(connection: sa.Connection, since: int) -> set[_Fact]:
    by_return = {
        (row.order_id, row.create_time)
        for row in connection.execute(
            sa.select(returns).where(returns.c.create_time >= since, returns.c.refusal.is_(None))
        )
    }
    rows = connection.execute(
        sa.select(stock_movements).where(
            stock_movements.c.create_time >= since, stock_movements.c.kind != str(MovementKind.RESERVE)
        )
    )
    found = set()
    for row in rows:
        event = _EVENT_OF.get(MovementKind(row.kind))
        if event is None:
            event = pb.StockReturned if (row.order_id, row.create_time) in by_return else pb.StockReleased
        found.add((row.order_id or row.product_id, _type_of(event), row.create_time))
    return found


def _opened(connection: sa.Connection, since: int) -> set[_Fact]:
    rows = connection.execute(
        sa.select(reservations.c.order_id, reservations.c.create_time).where(
            reservations.c.create_time >= since, reservations.c.reservation_id.is_not(None)
        )
    )
    return {(row.order_id, _type_of(pb.StockReserved), row.create_time) for row in rows}


def _crossed(connection: sa.Connection, since: int) -> set[_Fact]:
    rows = connection.execute(sa.select(restock_plans).where(restock_plans.c.cross_time >= since))
    return {
        (row.product_id, _type_of(pb.StockLow if row.is_low else pb.StockReplenished), row.cross_time)
        for row in rows
    }


def _type_of(event: type[Message]) -> str:
    return str(event.DESCRIPTOR.full_name)


CHECK: Final = Check(
    "stock.told",
    "Every movement and every crossing of a mark of the last day was written to the outbox.",
    _movements_are_told,
)
