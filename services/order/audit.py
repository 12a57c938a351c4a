"""What must hold of orders, as questions to a live database."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

import sqlalchemy as sa
from google.protobuf.message import DecodeError

from services.chassis.audit import Check, Finding, judged
from services.chassis.storage.event_store import StoredEvent
from services.chassis.storage.session import Row
from services.kernel.clock import from_micros
from services.kernel.errors import DomainError
from services.order import convert, domain, events, facts, projection
from services.order.store import event_from_stored, stored_event
from services.order.tables import order_drives, order_events, order_lines, orders, outbox_rows

ENDS_WITHIN: Final = timedelta(minutes=10)
"""Once faults stop, an accepted order is settled within this time: every step out of patience, and room."""


TOLD_WITHIN: Final = timedelta(hours=23)
"""How far back the outbox is compared with the events: it keeps what was published for a day."""

_SENSELESS: Final = (AssertionError, convert.UnknownFact, DecodeError, DomainError)
"""What a history that is damaged leads to when it is read."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one order stands, for checks across services."""

    order_id: str
    user_id: str
    state: domain.State
    total_minor: int
    currency: str
    refunded_minor: int
    taken_minor: int
    """What was taken for it, refunds not subtracted."""

    waits_to_be_paid: bool
    """Whether its money is only held, until it is shipped."""

    is_settled: bool
    """Whether nothing is under way."""

    @property
    def worth_minor(self) -> int:
        """What of its price is the shop's for good, once nothing is under way."""
        return 0 if self.has_ended or self.waits_to_be_paid else self.total_minor - self.refunded_minor

    @property
    def given_back_minor(self) -> int:
        """What of it was taken and went back; the rest of what was refunded was never taken."""
        return self.refunded_minor - (self.total_minor - self.taken_minor) if self.taken_minor else 0

    @property
    def has_ended(self) -> bool:
        """Whether it must hold and have taken nothing."""
        return self.state in domain.ENDED


def standings(connection: sa.Connection) -> dict[str, Standing]:
    """Every order by its id."""
    return {
        row["order_id"]: Standing(
            row["order_id"],
            row["user_id"],
            domain.State(row["state"]),
            row["total_minor"],
            row["currency"],
            row["refunded_minor"],
            taken_minor=projection.taken_minor(row),
            waits_to_be_paid=waits_to_be_paid(row),
            is_settled=not row["under_way"],
        )
        for row in connection.execute(sa.select(orders)).mappings()
    }


def waits_to_be_paid(row: Row) -> bool:
    """Whether the money of the order that this row shows is only held; what was shipped must be paid."""
    stands = row["state"] in domain.STANDING
    return stands and not row["ship_time"] and not projection.taken_minor(row)


def bought(connection: sa.Connection) -> dict[str, dict[str, int]]:
    """By order, then by product: how many pieces it is about."""
    found: dict[str, dict[str, int]] = {}
    columns = (order_lines.c.order_id, order_lines.c.product_id, order_lines.c.quantity)
    for order_id, product_id, quantity in connection.execute(sa.select(*columns)):
        found.setdefault(order_id, {})[product_id] = quantity
    return found


