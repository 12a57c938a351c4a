"""The books of a small shop in real SQLite, written row by row, so that they can be wrong in one place."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from bodega.order.v1 import order_pb2
from google.type.money_pb2 import Money

from services.chassis.events import inbox, outbox
from services.cli.audit.books import Books, CrossCheck, Differences
from services.cli.audit.streams import Entry, Told
from services.inventory import tables as inventory
from services.notification import tables as notification
from services.order import tables as order
from services.payment import sandbox_books
from services.payment import tables as payment
from services.user import tables as user

METADATA = {
    "user": user.metadata,
    "inventory": inventory.metadata,
    "order": order.metadata,
    "payment": payment.metadata,
    "notification": notification.metadata,
}
UNDER_WAY = ("PENDING", "REJECTING", "CANCELLING")
OUTBOX = outbox.define(sa.MetaData())
INBOX = inbox.define(sa.MetaData())


class Shop:
    """Writes books, and asks checks about them."""

    def __init__(self) -> None:
        self.engines = {name: sa.create_engine("sqlite://", poolclass=sa.StaticPool) for name in METADATA}
        for name, metadata in METADATA.items():
            metadata.create_all(self.engines[name])
        self.provider = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        sandbox_books.metadata.create_all(self.provider)
        self.told = Told({name: {} for name in METADATA}, dict.fromkeys(METADATA, 1), {})

    def write(self, service: str, table: sa.Table, **row: Any) -> None:
        """A row; columns that are not named get something harmless."""
        filled = {column.name: _harmless(column) for column in table.columns if not column.nullable}
        engine = self.provider if service == "provider" else self.engines[service]
        with engine.begin() as connection:
            connection.execute(sa.insert(table).values({**filled, **row}))

    def find(self, check: CrossCheck) -> Differences:
        connections = {name: engine.connect() for name, engine in self.engines.items()}
        try:
            with self.provider.connect() as provider:
                return check.find(Books(connections, provider, lambda: self.told))
        finally:
            for connection in connections.values():
                connection.close()

    def violations(self, check: CrossCheck) -> list[str]:
        return list(self.find(check).violations.values())

    def order(
        self,
        order_id: str,
        state: str,
        *,
        quantity: int = 2,
        unit_minor: int = 500,
        refunded: int = 0,
        under_way: bool | None = None,
        capture: str = "confirm",
        captured_minor: int = 0,
        is_shipped: bool = False,
    ) -> None:
        """An order of one line, of which so many pieces were refunded.

        `captured_minor` is what was taken for one whose `capture` is "shipment".
        """
        self.write(
            "order",
            order.orders,
            order_id=order_id,
            state=state,
            under_way=state in UNDER_WAY if under_way is None else under_way,
            total_minor=quantity * unit_minor,
            refunded_minor=refunded * unit_minor,
            currency="USD",
            capture=capture,
            captured_at_shipment_minor=captured_minor,
            ship_time=1 if is_shipped else None,
        )
        self.write(
            "order",
            order.order_lines,
            order_id=order_id,
            product_id="beans",
            quantity=quantity,
            unit_price_minor=unit_minor,
            refunded_quantity=refunded,
        )

    def refund_requested(self, order_id: str, quantity: int, *, return_stock: bool) -> None:
        """The event that had pieces refunded; without the rest of the order's history."""
        requested = order_pb2.RefundRequested(
            refund_id="r",
            lines=[order_pb2.RefundLine(product_id="beans", quantity=quantity)],
            amount=Money(currency_code="USD", units=1),
            return_stock=return_stock,
        )
        event = order_pb2.OrderEvent(refund_requested=requested)
        self.write(
            "order",
            order.order_events,
            stream_id=order_id,
            version=1,
            type="refund_requested",
            body=event.SerializeToString(),
        )

    def hold(self, order_id: str, state: str, *, quantity: int = 2, returned: int = 0) -> None:
        self.write(
            "inventory",
            inventory.reservations,
            order_id=order_id,
            reservation_id=f"r-{order_id}",
            state=state,
        )
        self.write(
            "inventory",
            inventory.reservation_lines,
            order_id=order_id,
            product_id="beans",
            warehouse_id="w",
            quantity=quantity,
            returned=returned,
        )

    def returned(self, order_id: str, return_id: str, quantity: int) -> None:
        """A return of so many pieces; of none: one that was refused."""
        self.write("inventory", inventory.returns, order_id=order_id, return_id=return_id)
        if quantity:
            self.write(
                "inventory",
                inventory.return_lines,
                order_id=order_id,
                return_id=return_id,
                product_id="beans",
                origin_id="w",
                warehouse_id="w",
                quantity=quantity,
            )

    def moved(self, order_id: str, entry_id: str, amount_minor: int) -> None:
        """An entry of the ledger: positive for what was taken, negative for what was given back."""
        for account, amount in (("provider_clearing", amount_minor), ("sales", -amount_minor)):
            self.write(
                "payment",
                payment.ledger_lines,
                entry_id=entry_id,
                account=account,
                order_id=order_id,
                kind="CAPTURE",
                amount_minor=amount,
                currency="USD",
            )

    def fact(
        self, service: str, event_id: str, of: str, event_type: str, *, at: int | None, seq: int | None = None
    ) -> None:
        """An event in an outbox; `at` is where the stream has it, `seq` where the row says so."""
        self.write(
            service,
            OUTBOX,
            seq=None,
            event_id=event_id,
            aggregate_id=of,
            subject=of,
            type=event_type,
            stream_seq=seq if seq is not None else at,
        )
        if at is not None:
            events = {**self.told.events[service], event_id: Entry(at, event_type)}
            self.told = Told({**self.told.events, service: events}, self.told.first, self.told.dead)

    def received(self, consumer: str, event_id: str) -> None:
        self.write("notification", INBOX, consumer=consumer, event_id=event_id)

    def message(self, order_id: str, event_type: str, event_id: str) -> None:
        self.write(
            "notification",
            notification.notifications,
            sequence=None,
            notification_id=f"n-{event_id}",
            event_id=event_id,
            event_type=event_type,
            order_id=order_id,
            channel="CONSOLE",
            state="PENDING",
        )

    def close(self) -> None:
        for engine in (*self.engines.values(), self.provider):
            engine.dispose()


def _harmless(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, sa.LargeBinary):
        return b""
    return 0 if isinstance(column.type, sa.Integer) else ""


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.close()
