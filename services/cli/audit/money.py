"""Money: what orders are worth, what our ledger says was taken, and what the provider says."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from services.cli.audit.books import Books, CrossCheck, Differences
from services.kernel.money import Money
from services.order import audit as orders
from services.payment.domain import State
from services.payment.ledger import Account
from services.payment.sandbox_books import authorizations
from services.payment.tables import ledger_lines, payments


def _taken(books: Books) -> Differences:
    # Orders first: what had ended by then must have been given back before.
    standings = orders.standings(books.order)
    taken = _ledger(books.payment)
    found = Differences()
    for order in standings.values():
        worth = Money(order.worth_minor, order.currency)
        net = taken.pop(order.order_id, Money.zero(order.currency))
        if not order.is_settled:
            found.count("under_way")
            continue
        found.count("orders_ended" if order.has_ended else "orders_standing")
        found.count(f"taken_{net.currency}", net.amount_minor)
        found.count(f"worth_{worth.currency}", worth.amount_minor)
        if net != worth:
            found.add(order.order_id, f"order {order.order_id}: {order.state}, worth {worth}, taken {net}")
    direct = _direct(books.payment)
    for order_id, net in taken.items():
        if order_id in direct:
            found.count("paid_without_order")
            continue
        found.add(f"unknown {order_id}", f"order {order_id}: {net} taken for no order")
    return found


def _held(books: Books) -> Differences:
    # Orders first, as above: what had ended by then must have been given up before.
    standings = orders.standings(books.order)
    found = Differences()
    held = {row.order_id: row for row in books.payment.execute(_HELD)}
    for order in standings.values():
        hold = held.pop(order.order_id, None)
        if not order.is_settled:
            found.count("under_way")
        elif order.waits_to_be_paid:
            found.count("waiting")
            if hold is None or (hold.amount_minor, hold.currency) != (order.total_minor, order.currency):
                found.add(order.order_id, f"order {order.order_id}: to be paid when it ships, and not held")
        elif hold is not None:
            found.add(order.order_id, f"order {order.order_id}: {order.state}, and its money is still held")
    for order_id, hold in held.items():
        if not hold.direct:
            found.add(f"unknown {order_id}", f"order {order_id}: money is held for no order")
    return found


def _ledger(connection: sa.Connection) -> dict[str, Money]:
    """What was taken for each order and not given back."""
    rows = connection.execute(
        sa.select(ledger_lines.c.order_id, ledger_lines.c.currency, sa.func.sum(ledger_lines.c.amount_minor))
        .where(ledger_lines.c.account == str(Account.PROVIDER_CLEARING))
        .group_by(ledger_lines.c.order_id, ledger_lines.c.currency)
    )
    return {order_id: Money(int(net), currency) for order_id, currency, net in rows}


def _direct(connection: sa.Connection) -> set[str]:
    """What was paid for in one go (ProcessPayment): an order, or something of the caller's own."""
    return set(connection.execute(sa.select(payments.c.order_id).where(payments.c.direct)).scalars())


_HELD: Final = sa.select(
    payments.c.order_id, payments.c.amount_minor, payments.c.currency, payments.c.direct
).where(payments.c.state == str(State.AUTHORIZED))


@dataclass(frozen=True, slots=True)
class _Position:
    """What became of the money of one payment, according to somebody's books."""

    captured: int = 0
    refunded: int = 0
    holds: int = 0
    """How many authorizations are still held."""

    def __str__(self) -> str:
        return f"captured {self.captured}, refunded {self.refunded}, {self.holds} held"

    def __add__(self, other: "_Position") -> "_Position":
        return _Position(
            self.captured + other.captured, self.refunded + other.refunded, self.holds + other.holds
        )


def _provider(books: Books) -> Differences:
    # The provider's first: it moves money, and then we write that down.
    theirs: dict[str, _Position] = {}
    assert books.provider is not None
    for row in books.provider.execute(sa.select(authorizations)):
        position = _Position(row.captured_minor, row.refunded_minor, int(row.held))
        theirs[row.payment_id] = theirs.get(row.payment_id, _Position()) + position
    found = Differences()
    for row in books.payment.execute(sa.select(payments).where(payments.c.payment_id.is_not(None))):
        there = theirs.pop(row.payment_id, _Position())
        if row.state == State.UNKNOWN:
            found.count("under_way")
            continue
        here = _Position(row.captured_minor, row.refunded_minor, int(row.state == State.AUTHORIZED))
        found.count("payments")
        found.count(f"captured_{row.currency}", there.captured)
        found.count(f"refunded_{row.currency}", there.refunded)
        if here != there:
            found.add(
                row.payment_id,
                f"payment {row.payment_id} ({row.state}): {here} here, {there} at the provider",
            )
    for payment_id, there in theirs.items():
        found.add(payment_id, f"payment {payment_id}: {there} at the provider, unknown here")
    return found


CHECKS: Final = (
    CrossCheck(
        "money.orders",
        "Captured - refunded is the value of an order that stands, and nothing of one that ended.",
        _taken,
    ),
    CrossCheck(
        "money.held",
        "Money is held for the orders that are paid when they are shipped, until then, and for no others.",
        _held,
    ),
    CrossCheck(
        "money.provider", "The provider's books equal ours once settled.", _provider, needs_provider=True
    ),
)
