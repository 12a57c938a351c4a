"""What must hold in inventory, as queries; `bodega verify` runs them, and some across services."""

from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from services.chassis.audit import Check, Finding, judged
from services.inventory import told
from services.inventory.reservation import State
from services.inventory.tables import (
    prices,
    products,
    reservation_lines,
    reservations,
    restock_plans,
    return_lines,
    returns,
    stock_levels,
    stock_movements,
)

_Key = tuple[str, str]
_OrderKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Hold:
    """What one order holds, or has bought and not given back."""

    order_id: str
    pieces: dict[str, int] = field(default_factory=dict)
    """By product."""

    returned: dict[str, int] = field(default_factory=dict)
    """By product: what it has bought besides, and came back."""


def active_holds(connection: sa.Connection) -> list[Hold]:
    """Orders that hold stock right now. None of them may be terminal."""
    return _holds(connection, State.RESERVED)


def sales(connection: sa.Connection) -> list[Hold]:
    """Orders whose stock is sold, with what is still theirs of it. Each of them must stand."""
    return _holds(connection, State.COMMITTED)


def came_back(connection: sa.Connection) -> dict[str, dict[str, dict[str, int]]]:
    """By order, then by return, then by product: the pieces that came back; none by one that was refused."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for made in connection.execute(sa.select(returns.c.order_id, returns.c.return_id)):
        found.setdefault(made.order_id, {})[made.return_id] = {}
    for line in connection.execute(sa.select(return_lines)):
        pieces = found.setdefault(line.order_id, {}).setdefault(line.return_id, {})
        pieces[line.product_id] = pieces.get(line.product_id, 0) + line.quantity
    return found


def _holds(connection: sa.Connection, state: State) -> list[Hold]:
    found: dict[str, Hold] = {}
    rows = connection.execute(
        sa.select(reservation_lines)
        .join(reservations, reservations.c.order_id == reservation_lines.c.order_id)
        .where(reservations.c.state == str(state))
        .order_by(reservation_lines.c.order_id)
    )
    for row in rows:
        hold = found.setdefault(row.order_id, Hold(row.order_id))
        left = row.quantity - row.returned
        hold.pieces[row.product_id] = hold.pieces.get(row.product_id, 0) + left
        if row.returned:
            hold.returned[row.product_id] = hold.returned.get(row.product_id, 0) + row.returned
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
    moved: dict[_OrderKey, tuple[int, int]] = {
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


def _returns_were_sold(connection: sa.Connection) -> Finding:
    """Per order and level: no more has come back than was sold, and each piece by a return that names it."""
    named = _came_back(connection, "origin_id")
    sold = connection.execute(
        sa.select(reservation_lines, reservations.c.state).join(
            reservations, reservations.c.order_id == reservation_lines.c.order_id
        )
    ).all()
    violations = []
    for row in sold:
        by_return = named.pop((row.order_id, row.product_id, row.warehouse_id), 0)
        # Once the whole sale is undone, all of it has come back, some of it perhaps by returns before.
        fits = by_return <= row.returned if row.state == State.RELEASED else by_return == row.returned
        if not fits or not 0 <= row.returned <= row.quantity:
            violations.append(
                f"order {row.order_id}, product {row.product_id} from {row.warehouse_id}: "
                f"{row.quantity} sold, {row.returned} came back, returns say {by_return}"
            )
    violations += [
        f"order {key[0]}: {count} of {key[1]} came back and were not sold" for key, count in named.items()
    ]
    return judged(
        "stock.returns",
        violations,
        returns=_count(connection, returns),
        sold=sum(row.quantity for row in sold if row.state == State.COMMITTED),
        returned=sum(row.returned for row in sold if row.state == State.COMMITTED),
    )


def _plans_know_what_is_low(connection: sa.Connection) -> Finding:
    levels = _levels(connection)
    plans = connection.execute(sa.select(restock_plans)).all()
    violations = []
    for plan in plans:
        on_hand, reserved = levels.get((plan.product_id, plan.warehouse_id), (0, 0))
        available = on_hand - reserved
        if (available < plan.low_stock_below) != plan.is_low:
            violations.append(
                f"product {plan.product_id} in {plan.warehouse_id}: {available} available, low below "
                f"{plan.low_stock_below}, and last told to be {'low' if plan.is_low else 'enough'}"
            )
    return judged("stock.low", violations, plans=len(plans), low=sum(plan.is_low for plan in plans))


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
    Check("stock.returns", "No order has given back more than it was sold.", _returns_were_sold),
    Check("stock.low", "Stock was last told to be low exactly where it is.", _plans_know_what_is_low),
    Check("catalog.prices", "Every product costs what its price history says last.", _prices_are_history),
    told.CHECK,
)


def _levels(connection: sa.Connection) -> dict[_Key, tuple[int, int]]:
    return {
        (row.product_id, row.warehouse_id): (row.on_hand, row.reserved)
        for row in connection.execute(sa.select(stock_levels))
    }


def _taken_by_state(connection: sa.Connection) -> dict[_OrderKey, tuple[int, int]]:
    """Per order and level: what it has moved (on_hand, reserved), going by its state and its returns."""
    found: dict[_OrderKey, tuple[int, int]] = {}
    arrived, left = _came_back(connection, "warehouse_id"), _came_back(connection, "origin_id")
    rows = connection.execute(
        sa.select(reservation_lines, reservations.c.state).join(
            reservations, reservations.c.order_id == reservation_lines.c.order_id
        )
    )
    for row in rows:
        key = (row.order_id, row.product_id, row.warehouse_id)
        if row.state == State.RESERVED:
            found[key] = (0, row.quantity)
        elif row.state == State.COMMITTED:
            found[key] = (-row.quantity, 0)
        elif key in left:  # sold once, and all but this came back to where it was sold from
            found[key] = (-left[key], 0)
    for key, count in arrived.items():
        on_hand, reserved = found.get(key, (0, 0))
        found[key] = (on_hand + count, reserved)
    return {key: moved for key, moved in found.items() if moved != (0, 0)}


def _came_back(connection: sa.Connection, place: str) -> dict[_OrderKey, int]:
    """Pieces that returns name, by order, product, and where they were sold from or went."""
    columns = (return_lines.c.order_id, return_lines.c.product_id, return_lines.c[place])
    rows = connection.execute(sa.select(*columns, sa.func.sum(return_lines.c.quantity)).group_by(*columns))
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows}


def _reservations_by_state(connection: sa.Connection) -> dict[str, int]:
    rows = connection.execute(
        sa.select(reservations.c.state, sa.func.count()).group_by(reservations.c.state)
    ).all()
    found = {str(row[0]): int(row[1]) for row in rows}
    return {str(state): found.get(str(state), 0) for state in State}


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
