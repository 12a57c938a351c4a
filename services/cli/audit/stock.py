"""Goods: what orders say they bought against what inventory says it holds and sold."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from services.cli.audit.books import Books, CrossCheck, Differences
from services.inventory import audit as inventory
from services.order import audit as orders


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
    bought, refunds = orders.bought(books.order), orders.to_come_back(books.order)
    returns = inventory.came_back(books.inventory)
    sold = {sale.order_id: sale.pieces for sale in inventory.sales(books.inventory)}
    found = Differences({"orders": len(standings), "sales": len(sold)})
    for order_id in sold.keys() - standings.keys():
        found.add(f"unknown {order_id}", f"order {order_id}: goods were sold to no order")
    for order_id, order in standings.items():
        there = _some(sold.get(order_id, {}))
        back = _back(refunds.get(order_id, {}), returns.get(order_id, {}))
        due = {} if order.has_ended else _some(Counter(bought.get(order_id)) - back)
        if not order.is_settled:
            found.count("under_way")
        elif order.has_ended and there:
            found.add(order_id, f"order {order_id}: {order.state}, and its goods never came back")
        elif due and not there:
            found.add(order_id, f"order {order_id}: {order.state}, and nothing was sold")
        elif due != there:
            found.add(order_id, f"order {order_id}: should have {due}, was sold {there}")
        if order.is_settled and not order.has_ended:
            found.count("standing")
            found.count("pieces_due", sum(due.values()))
    return found


def _back(refunds: Mapping[str, Mapping[str, int]], returns: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """What refunds put back on sale, and what the warehouse took back by itself.

    Not what it would not take back for a refund: that had come back before.
    """
    taken = {**returns, **{name: pieces for name, pieces in refunds.items() if returns.get(name) != {}}}
    back: Counter[str] = Counter()
    for pieces in taken.values():
        back.update(pieces)
    return back


def _some(pieces: Mapping[str, int]) -> dict[str, int]:
    """Without the products of which nothing is left."""
    return {product_id: count for product_id, count in pieces.items() if count}


CHECKS: Final = (
    CrossCheck("stock.holds", "No active reservation belongs to a settled order.", _holds),
    CrossCheck(
        "stock.sales",
        "Goods are sold to the orders that stand, to each what it bought and did not give back.",
        _sales,
    ),
)
