"""Goods: what orders say they bought against what inventory says it holds and sold."""

from typing import Final

import sqlalchemy as sa

from services.cli.audit.books import Books, CrossCheck, Differences
from services.inventory import audit as inventory
from services.order import audit as orders
from services.order.tables import order_lines


def _holds(books: Books) -> Differences:
    # Orders first: what had ended by then must have given everything back before.
    standings = orders.standings(books.order)
    found = Differences()
    for hold in inventory.active_holds(books.inventory):
        found.count("holds")
        found.count("pieces_held", sum(hold.pieces.values()))
        order = standings.get(hold.order_id)
        if order is None:
            found.add(f"unknown {hold.order_id}", f"order {hold.order_id}: stock is held for no order")
        elif order.is_settled:
            found.add(hold.order_id, f"order {hold.order_id}: {order.state}, and stock is still held")
    return found


def _sales(books: Books) -> Differences:
    standings = orders.standings(books.order)
    bought = _bought(books.order)
    sold = {sale.order_id: sale.pieces for sale in inventory.sales(books.inventory)}
    found = Differences({"orders": len(standings), "sales": len(sold)})
    for order_id, pieces in sold.items():
        order = standings.get(order_id)
        if order is None:
            found.add(f"unknown {order_id}", f"order {order_id}: goods were sold to no order")
        elif order.has_ended:
            found.add(order_id, f"order {order_id}: {order.state}, and its goods never came back")
        elif pieces != bought[order_id]:
            found.add(order_id, f"order {order_id}: bought {bought[order_id]}, was sold {pieces}")
    for order in standings.values():
        if not order.is_settled:
            found.count("under_way")
        elif not order.has_ended:
            found.count("standing")
            found.count("pieces_bought", sum(bought[order.order_id].values()))
            if order.order_id not in sold:
                found.add(order.order_id, f"order {order.order_id}: {order.state}, and nothing was sold")
    return found


def _bought(connection: sa.Connection) -> dict[str, dict[str, int]]:
    """What each order wants: pieces by product."""
    found: dict[str, dict[str, int]] = {}
    rows = connection.execute(
        sa.select(order_lines.c.order_id, order_lines.c.product_id, order_lines.c.quantity)
    )
    for order_id, product_id, quantity in rows:
        pieces = found.setdefault(order_id, {})
        pieces[product_id] = pieces.get(product_id, 0) + quantity
    return found


CHECKS: Final = (
    CrossCheck("stock.holds", "No active reservation belongs to a settled order.", _holds),
    CrossCheck("stock.sales", "Goods are sold to the orders that stand, to each what it bought.", _sales),
)
