"""What comes back of what an order has bought.

A return has a name among those of its order, for ever: made again, it changes nothing, and refused, it stays
refused.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.inventory.reservation import Reservation, State
from services.inventory.stock import Line, Want
from services.kernel import errors


class NotSold(errors.WrongState):
    """Nothing of order {order_id} can come back: its reservation is {state}."""


class MoreThanSold(errors.WrongState):
    """Product {product_id}: {requested} would come back, {sold} of order {order_id} could."""


class ReturnMismatch(errors.Invalid):
    """Return {return_id} was made already, and of other lines than these."""

    field = "lines"


REFUSALS: Final[tuple[type[errors.DomainError], ...]] = (NotSold, MoreThanSold)
"""What a return is refused with for good."""


@dataclass(frozen=True, slots=True)
class ReturnedLine:
    """Pieces of one product that were sold from one warehouse and came back, to that or another."""

    product_id: str
    origin_id: str
    warehouse_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Return:
    """One return of an order, as it was answered."""

    order_id: str
    return_id: str
    wants: tuple[Want, ...]
    """What was to come back, summed; what a repeat is compared with."""

    at: datetime
    lines: tuple[ReturnedLine, ...] = ()
    refusal: errors.DomainError | None = None

    def asked_again(self, wants: tuple[Want, ...]) -> None:
        """Raises the old refusal if there was one, and ReturnMismatch for other lines."""
        if wants != self.wants:
            raise ReturnMismatch(return_id=self.return_id)
        if self.refusal is not None:
            raise self.refusal


def give_back(
    sold: Reservation, return_id: str, wants: tuple[Want, ...], *, at: datetime
) -> tuple[Reservation, Return]:
    """The order's sale without these pieces. Raises NotSold or MoreThanSold.

    What goes back to a named warehouse is taken off what was sold from there, as far as that reaches; what
    names none goes back to where it came from.
    """
    if sold.state is not State.COMMITTED:
        raise NotSold(order_id=sold.order_id, state=sold.state)
    kept = {(line.product_id, line.warehouse_id): line.kept for line in sold.lines}
    ways: Counter[tuple[str, str, str]] = Counter()
    for want in sorted(wants, key=lambda want: not want.warehouse_id):
        _take_off(want, kept, ways, sold.order_id)
    lines = tuple(ReturnedLine(*way, quantity) for way, quantity in sorted(ways.items()))
    return (
        sold.give_back(
            _totals((line.product_id, line.origin_id, line.quantity) for line in lines),
            _totals((line.product_id, line.warehouse_id, line.quantity) for line in lines),
            return_id,
            at=at,
        ),
        Return(sold.order_id, return_id, wants, at, lines),
    )


def _take_off(
    want: Want, kept: dict[tuple[str, str], int], ways: Counter[tuple[str, str, str]], order_id: str
) -> None:
    """Takes the pieces of one want off what is still kept; notes which went from where to where."""
    of_product = [key for key in kept if key[0] == want.product_id]
    sold = sum(kept[key] for key in of_product)
    if sold < want.quantity:
        raise MoreThanSold(order_id=order_id, product_id=want.product_id, requested=want.quantity, sold=sold)
    missing = want.quantity
    for key in sorted(of_product, key=lambda key: key[1] != want.warehouse_id):
        if quantity := min(missing, kept[key]):
            ways[want.product_id, key[1], want.warehouse_id or key[1]] += quantity
            kept[key] -= quantity
            missing -= quantity


def _totals(pieces: Iterable[tuple[str, str, int]]) -> tuple[Line, ...]:
    """A line for each product and warehouse, in a fixed order."""
    totals: Counter[tuple[str, str]] = Counter()
    for product_id, warehouse_id, quantity in pieces:
        totals[product_id, warehouse_id] += quantity
    return tuple(Line(*key, quantity) for key, quantity in sorted(totals.items()))
