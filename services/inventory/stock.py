"""How much of a product is where, and from where an order's pieces are taken."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.kernel import errors, ids

DEFAULT_WAREHOUSE_ID: Final = ids.derived("inventory", "warehouse", "default")


class WarehouseNotFound(errors.NotFound):
    """There is no warehouse {warehouse_id}."""


class StockBelowReserved(errors.WrongState):
    """Product {product_id} cannot be set to {on_hand} pieces: {reserved} are held for orders."""


class OutOfStock(errors.WrongState):
    """Product {product_id}: {requested} wanted, {available} available."""


class MovementKind(StrEnum):
    """Why stock changed."""

    SET = "set"
    RESERVE = "reserve"
    RELEASE = "release"
    EXPIRE = "expire"
    COMMIT = "commit"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Movement:
    """One row of the ledger: a change of one level, and why."""

    kind: MovementKind
    product_id: str
    warehouse_id: str
    delta_on_hand: int
    delta_reserved: int
    at: datetime
    order_id: str = ""
    """The order it was for; empty for those of the warehouse."""


@dataclass(frozen=True, slots=True)
class StockAdjusted:
    product_id: str
    warehouse_id: str
    delta: int
    on_hand: int
    at: datetime


@dataclass(frozen=True, slots=True)
class StockLevel:
    """Pieces of one product in one warehouse."""

    product_id: str
    warehouse_id: str
    on_hand: int
    reserved: int
    updated_at: datetime
    pending_movements: tuple[Movement, ...] = ()
    """What moved since it was loaded; saved with it."""

    pending_events: tuple[StockAdjusted, ...] = ()

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved

    def count(self, on_hand: int, *, at: datetime) -> "StockLevel":
        """The level after somebody counted; raises StockBelowReserved if more than that is held."""
        if on_hand < self.reserved:
            raise StockBelowReserved(product_id=self.product_id, on_hand=on_hand, reserved=self.reserved)
        delta = on_hand - self.on_hand
        if delta == 0:
            return self
        movement = Movement(MovementKind.SET, self.product_id, self.warehouse_id, delta, 0, at)
        return replace(
            self,
            on_hand=on_hand,
            updated_at=at,
            pending_movements=(*self.pending_movements, movement),
            pending_events=(
                *self.pending_events,
                StockAdjusted(self.product_id, self.warehouse_id, delta, on_hand, at),
            ),
        )


@dataclass(frozen=True, slots=True, order=True)
class Want:
    """Pieces of one product, from one warehouse or (if that is empty) from any."""

    product_id: str
    warehouse_id: str
    quantity: int


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """Pieces of one product from one warehouse."""

    product_id: str
    warehouse_id: str
    quantity: int


def summed(wants: Iterable[Want]) -> tuple[Want, ...]:
    """The same pieces with a line for each product and warehouse, in a fixed order."""
    totals: dict[tuple[str, str], int] = {}
    for want in wants:
        key = (want.product_id, want.warehouse_id)
        totals[key] = totals.get(key, 0) + want.quantity
    return tuple(sorted(Want(*key, quantity) for key, quantity in totals.items()))


def allocate(wants: Iterable[Want], levels: Sequence[StockLevel]) -> tuple[Line, ...]:
    """From which warehouses to take what is wanted: all of it, or OutOfStock.

    What must come from one warehouse is taken first. The rest comes from the warehouse with most pieces, and
    from several only if no single one has enough, so that as few parcels as possible leave the house.
    """
    left = {(level.product_id, level.warehouse_id): level.available for level in levels}
    taken: dict[tuple[str, str], int] = {}
    for want in sorted(summed(wants), key=lambda want: not want.warehouse_id):
        for line in _take(want, left):
            key = (line.product_id, line.warehouse_id)
            left[key] -= line.quantity
            taken[key] = taken.get(key, 0) + line.quantity
    return tuple(sorted(Line(*key, quantity) for key, quantity in taken.items()))


def _take(want: Want, left: dict[tuple[str, str], int]) -> Iterator[Line]:
    fitting = [
        (-available, warehouse_id)
        for (product_id, warehouse_id), available in left.items()
        if product_id == want.product_id and want.warehouse_id in ("", warehouse_id) and available > 0
    ]
    available = -sum(pieces for pieces, _ in fitting)
    if available < want.quantity:
        raise OutOfStock(product_id=want.product_id, requested=want.quantity, available=available)
    missing = want.quantity
    for pieces, warehouse_id in sorted(fitting):
        quantity = min(missing, -pieces)
        if quantity:
            yield Line(want.product_id, warehouse_id, quantity)
        missing -= quantity
