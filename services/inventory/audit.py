"""What must hold in inventory, as queries; `bodega verify` runs them, and some across services."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from bodega.inventory.v1 import inventory_events_pb2 as pb
from google.protobuf.message import Message

from services.chassis.audit import Check, Finding, judged
from services.inventory.reservation import State
from services.inventory.stock import MovementKind
from services.inventory.tables import (
    outbox_rows,
    prices,
    products,
    reservation_lines,
    reservations,
    stock_levels,
    stock_movements,
)
from services.kernel.clock import to_micros

TOLD_WITHIN: Final = timedelta(hours=23)
"""How far back the outbox is compared with the ledger: it keeps what was published for a day."""

_EVENT_OF: Final[dict[MovementKind, type[Message]]] = {
    MovementKind.SET: pb.StockAdjusted,
    MovementKind.RELEASE: pb.StockReleased,
    MovementKind.RETURN: pb.StockReleased,
    MovementKind.EXPIRE: pb.ReservationExpired,
    MovementKind.COMMIT: pb.StockCommitted,
}
"""The event that tells of a movement. Of a RESERVE it depends: an expired hold is taken again silently."""

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Hold:
    """What one order holds or has bought."""

    order_id: str
    pieces: dict[str, int] = field(default_factory=dict)
    """By product."""


def active_holds(connection: sa.Connection) -> list[Hold]:
    """Orders that hold stock right now. None of them may be terminal."""
    return _holds(connection, State.RESERVED)


def sales(connection: sa.Connection) -> list[Hold]:
    """Orders whose stock is sold. Each of them must stand."""
    return _holds(connection, State.COMMITTED)


def _holds(connection: sa.Connection, state: State) -> list[Hold]:
    found: dict[str, Hold] = {}
    rows = connection.execute(
        sa.select(reservation_lines.c.order_id, reservation_lines.c.product_id, reservation_lines.c.quantity)
        .join(reservations, reservations.c.order_id == reservation_lines.c.order_id)
        .where(reservations.c.state == str(state))
        .order_by(reservation_lines.c.order_id)
    )
    for order_id, product_id, quantity in rows:
        pieces = found.setdefault(order_id, Hold(order_id)).pieces
        pieces[product_id] = pieces.get(product_id, 0) + quantity
    return list(found.values())


def _levels_are_possible(connection: sa.Connection) -> Finding:
    levels = _levels(connection)
    return judged(
        "stock.possible",
        [
            f"product {product_id} in {warehouse_id}: on_hand {on_hand}, reserved {reserved}"
            for (product_id, warehouse_id), (on_hand, reserved) in levels.items()
            if not 0 <= reserved <= on_hand
        ],
        levels=len(levels),
        on_hand=sum(on_hand for on_hand, _ in levels.values()),
        reserved=sum(reserved for _, reserved in levels.values()),
        available=sum(on_hand - reserved for on_hand, reserved in levels.values()),
    )


def _reserved_is_held(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(
            reservation_lines.c.product_id,
            reservation_lines.c.warehouse_id,
            sa.func.sum(reservation_lines.c.quantity),
        )
        .join(reservations, reservations.c.order_id == reservation_lines.c.order_id)
        .where(reservations.c.state == str(State.RESERVED))
        .group_by(reservation_lines.c.product_id, reservation_lines.c.warehouse_id)
    )
    held: dict[_Key, int] = {
        (product_id, warehouse_id): quantity for product_id, warehouse_id, quantity in rows
    }
    reserved = {key: reserved for key, (_, reserved) in _levels(connection).items()}
    return judged(
        "stock.reserved_is_held",
        [
            f"product {key[0]} in {key[1]}: reserved {reserved.get(key, 0)}, held {held.get(key, 0)}"
            for key in sorted(reserved.keys() | held.keys())
            if reserved.get(key, 0) != held.get(key, 0)
        ],
        reserved=sum(reserved.values()),
        held=sum(held.values()),
    )


def _ledger_explains_levels(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(
            stock_movements.c.product_id,
            stock_movements.c.warehouse_id,
            sa.func.count(),
            sa.func.sum(stock_movements.c.delta_on_hand),
            sa.func.sum(stock_movements.c.delta_reserved),
        ).group_by(stock_movements.c.product_id, stock_movements.c.warehouse_id)
    ).all()
    moved = {(row[0], row[1]): (int(row[3]), int(row[4])) for row in rows}
    levels = _levels(connection)
    nothing = (0, 0)
    return judged(
        "stock.ledger",
        [
            f"product {key[0]} in {key[1]}: (on_hand, reserved) is {levels.get(key, nothing)}, "
            f"movements say {moved.get(key, nothing)}"
            for key in sorted(levels.keys() | moved.keys())
            if levels.get(key, nothing) != moved.get(key, nothing)
        ],
        levels=len(levels),
        movements=sum(int(row[2]) for row in rows),
        on_hand=sum(on_hand for on_hand, _ in levels.values()),
        moved_on_hand=sum(on_hand for on_hand, _ in moved.values()),
    )


def _orders_are_accounted_for(connection: sa.Connection) -> Finding:
    """Per order and level: what its movements add up to is what its state says it has taken."""
    expected = _taken_by_state(connection)
    moved: dict[tuple[str, str, str], tuple[int, int]] = {
        (row[0], row[1], row[2]): (int(row[3]), int(row[4]))
        for row in connection.execute(
            sa.select(
                stock_movements.c.order_id,
                stock_movements.c.product_id,
                stock_movements.c.warehouse_id,
                sa.func.sum(stock_movements.c.delta_on_hand),
                sa.func.sum(stock_movements.c.delta_reserved),
            )
            .where(stock_movements.c.order_id != "")
            .group_by(
                stock_movements.c.order_id, stock_movements.c.product_id, stock_movements.c.warehouse_id
            )
        )
    }
    nothing = (0, 0)
    return judged(
        "stock.orders",
        [
            f"order {key[0]}, product {key[1]} in {key[2]}: has moved {moved.get(key, nothing)}, "
            f"should have {expected.get(key, nothing)} (on_hand, reserved)"
            for key in sorted(expected.keys() | moved.keys())
            if expected.get(key, nothing) != moved.get(key, nothing)
        ],
        **_reservations_by_state(connection),
    )


def _prices_are_history(connection: sa.Connection) -> Finding:
    newest = (
        sa.select(prices.c.product_id, sa.func.max(prices.c.product_version).label("product_version"))
        .group_by(prices.c.product_id)
        .subquery()
    )
    rows = connection.execute(
        sa.select(products.c.product_id, products.c.price_minor, products.c.currency, prices.c.price_minor)
        .outerjoin(newest, newest.c.product_id == products.c.product_id)
        .outerjoin(
            prices,
            sa.and_(
                prices.c.product_id == newest.c.product_id,
                prices.c.product_version == newest.c.product_version,
            ),
        )
        .where(
            sa.or_(
                prices.c.price_minor.is_(None),
                prices.c.price_minor != products.c.price_minor,
                prices.c.currency != products.c.currency,
            )
        )
    ).all()
    return judged(
        "catalog.prices",
        [f"product {row[0]}: costs {row[1]} {row[2]}, history says {row[3]}" for row in rows],
        products=_count(connection, products),
        prices=_count(connection, prices),
    )


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


CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "stock.possible",
        "Per product and warehouse on_hand = available + reserved, and none is negative.",
        _levels_are_possible,
    ),
    Check("stock.reserved_is_held", "What is reserved is what live holds add up to.", _reserved_is_held),
    Check(
        "stock.ledger",
        "Opening (nothing) + movements = on_hand, and the same for reserved.",
        _ledger_explains_levels,
    ),
    Check(
        "stock.orders",
        "No order has moved more or less stock than its reservation's state says.",
        _orders_are_accounted_for,
    ),
    Check("catalog.prices", "Every product costs what its price history says last.", _prices_are_history),
    Check("stock.told", "Every movement of the last day was written to the outbox.", _movements_are_told),
)


def _levels(connection: sa.Connection) -> dict[_Key, tuple[int, int]]:
    return {
        (row.product_id, row.warehouse_id): (row.on_hand, row.reserved)
        for row in connection.execute(sa.select(stock_levels))
    }


def _taken_by_state(connection: sa.Connection) -> dict[tuple[str, str, str], tuple[int, int]]:
    rows = connection.execute(
        sa.select(reservation_lines, reservations.c.state)
        .join(reservations, reservations.c.order_id == reservation_lines.c.order_id)
        .where(reservations.c.state.in_([str(State.RESERVED), str(State.COMMITTED)]))
    )
    return {
        (row.order_id, row.product_id, row.warehouse_id): (
            (0, row.quantity) if row.state == State.RESERVED else (-row.quantity, 0)
        )
        for row in rows
    }


def _reservations_by_state(connection: sa.Connection) -> dict[str, int]:
    rows = connection.execute(
        sa.select(reservations.c.state, sa.func.count()).group_by(reservations.c.state)
    ).all()
    found = {str(row[0]): int(row[1]) for row in rows}
    return {str(state): found.get(str(state), 0) for state in State}


def _facts(connection: sa.Connection, since: int) -> set[tuple[str, str, int]]:
    """What the ledger says has happened since, as (key, type, time) of the event that must tell it."""
    rows = connection.execute(
        sa.select(
            stock_movements.c.product_id,
            stock_movements.c.order_id,
            stock_movements.c.kind,
            stock_movements.c.create_time,
        ).where(stock_movements.c.create_time >= since, stock_movements.c.kind != str(MovementKind.RESERVE))
    )
    moved = {
        (row.order_id or row.product_id, _type_of(_EVENT_OF[MovementKind(row.kind)]), row.create_time)
        for row in rows
    }
    opened = connection.execute(
        sa.select(reservations.c.order_id, reservations.c.create_time).where(
            reservations.c.create_time >= since, reservations.c.reservation_id.is_not(None)
        )
    )
    type_ = _type_of(pb.StockReserved)
    return moved | {(row.order_id, type_, row.create_time) for row in opened}


def _type_of(event: type[Message]) -> str:
    return str(event.DESCRIPTOR.full_name)


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
