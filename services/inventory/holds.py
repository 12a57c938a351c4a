"""An order's hold within one transaction: load, decide, save. The same for the RPCs and for the sweeper.

Everything is decided in here, after the write lock is taken, so that no two callers can both see the last
piece. A hold whose time is over counts as expired from that moment on, whether or not the sweeper has come
by.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from services.inventory import returns
from services.inventory.reservation import (
    REFUSALS,
    Reservation,
    ReservationNotFound,
    State,
    nothing_held,
    opened,
    refused,
)
from services.inventory.returns import Return
from services.inventory.stock import Line, OutOfStock, StockBelowReserved, StockLevel, Want, allocate
from services.inventory.store import Transaction
from services.kernel.errors import DomainError

HOLDS_PER_BATCH: Final = 100
"""Lapsed holds taken back at once: a few milliseconds of the only writer there is."""


def reserve(
    tx: Transaction,
    *,
    order_id: str,
    reservation_id: str,
    wants: tuple[Want, ...],
    expires_at: datetime,
    at: datetime,
) -> Reservation | DomainError:
    """Holds all of what is wanted, or nothing.

    A refusal for want of goods is returned, not raised: its tombstone is written, and the order can never
    reserve again. Raises what `Reservation.asked_again` raises if the order has asked before.
    """
    found = _load(tx, order_id, at)
    if found is not None:
        return found.asked_again(wants)
    try:
        _check_all_known(tx, wants)
        lines = _allocate(tx, wants, at)
    except REFUSALS as refusal:
        tx.reservations.save(refused(order_id=order_id, wants=wants, refusal=refusal, at=at))
        return refusal
    return tx.reservations.save(
        opened(
            order_id=order_id,
            reservation_id=reservation_id,
            wants=wants,
            lines=lines,
            expires_at=expires_at,
            at=at,
        )
    )


def commit(tx: Transaction, *, order_id: str, at: datetime) -> Reservation:
    """Sells what the order holds; takes an expired hold again if stock is left.

    Raises ReservationNotFound, ReservationClosed, or OutOfStock if the hold expired and the goods are gone.
    """
    found = _load(tx, order_id, at)
    if found is None:
        raise ReservationNotFound(order_id=order_id)
    held = found
    if found.state is State.EXPIRED:
        held = found.take_again(_allocate(tx, found.wants, at), at=at)
    return _save_change(tx, found, held.commit(at=at))


def release(tx: Transaction, *, order_id: str, at: datetime) -> Reservation:
    """Brings the order's stock to nothing from any state, and writes down that it did."""
    found = tx.reservations.find(order_id)
    if found is None:
        return tx.reservations.save(nothing_held(order_id=order_id, at=at))
    return _save_change(tx, found, found.release(at=at))


def expire_lapsed(tx: Transaction, *, at: datetime, product_id: str = "") -> int:
    """Takes back a batch of holds whose time is over (of one product, if it is given); how many it was."""
    lapsed = tx.reservations.lapsed(at=at, holds_max=HOLDS_PER_BATCH, product_id=product_id)
    for held in lapsed:
        tx.reservations.save(held.expire(at=at))
    return len(lapsed)


def give_back(
    tx: Transaction, *, order_id: str, return_id: str, wants: tuple[Want, ...], at: datetime
) -> Reservation | DomainError:
    """Takes back pieces of what the order has bought; answers with what it has bought, as it is then.

    A refusal for want of sold goods is returned, not raised: it is written down, and this return is refused
    for ever. Raises ReservationNotFound, WarehouseNotFound, and what `Return.asked_again` raises.
    """
    sold = tx.reservations.find(order_id)
    if sold is None:
        raise ReservationNotFound(order_id=order_id)
    if made := tx.returns.find(order_id, return_id):
        made.asked_again(wants)
        return sold
    for want in wants:
        if want.warehouse_id:
            tx.warehouses.check(want.warehouse_id)
    try:
        left, accepted = returns.give_back(sold, return_id, wants, at=at)
    except returns.REFUSALS as refusal:
        tx.returns.add(Return(order_id, return_id, wants, at, refusal=refusal))
        return refusal
    tx.returns.add(accepted)
    return tx.reservations.save(left)


def correct(
    tx: Transaction,
    product_id: str,
    warehouse_id: str,
    change: Callable[[StockLevel], StockLevel],
    *,
    at: datetime,
) -> StockLevel:
    """The level after this change, once lapsed holds in its way have been taken back.

    Raises ProductNotFound, WarehouseNotFound, or StockBelowReserved if live holds are in its way.
    """
    check_known(tx, product_id, warehouse_id)
    while True:
        try:
            return tx.stock.save(change(tx.stock.level(product_id, warehouse_id, at=at)))
        except StockBelowReserved:
            if not expire_lapsed(tx, at=at, product_id=product_id):
                raise


def check_known(tx: Transaction, product_id: str, warehouse_id: str) -> None:
    """Raises ProductNotFound, or WarehouseNotFound if one is named."""
    tx.products.get(product_id)
    if warehouse_id:
        tx.warehouses.check(warehouse_id)


def _check_all_known(tx: Transaction, wants: tuple[Want, ...]) -> None:
    known = tx.products.known(want.product_id for want in wants)
    for want in wants:
        if want.warehouse_id or want.product_id not in known:
            check_known(tx, want.product_id, want.warehouse_id)


def _load(tx: Transaction, order_id: str, at: datetime) -> Reservation | None:
    """The order's reservation as it is at this time, expired if it has lapsed."""
    found = tx.reservations.find(order_id)
    if found is not None and found.lapsed(at):
        return tx.reservations.save(found.expire(at=at))
    return found


def _save_change(tx: Transaction, before: Reservation, after: Reservation) -> Reservation:
    return after if after is before else tx.reservations.save(after)


def _allocate(tx: Transaction, wants: tuple[Want, ...], at: datetime) -> tuple[Line, ...]:
    """From where to take what is wanted, once every lapsed hold in the way has been taken back."""
    product_ids = {want.product_id for want in wants}
    while True:
        try:
            return allocate(wants, tx.stock.levels(product_ids))
        except OutOfStock as shortage:
            if not expire_lapsed(tx, at=at, product_id=shortage.metadata["product_id"]):
                raise
