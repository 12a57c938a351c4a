"""What orders hold, in and out of a transaction."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.inventory import stored
from services.inventory.announcements import Announcements
from services.inventory.reservation import REFUSALS, Reservation, State
from services.inventory.stock import Line, MovementKind
from services.inventory.stock_store import Stock
from services.inventory.tables import reservation_lines, reservations
from services.kernel.clock import from_micros, to_micros

_CHANGING: Final = ("state", "version", "update_time")
_CHANGING_LINES: Final = (MovementKind.RESERVE, MovementKind.RETURN)

_FIND = Statement(sa.select(reservations).where(reservations.c.order_id == sa.bindparam("order_id")))
_ADD = Statement(
    sa.insert(reservations).values(
        {column.name: sa.bindparam(column.name) for column in reservations.columns}
    )
)
_CHANGE = Statement(
    sa.update(reservations)
    .where(
        reservations.c.order_id == sa.bindparam("of_order_id"),
        reservations.c.version == sa.bindparam("of_version"),
    )
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGING})
)
_LINES = Statement(
    sa.select(reservation_lines)
    .where(reservation_lines.c.order_id == sa.bindparam("order_id"))
    .order_by(reservation_lines.c.product_id, reservation_lines.c.warehouse_id)
)
_ADD_LINE = Statement(
    sa.insert(reservation_lines).values(
        {column.name: sa.bindparam(column.name) for column in reservation_lines.columns}
    )
)
_FORGET_LINES = Statement(
    sa.delete(reservation_lines).where(reservation_lines.c.order_id == sa.bindparam("of_order_id"))
)

# The state stands in the SQL itself: a bound value would keep the planner from the index of live holds.
_LIVE = reservations.c.state == sa.literal_column("'reserved'")
_HAS_LAPSED = sa.and_(_LIVE, reservations.c.expire_time <= sa.bindparam("at", type_=sa.BigInteger))
_LAPSED = Statement(
    sa.select(reservations.c.order_id)
    .where(_HAS_LAPSED)
    .order_by(reservations.c.expire_time)
    .limit(sa.bindparam("holds_max", type_=sa.Integer))
)
_LAPSED_OF_PRODUCT = Statement(
    sa.select(reservations.c.order_id)
    .where(
        _HAS_LAPSED,
        sa.exists().where(
            reservation_lines.c.order_id == reservations.c.order_id,
            reservation_lines.c.product_id == sa.bindparam("product_id"),
        ),
    )
    .order_by(reservations.c.expire_time)
    .limit(sa.bindparam("holds_max", type_=sa.Integer))
)
_NEXT_EXPIRY = Statement(sa.select(sa.func.min(reservations.c.expire_time).label("expire_time")).where(_LIVE))


class Reservations:
    """What orders hold, in one transaction."""

    def __init__(self, session: Session, stock: Stock, announcements: Announcements) -> None:
        self._session = session
        self._stock = stock
        self._announcements = announcements

    def find(self, order_id: str) -> Reservation | None:
        """The order's hold or tombstone, if it ever asked for anything."""
        row = self._session.one(_FIND, order_id=order_id)
        return self._reservation(row) if row else None

    def save(self, reservation: Reservation) -> Reservation:
        """Writes the reservation with the movements and events that it carries.

        Raises StaleVersion if someone else saved it since it was loaded.
        """
        saved = replace(reservation, version=reservation.version + 1, pending_movements=(), pending_events=())
        if reservation.version == 0:
            self._session.run(_ADD, **_row(saved))
        else:
            self._change(saved, reservation.version)
        if any(movement.kind in _CHANGING_LINES for movement in reservation.pending_movements):
            self._replace_lines(saved, are_new=reservation.version == 0)
        self._announcements.tell(reservation.pending_events)
        self._stock.move(reservation.pending_movements)
        return saved

    def lapsed(self, *, at: datetime, holds_max: int, product_id: str = "") -> list[Reservation]:
        """Holds that have run out of time (of one product, if it is given), the oldest first."""
        if product_id:
            rows = self._session.all(
                _LAPSED_OF_PRODUCT, at=to_micros(at), holds_max=holds_max, product_id=product_id
            )
        else:
            rows = self._session.all(_LAPSED, at=to_micros(at), holds_max=holds_max)
        found = (self.find(row["order_id"]) for row in rows)
        return [reservation for reservation in found if reservation is not None]

    def next_expiry(self) -> datetime | None:
        """When the next hold runs out of time; None if nobody holds anything."""
        row = self._session.one(_NEXT_EXPIRY)
        return from_micros(row["expire_time"]) if row and row["expire_time"] is not None else None

    def _change(self, saved: Reservation, expected_version: int) -> None:
        row = _row(saved)
        new = {f"new_{name}": row[name] for name in _CHANGING}
        if not self._session.run(_CHANGE, of_order_id=saved.order_id, of_version=expected_version, **new):
            raise StaleVersion(stream_id=saved.order_id, expected_version=expected_version)

    def _replace_lines(self, saved: Reservation, *, are_new: bool) -> None:
        if not are_new:
            self._session.run(_FORGET_LINES, of_order_id=saved.order_id)
        self._session.many(
            _ADD_LINE,
            [
                {
                    "order_id": saved.order_id,
                    "product_id": line.product_id,
                    "warehouse_id": line.warehouse_id,
                    "quantity": line.quantity,
                    "returned": line.returned,
                }
                for line in saved.lines
            ],
        )

    def _reservation(self, row: Row) -> Reservation:
        lines = self._session.all(_LINES, order_id=row["order_id"])
        return Reservation(
            order_id=row["order_id"],
            state=State(row["state"]),
            created_at=from_micros(row["create_time"]),
            updated_at=from_micros(row["update_time"]),
            id=row["reservation_id"] or "",
            wants=stored.wants_from(row["wants"]),
            lines=tuple(
                Line(line["product_id"], line["warehouse_id"], line["quantity"], line["returned"])
                for line in lines
            ),
            expires_at=from_micros(row["expire_time"]) if row["expire_time"] is not None else None,
            refusal=stored.refusal_from(row["refusal"], REFUSALS),
            version=row["version"],
        )


def _row(reservation: Reservation) -> dict[str, Any]:
    return {
        "order_id": reservation.order_id,
        "reservation_id": reservation.id or None,
        "state": str(reservation.state),
        "wants": stored.wants_text(reservation.wants),
        "refusal": stored.refusal_text(reservation.refusal),
        "expire_time": to_micros(reservation.expires_at) if reservation.expires_at else None,
        "version": reservation.version,
        "create_time": to_micros(reservation.created_at),
        "update_time": to_micros(reservation.updated_at),
    }
