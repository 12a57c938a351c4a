"""What customers were told, to be held against what became of it."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from services.order.audit import waits_to_be_paid
from services.order.domain import ENDED, State
from services.order.tables import order_lines, orders

RECENT_MAX: Final = 200  # orders that shoppers still come back to; whoever is older is left in peace

NEVER_PAID: Final = frozenset({"decline", "insufficient_funds", "capture_refused"})
CARDS: Final = ("approve", "slow", "lost_reply", *sorted(NEVER_PAID))
"""Kinds of cards: tokens of the sandbox provider without their `tok_`."""


@dataclass(slots=True)
class Promise:
    """One order, as its customer knows it."""

    order_id: str
    card: str
    pieces: dict[str, int]
    """By product."""

    is_cancelled: bool = False
    is_shipped: bool = False
    is_refunded_whole: bool = False
    refunded: Counter[str] = field(default_factory=Counter)
    """Pieces by product that the shop said it refunds."""

    def broken_by(self, order: "Ended") -> Iterator[str]:
        """A line for each way in which the order is not what was promised."""
        if self.is_cancelled and order.state is not State.CANCELLED:
            yield f"order {self.order_id}: was cancelled, is {order.state}"
        if self.is_shipped and (order.state in ENDED or not order.is_shipped):
            yield f"order {self.order_id}: was shipped, is {order.state}"
        if self.card in NEVER_PAID and order.state not in ENDED and not order.waits_to_be_paid:
            yield f"order {self.order_id}: {order.state} by a card of kind {self.card}"
        refunded = Counter(self.pieces) if self.is_refunded_whole else self.refunded
        if refunded != order.refunded:
            yield f"order {self.order_id}: promised to refund {refunded}, refunded {order.refunded}"


@dataclass(slots=True)
class Ended:
    """One order, as the books have it in the end."""

    state: State
    is_shipped: bool
    is_settled: bool
    waits_to_be_paid: bool = False
    """Whether it is confirmed and paid when it ships: only then is such a card refused."""

    refunded: Counter[str] = field(default_factory=Counter)


class Promises:
    """All of them."""

    def __init__(self) -> None:
        self.by_order: dict[str, Promise] = {}
        self.recent: deque[Promise] = deque(maxlen=RECENT_MAX)

    def add(self, promise: Promise) -> Promise:
        """Notes an order; of one that is known already, what is known."""
        known = self.by_order.setdefault(promise.order_id, promise)
        if known is promise:
            self.recent.append(promise)
        return known

    def broken(self, ended: dict[str, Ended]) -> list[str]:
        """What was promised and is not so; orders that only one side knows of included."""
        found = [f"order {order_id}: accepted, and lost" for order_id in self.by_order.keys() - ended.keys()]
        found += [
            f"order {order_id}: nobody was told of it" for order_id in ended.keys() - self.by_order.keys()
        ]
        for order_id in self.by_order.keys() & ended.keys():
            if not ended[order_id].is_settled:
                found.append(f"order {order_id}: does not end, {ended[order_id].state}")
            found += self.by_order[order_id].broken_by(ended[order_id])
        return found


def ended(connection: sa.Connection) -> dict[str, Ended]:
    """Every order by its id."""
    found = {
        row["order_id"]: Ended(
            State(row["state"]), row["ship_time"] is not None, not row["under_way"], waits_to_be_paid(row)
        )
        for row in connection.execute(sa.select(orders)).mappings()
    }
    for row in connection.execute(sa.select(order_lines).where(order_lines.c.refunded_quantity > 0)):
        found[row.order_id].refunded[row.product_id] += row.refunded_quantity
    return found
