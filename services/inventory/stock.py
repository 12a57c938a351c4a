"""How much of a product is where, and from where an order's pieces are taken."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.kernel import errors, ids

DEFAULT_WAREHOUSE_ID: Final = ids.derived("inventory", "warehouse", "default")


class StockBelowReserved(errors.WrongState):
    """Product {product_id} cannot be set to {on_hand} pieces: {reserved} are held for orders."""


class OutOfStock(errors.WrongState):
    """Product {product_id}: {requested} wanted, {available} available."""


class MovementKind(StrEnum):
    """Why stock changed."""

    SET = "set"
    ADJUST = "adjust"
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

    reason: str = ""
    """What somebody said about it."""

    sequence: int = 0
    """Its number among all movements of the shop; 0 until it is noted."""


@dataclass(frozen=True, slots=True)
class StockAdjusted:
    product_id: str
    warehouse_id: str
    delta: int
    on_hand: int
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StockLevel:
    """Pieces of one product in one warehouse."""

    product_id: str
    warehouse_id: str
    on_hand: int
    reserved: int
    updated_at: datetime
    preference: int = 0
    """Of its warehouse: orders take from the lowest number first."""

    pending_movements: tuple[Movement, ...] = ()
    """What moved since it was loaded; saved with it."""

    pending_events: tuple[StockAdjusted, ...] = ()

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved

    def count(self, on_hand: int, *, at: datetime) -> "StockLevel":
        """The level after somebody counted; raises StockBelowReserved if more than that is held."""
        return self._changed(MovementKind.SET, on_hand - self.on_hand, "", at)

    def adjust(self, delta: int, *, reason: str, at: datetime) -> "StockLevel":
        """The level after somebody corrected it by so many; raises StockBelowReserved as `count` does."""
        return self._changed(MovementKind.ADJUST, delta, reason, at)

    def _changed(self, kind: MovementKind, delta: int, reason: str, at: datetime) -> "StockLevel":
        on_hand = self.on_hand + delta
        if on_hand < self.reserved:
            raise StockBelowReserved(product_id=self.product_id, on_hand=on_hand, reserved=self.reserved)
        if delta == 0:
            return self
        movement = Movement(kind, self.product_id, self.warehouse_id, delta, 0, at, reason=reason)
        adjusted = StockAdjusted(self.product_id, self.warehouse_id, delta, on_hand, at, reason)
        return replace(
            self,
            on_hand=on_hand,
            updated_at=at,
            pending_movements=(*self.pending_movements, movement),
            pending_events=(*self.pending_events, adjusted),
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
    returned: int = 0
    """How many of them came back after they were sold."""

    @property
    def kept(self) -> int:
        """How many have not come back."""
        return self.quantity - self.returned


def summed(wants: Iterable[Want]) -> tuple[Want, ...]:
    """The same pieces with a line for each product and warehouse, in a fixed order."""
    totals: dict[tuple[str, str], int] = {}
    for want in wants:
        key = (want.product_id, want.warehouse_id)
        totals[key] = totals.get(key, 0) + want.quantity
    return tuple(sorted(Want(*key, quantity) for key, quantity in totals.items()))


def allocate(wants: Iterable[Want], levels: Sequence[StockLevel]) -> tuple[Line, ...]:
    """From which warehouses to take what is wanted: all of it, or OutOfStock.

    What must come from one warehouse is taken first. The rest comes whole from the most preferred warehouse
    that has enough of it, and only if none has, from several in order of preference: one parcel costs less
    than two. Of equally preferred warehouses the one with most pieces is first.
    """
    preferences = {level.warehouse_id: level.preference for level in levels}
    left = {(level.product_id, level.warehouse_id): level.available for level in levels}
    taken: dict[tuple[str, str], int] = {}
    for want in sorted(summed(wants), key=lambda want: not want.warehouse_id):
        for line in _take(want, left, preferences):
            key = (line.product_id, line.warehouse_id)
            left[key] -= line.quantity
            taken[key] = taken.get(key, 0) + line.quantity
    return tuple(sorted(Line(*key, quantity) for key, quantity in taken.items()))


def _take(want: Want, left: dict[tuple[str, str], int], preferences: dict[str, int]) -> Iterator[Line]:
    fitting = sorted(
        (preferences[warehouse_id], -pieces, warehouse_id)
        for (product_id, warehouse_id), pieces in left.items()
        if product_id == want.product_id and want.warehouse_id in ("", warehouse_id) and pieces > 0
    )
    available = -sum(pieces for _, pieces, _ in fitting)
    if available < want.quantity:
        raise OutOfStock(product_id=want.product_id, requested=want.quantity, available=available)
    whole = [place for place in fitting if -place[1] >= want.quantity]
    missing = want.quantity
    for _, pieces, warehouse_id in whole[:1] or fitting:
        quantity = min(missing, -pieces)
        if quantity:
            yield Line(want.product_id, warehouse_id, quantity)
        missing -= quantity
