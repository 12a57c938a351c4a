"""What an order holds of the stock, and what may become of it.

There is one reservation an order, for as long as the order is kept. Besides holds there are two tombstones:
REFUSED, a reserve that was answered no, and RELEASED, which says that the order was undone, even if there was
nothing to undo yet. They are what a reserve or commit meets that was sent before the undo and arrives after
it.

             ┌──────────────► REFUSED ───┐
    (reserve)┤                           │
             └► RESERVED ───► COMMITTED ─┼─release─► RELEASED
                  │    ▲      ▲          │
             expire    └─take again, commit
                  ▼    │                 │
                 EXPIRED ────────────────┘
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.inventory.catalog import ProductNotFound
from services.inventory.stock import Line, Movement, MovementKind, OutOfStock, Want
from services.inventory.warehouse import WarehouseNotFound
from services.kernel import errors


class ReservationNotFound(errors.NotFound):
    """Order {order_id} never held any stock."""


class ReservationClosed(errors.WrongState):
    """Order {order_id} can hold no stock any more: its reservation is {state}."""


class ReservationMismatch(errors.Invalid):
    """Order {order_id} has reserved already, and other lines than these."""

    field = "lines"


REFUSALS: Final[tuple[type[errors.DomainError], ...]] = (OutOfStock, ProductNotFound, WarehouseNotFound)
"""What a reserve is refused with for good."""


class State(StrEnum):
    RESERVED = "reserved"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StockReserved:
    order_id: str
    reservation_id: str
    lines: tuple[Line, ...]
    expires_at: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class StockReleased:
    order_id: str
    reservation_id: str
    lines: tuple[Line, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class StockCommitted:
    order_id: str
    reservation_id: str
    lines: tuple[Line, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class ReservationExpired:
    order_id: str
    reservation_id: str
    lines: tuple[Line, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class StockReturned:
    order_id: str
    return_id: str
    lines: tuple[Line, ...]
    at: datetime


HoldEvent = StockReserved | StockReleased | StockCommitted | ReservationExpired | StockReturned


@dataclass(frozen=True, slots=True)
class Reservation:
    """Where the stock of one order stands. Every transition carries the movements it causes."""

    order_id: str
    state: State
    created_at: datetime
    updated_at: datetime
    id: str = ""
    """Of the hold; empty if there never was one."""

    wants: tuple[Want, ...] = ()
    """What the order asked for, summed; what a repeat is compared with and an expired hold taken again by."""

    lines: tuple[Line, ...] = ()
    """What it holds where, or held last."""

    expires_at: datetime | None = None
    refusal: errors.DomainError | None = None
    """Why it is REFUSED."""

    version: int = 0
    """How often it was saved; 0 for one that never was."""

    pending_movements: tuple[Movement, ...] = ()
    pending_events: tuple[HoldEvent, ...] = ()

    def lapsed(self, at: datetime) -> bool:
        """Whether this hold has run out of time, though nobody has taken it back yet."""
        return self.state is State.RESERVED and self.expires_at is not None and self.expires_at <= at

    def asked_again(self, wants: tuple[Want, ...]) -> "Reservation":
        """The answer to another reserve of this order: itself, whatever has become of the hold.

        Raises ReservationClosed after a release, the old refusal if there was one, and ReservationMismatch
        for other lines.
        """
        if self.state is State.RELEASED:
            raise ReservationClosed(order_id=self.order_id, state=self.state)
        if wants != self.wants:
            raise ReservationMismatch(order_id=self.order_id)
        if self.refusal is not None:
            raise self.refusal
        return self

    def commit(self, *, at: datetime) -> "Reservation":
        """The hold becomes a sale; a sale stays one. Raises ReservationClosed after a release or refusal.

        An EXPIRED hold has nothing to sell: `take_again` first.
        """
        if self.state is State.COMMITTED:
            return self
        self.check_open()
        assert self.state is State.RESERVED, self.state
        return self._now(
            State.COMMITTED,
            _moves(MovementKind.COMMIT, self.order_id, self.lines, on_hand=-1, reserved=-1, at=at),
            StockCommitted(self.order_id, self.id, self.lines, at),
            at=at,
        )

    def check_open(self) -> None:
        """Raises ReservationClosed if this order can hold no stock any more."""
        if self.state in (State.RELEASED, State.REFUSED):
            raise ReservationClosed(order_id=self.order_id, state=self.state)

    def take_again(self, lines: tuple[Line, ...], *, at: datetime) -> "Reservation":
        """An expired hold, held once more by these lines until it is committed in the same breath."""
        assert self.state is State.EXPIRED, self.state
        moves = _moves(MovementKind.RESERVE, self.order_id, lines, reserved=1, at=at)
        return replace(self._now(State.RESERVED, moves, at=at), lines=lines)

    def expire(self, *, at: datetime) -> "Reservation":
        """What was held is for sale again, because its time is over."""
        assert self.lapsed(at), (self.state, self.expires_at)
        return self._now(
            State.EXPIRED,
            _moves(MovementKind.EXPIRE, self.order_id, self.lines, reserved=-1, at=at),
            ReservationExpired(self.order_id, self.id, self.lines, at),
            at=at,
        )

    def give_back(
        self, origins: tuple[Line, ...], arrivals: tuple[Line, ...], return_id: str, *, at: datetime
    ) -> "Reservation":
        """A sale without these pieces, by where they were sold from and by where they are now."""
        assert self.state is State.COMMITTED, self.state
        back = {(line.product_id, line.warehouse_id): line.quantity for line in origins}
        lines = tuple(
            replace(line, returned=line.returned + back.pop((line.product_id, line.warehouse_id), 0))
            for line in self.lines
        )
        assert not back, back
        moves = _moves(MovementKind.RETURN, self.order_id, arrivals, on_hand=1, at=at)
        returned = StockReturned(self.order_id, return_id, arrivals, at)
        return replace(self._now(State.COMMITTED, moves, returned, at=at), lines=lines)

    def release(self, *, at: datetime) -> "Reservation":
        """Brings whatever the order holds or has bought to nothing, and closes it for ever."""
        match self.state:
            case State.RELEASED:
                return self
            case State.RESERVED:
                moves = _moves(MovementKind.RELEASE, self.order_id, self.lines, reserved=-1, at=at)
                return self._now(State.RELEASED, moves, self._released(self.lines, at), at=at)
            case State.COMMITTED:
                return self._unsold(at)
            case State.EXPIRED | State.REFUSED:
                return self._now(State.RELEASED, (), at=at)

    def _unsold(self, at: datetime) -> "Reservation":
        """What has not come back yet comes back now."""
        left = tuple(Line(line.product_id, line.warehouse_id, line.kept) for line in self.lines if line.kept)
        moves = _moves(MovementKind.RETURN, self.order_id, left, on_hand=1, at=at)
        lines = tuple(replace(line, returned=line.quantity) for line in self.lines)
        told = (self._released(left, at),) if left else ()
        return replace(self._now(State.RELEASED, moves, *told, at=at), lines=lines)

    def _released(self, lines: tuple[Line, ...], at: datetime) -> StockReleased:
        return StockReleased(self.order_id, self.id, lines, at)

    def _now(
        self, state: State, moves: Iterable[Movement], *events: HoldEvent, at: datetime
    ) -> "Reservation":
        return replace(
            self,
            state=state,
            updated_at=at,
            pending_movements=(*self.pending_movements, *moves),
            pending_events=(*self.pending_events, *events),
        )


def opened(
    *,
    order_id: str,
    reservation_id: str,
    wants: tuple[Want, ...],
    lines: tuple[Line, ...],
    expires_at: datetime,
    at: datetime,
) -> Reservation:
    """A fresh hold of these lines."""
    return Reservation(
        order_id=order_id,
        state=State.RESERVED,
        created_at=at,
        updated_at=at,
        id=reservation_id,
        wants=wants,
        lines=lines,
        expires_at=expires_at,
        pending_movements=_moves(MovementKind.RESERVE, order_id, lines, reserved=1, at=at),
        pending_events=(StockReserved(order_id, reservation_id, lines, expires_at, at),),
    )


def refused(
    *, order_id: str, wants: tuple[Want, ...], refusal: errors.DomainError, at: datetime
) -> Reservation:
    """The tombstone of a reserve that was answered no: asked again, it answers the same."""
    return Reservation(
        order_id=order_id, state=State.REFUSED, created_at=at, updated_at=at, wants=wants, refusal=refusal
    )


def nothing_held(*, order_id: str, at: datetime) -> Reservation:
    """The tombstone of a release that found nothing to release."""
    return Reservation(order_id=order_id, state=State.RELEASED, created_at=at, updated_at=at)


def _moves(
    kind: MovementKind,
    order_id: str,
    lines: tuple[Line, ...],
    *,
    on_hand: int = 0,
    reserved: int = 0,
    at: datetime,
) -> tuple[Movement, ...]:
    """A movement for each line; `on_hand` and `reserved` say which way the pieces of it go."""
    return tuple(
        Movement(
            kind=kind,
            product_id=line.product_id,
            warehouse_id=line.warehouse_id,
            delta_on_hand=on_hand * line.quantity,
            delta_reserved=reserved * line.quantity,
            at=at,
            order_id=order_id,
        )
        for line in lines
    )