def to_come_back(connection: sa.Connection) -> dict[str, dict[str, dict[str, int]]]:
    """By order, then by refund, then by product: the pieces that were to go back on sale with it."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    refunds = sa.select(order_events).where(order_events.c.type == "refund_requested")
    for row in connection.execute(refunds).mappings():
        refund = event_from_stored(stored_event(row)).fact
        assert isinstance(refund, facts.RefundRequested)
        if refund.return_stock:
            found.setdefault(row["stream_id"], {})[refund.refund_id] = dict(refund.quantities)
    return found


def _find_replay(connection: sa.Connection) -> Finding:
    rows = connection.execute(sa.select(orders)).mappings()
    shown: dict[str, dict[str, object]] = {row["order_id"]: {**row} for row in rows}
    lines: dict[str, list[dict[str, object]]] = {}
    in_order = sa.select(order_lines).order_by(order_lines.c.order_id, order_lines.c.line)
    for line in connection.execute(in_order).mappings():
        lines.setdefault(line["order_id"], []).append({**line})
    violations, count = [], 0
    for order_id, stored in _histories(connection):
        count += 1
        row = shown.pop(order_id, None)
        try:
            order = domain.replay(order_id, map(event_from_stored, stored))
        except _SENSELESS as broken:
            violations.append(f"order {order_id}: {broken}")
            continue
        if row != projection.order_row(order) or lines.get(order_id) != projection.line_rows(order):
            violations.append(f"order {order_id}: its row differs from its events")
    violations += [f"order {order_id}: a row without events" for order_id in shown]
    return judged("orders.replay", violations, orders=count)


def _histories(connection: sa.Connection) -> Iterator[tuple[str, list[StoredEvent]]]:
    rows = connection.execution_options(yield_per=1000).execute(
        sa.select(order_events).order_by(order_events.c.stream_id, order_events.c.version)
    )
    for order_id, group in groupby(rows.mappings(), itemgetter("stream_id")):
        yield (
            order_id,
            [stored_event(row) for row in group],
        )


def _find_gapless(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(
            order_events.c.stream_id,
            sa.func.count().label("events"),
            sa.func.min(order_events.c.version).label("first"),
            sa.func.max(order_events.c.version).label("version"),
        ).group_by(order_events.c.stream_id)
    ).all()
    violations = [
        f"order {row.stream_id}: {row.events} events, from {row.first} to version {row.version}"
        for row in rows
        if (row.first, row.version) != (1, row.events)
    ]
    return judged("orders.gapless", violations, orders=len(rows), events=sum(row.events for row in rows))


def _find_ends(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(orders.c.order_id, orders.c.state, orders.c.under_way, orders.c.update_time)
    ).all()
    under_way = [row for row in rows if row.under_way]
    too_late = time.time_ns() // 1000 - ENDS_WITHIN // timedelta(microseconds=1)
    violations = [
        f"order {row.order_id}: {row.state} since {from_micros(row.update_time):%Y-%m-%dT%H:%M:%SZ}"
        for row in under_way
        if row.update_time < too_late
    ]
    return judged("orders.end", violations, orders=len(rows), under_way=len(under_way))


def _find_driven(connection: sa.Connection) -> Finding:
    under_way = set(connection.scalars(sa.select(orders.c.order_id).where(orders.c.under_way)))
    driven = set(connection.scalars(sa.select(order_drives.c.order_id)))
    violations = [f"order {order_id}: under way and nobody drives it" for order_id in under_way - driven]
    violations += [f"order {order_id}: settled and still driven" for order_id in driven - under_way]
    return judged("orders.driven", violations, under_way=len(under_way), driven=len(driven))


def _find_told(connection: sa.Connection) -> Finding:
    """Only of orders younger than anything the outbox may have forgotten."""
    since = from_micros(time.time_ns() // 1000) - TOLD_WITHIN
    told: dict[str, list[str]] = {}
    for row in connection.execute(
        sa.select(outbox_rows.c.aggregate_id, outbox_rows.c.type).order_by(outbox_rows.c.seq)
    ):
        told.setdefault(row.aggregate_id, []).append(row.type)
    violations, count = [], 0
    for order_id, stored in _histories(connection):
        if stored[0].at < since:
            continue
        try:
            history = tuple(map(event_from_stored, stored))
            order = domain.replay(order_id, history)
        except _SENSELESS:
            continue  # orders.replay says so
        said = [
            message.DESCRIPTOR.full_name
            for event in history
            if (message := events.published(order, event.fact)) is not None
        ]
        count += len(said)
        if told.get(order_id, []) != said:
            violations.append(f"order {order_id}: {len(said)} facts, {len(told.get(order_id, []))} told")
    return judged("orders.told", violations, facts=count)


CHECKS: Final = (
    Check("orders.replay", "Rebuilding orders from their events gives the same rows.", _find_replay),
    Check("orders.gapless", "The events of an order are numbered without gaps.", _find_gapless),
    Check("orders.end", f"Every accepted order is settled within {ENDS_WITHIN}.", _find_ends),
    Check("orders.driven", "An order is driven if, and only if, it is under way.", _find_driven),
    Check("orders.told", "Every fact that is published stands in the outbox, in order.", _find_told),
)
