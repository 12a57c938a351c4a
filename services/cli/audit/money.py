"""Money: what orders are worth, what our ledger says was taken, and what the provider says."""

from typing import Final

import sqlalchemy as sa

from services.cli.audit.books import Books, CrossCheck, Differences
from services.kernel.money import Money
from services.order import audit as orders
from services.order.domain import State
from services.payment.domain import Kind, Outcome
from services.payment.ledger import Account
from services.payment.tables import ledger_lines, operations


def _taken(books: Books) -> Differences:
    # Orders first: what had ended by then must have been given back before.
    standings = orders.standings(books.order)
    taken = _ledger(books.payment)
    found = Differences()
    for order in standings.values():
        worth = Money(order.total_minor, order.currency)
        net = taken.pop(order.order_id, Money.zero(order.currency))
        if not order.is_settled:
            found.count("under_way")
            continue
        stands = order.state is State.CONFIRMED
        found.count("orders_standing" if stands else "orders_ended")
        found.count(f"taken_{net.currency}", net.amount_minor)
        if stands:
            found.count(f"worth_{worth.currency}", worth.amount_minor)
        if net != (worth if stands else Money.zero(order.currency)):
            found.add(order.order_id, f"order {order.order_id}: {order.state}, worth {worth}, taken {net}")
    for order_id, net in taken.items():
        found.add(f"unknown {order_id}", f"order {order_id}: {net} taken for no order")
    return found


def _ledger(connection: sa.Connection) -> dict[str, Money]:
    """What was taken for each order and not given back."""
    rows = connection.execute(
        sa.select(ledger_lines.c.order_id, ledger_lines.c.currency, sa.func.sum(ledger_lines.c.amount_minor))
        .where(ledger_lines.c.account == str(Account.PROVIDER_CLEARING))
        .group_by(ledger_lines.c.order_id, ledger_lines.c.currency)
    )
    return {order_id: Money(int(net), currency) for order_id, currency, net in rows}


def _charges(books: Books) -> Differences:
    rows = books.payment.execute(
        sa.select(operations.c.order_id, sa.func.count().label("captures"))
        .where(operations.c.kind == str(Kind.CAPTURE), operations.c.outcome == str(Outcome.SUCCEEDED))
        .group_by(operations.c.order_id)
    ).all()
    found = Differences({"orders_charged": len(rows)})
    for row in rows:
        if row.captures > 1:
            found.add(row.order_id, f"order {row.order_id}: charged {row.captures} times")
    return found


CHECKS: Final = (
    CrossCheck(
        "money.orders",
        "Captured - refunded is the value of a confirmed order, and nothing of one that ended.",
        _taken,
    ),
    CrossCheck("money.once", "No order is charged twice.", _charges),
)
