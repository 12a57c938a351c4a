"""Payments in and out of a transaction, with their events and ledger entries."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.events import inbox
from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import from_micros, to_micros
from services.kernel.ids import Ids
from services.kernel.money import Money
from services.payment import events
from services.payment.domain import Kind, Operation, Outcome, Payment
from services.payment.ledger import Entry, entry_for
from services.payment.method_store import Methods
from services.payment.refusals import PaymentNotFound
from services.payment.tables import compared_books, ledger_lines, operations, payments, seen_webhooks
from services.payment.work_store import Work

SERVICE: Final = "payment"


class Transaction:
    """What a transaction of this service works with."""

    def __init__(self, session: Session, ids: Ids) -> None:
        outbox = Outbox(session)
        self.methods = Methods(session, outbox, ids)
        self.payments = Payments(session, outbox, ids)
        self.work = Work(session)
        self.books = ComparedBooks(session)
        self.seen = SeenWebhooks(session)


class Payments:
    """The money of each order."""

    def __init__(self, session: Session, outbox: Outbox, ids: Ids) -> None:
        self._session = session
        self._outbox = outbox
        self._ids = ids
        self._found: dict[str, tuple[Operation, ...]] = {}

    def of_order(self, order_id: str) -> Payment | None:
        """The order's payment or tombstone, None if there is neither."""
        return self._load(self._session.one(_OF_ORDER, of_order_id=order_id))

    def get_of_order(self, order_id: str) -> Payment:
        """Raises PaymentNotFound."""
        found = self.of_order(order_id)
        if found is None:
            raise PaymentNotFound(payment=f"of order {order_id}")
        return found

    def get(self, payment_id: str) -> Payment:
        """Raises PaymentNotFound."""
        found = self._load(self._session.one(_BY_ID, of_payment_id=payment_id))
        if found is None:
            raise PaymentNotFound(payment=payment_id)
        return found

    def save(self, payment: Payment) -> Payment:
        """Writes the payment with its operations, events and ledger entries.

        It is new, or was loaded in this transaction, which knows by that what there is to write.
        Raises StaleVersion if someone else saved it since it was loaded.
        """
        saved = replace(payment, version=payment.version + 1, pending_events=())
        if payment.version == 0:
            self._session.run(_ADD, **_row(saved))
        else:
            self._change(saved, payment.version)
        self._save_operations(saved)
        for event in payment.pending_events:
            if entry := entry_for(event):
                self._post(payment.order_id, entry, payment.updated_at)
            message = events.to_message(payment, event)
            self._outbox.add(
                envelope(SERVICE, payment.order_id, message, id=self._ids.new(), at=payment.updated_at)
            )
        return saved

    def _change(self, saved: Payment, expected_version: int) -> None:
        row = _row(saved)
        new = {f"new_{name}": row[name] for name in _CHANGING}
        if not self._session.run(_CHANGE, of_order_id=saved.order_id, of_version=expected_version, **new):
            raise StaleVersion(stream_id=f"payment of {saved.order_id}", expected_version=expected_version)

    def _save_operations(self, saved: Payment) -> None:
        known = self._found.get(saved.order_id, ())
        for was, now in zip(known, saved.operations, strict=False):
            if was != now:
                row = _operation_row(saved.order_id, now)
                new = {f"new_{name}": row[name] for name in _SETTLING}
                self._session.run(_SETTLE, of_order_id=saved.order_id, of_number=now.number, **new)
        for begun in saved.operations[len(known) :]:
            self._session.run(_BEGIN, **_operation_row(saved.order_id, begun))
        self._found[saved.order_id] = saved.operations

    def _post(self, order_id: str, entry: Entry, at: datetime) -> None:
        """The primary key refuses a second entry for one operation."""
        for line in entry.lines:
            self._session.run(
                _POST,
                entry_id=entry.entry_id,
                account=str(line.account),
                order_id=order_id,
                kind=str(entry.kind),
                amount_minor=line.amount.amount_minor,
                currency=line.amount.currency,
                create_time=to_micros(at),
            )

    def _load(self, row: Row | None) -> Payment | None:
        if row is None:
            return None
        order_id = row["order_id"]
        asked = tuple(map(operation_from_row, self._session.all(_OPERATIONS, of_order_id=order_id)))
        self._found[order_id] = asked
        return payment_from_row(row, asked)


class ComparedBooks:
    """How far the comparison with each provider's books has come."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def cursor(self, provider: str) -> str:
        """Empty before the first comparison."""
        row = self._session.one(_CURSOR, of_provider=provider)
        return row["cursor"] if row else ""

    def advance(self, provider: str, cursor: str) -> None:
        if not self._session.run(_ADVANCE, of_provider=provider, new_cursor=cursor):
            self._session.run(_FIRST_CURSOR, provider=provider, cursor=cursor)


class SeenWebhooks:
    """Which of the providers' webhooks had their effect."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def has(self, provider: str, webhook_id: str) -> bool:
        return self._session.one(_SEEN, of_consumer=provider, of_event_id=webhook_id) is not None

    def add(self, provider: str, webhook_id: str, *, at: datetime) -> bool:
        """Whether this transaction is the first to have its effect."""
        return inbox.claim(self._session, consumer=provider, event_id=webhook_id, at=at)


def payment_from_row(row: Row, operations: tuple[Operation, ...]) -> Payment:
    """The payment that a row of `payments` and its operations hold."""
    return Payment(
        order_id=row["order_id"],
        payment_id=row["payment_id"] or "",
        user_id=row["user_id"],
        payment_method_id=row["payment_method_id"],
        amount=Money(row["amount_minor"], row["currency"]),
        created_at=from_micros(row["create_time"]),
        updated_at=from_micros(row["update_time"]),
        closed=bool(row["closed"]),
        direct=bool(row["direct"]),
        operations=operations,
        version=row["version"],
    )


def operation_from_row(row: Row) -> Operation:
    """The operation that a row of `operations` holds."""
    return Operation(
        number=row["number"],
        kind=Kind(row["kind"]),
        key=row["provider_key"],
        amount=Money(row["amount_minor"], row["currency"]),
        begun_at=from_micros(row["create_time"]),
        refund_id=row["refund_id"],
        outcome=Outcome(row["outcome"]),
        reference=row["provider_reference"],
        decline_code=row["decline_code"],
        settled_at=None if row["settle_time"] is None else from_micros(row["settle_time"]),
    )


def _operation_row(order_id: str, operation: Operation) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "number": operation.number,
        "kind": str(operation.kind),
        "provider_key": operation.key,
        "refund_id": operation.refund_id,
        "amount_minor": operation.amount.amount_minor,
        "currency": operation.amount.currency,
        "outcome": str(operation.outcome),
        "provider_reference": operation.reference,
        "decline_code": operation.decline_code,
        "create_time": to_micros(operation.begun_at),
        "settle_time": to_micros(operation.settled_at) if operation.settled_at else None,
    }


def _row(payment: Payment) -> dict[str, Any]:
    return {
        "order_id": payment.order_id,
        "payment_id": payment.payment_id or None,
        "user_id": payment.user_id,
        "payment_method_id": payment.payment_method_id,
        "state": str(payment.state),
        "amount_minor": payment.amount.amount_minor,
        "captured_minor": payment.captured.amount_minor,
        "refunded_minor": payment.refunded.amount_minor,
        "currency": payment.amount.currency,
        "closed": payment.closed,
        "direct": payment.direct,
        "version": payment.version,
        "create_time": to_micros(payment.created_at),
        "update_time": to_micros(payment.updated_at),
    }


def _insert(table: sa.Table) -> Statement:
    return Statement(sa.insert(table).values({c.name: sa.bindparam(c.name) for c in table.columns}))


_CHANGING: Final = ("state", "captured_minor", "refunded_minor", "closed", "version", "update_time")
_SETTLING: Final = ("outcome", "provider_reference", "decline_code", "settle_time")

_OF_ORDER: Final = Statement(sa.select(payments).where(payments.c.order_id == sa.bindparam("of_order_id")))
_BY_ID: Final = Statement(sa.select(payments).where(payments.c.payment_id == sa.bindparam("of_payment_id")))
_ADD: Final = _insert(payments)
_CHANGE: Final = Statement(
    sa.update(payments)
    .where(
        payments.c.order_id == sa.bindparam("of_order_id"), payments.c.version == sa.bindparam("of_version")
    )
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGING})
)
_OPERATIONS: Final = Statement(
    sa.select(operations)
    .where(operations.c.order_id == sa.bindparam("of_order_id"))
    .order_by(operations.c.number)
)
_BEGIN: Final = _insert(operations)
_SETTLE: Final = Statement(
    sa.update(operations)
    .where(
        operations.c.order_id == sa.bindparam("of_order_id"),
        operations.c.number == sa.bindparam("of_number"),
    )
    .values({name: sa.bindparam(f"new_{name}") for name in _SETTLING})
)
_POST: Final = _insert(ledger_lines)
_CURSOR: Final = Statement(
    sa.select(compared_books.c.cursor).where(compared_books.c.provider == sa.bindparam("of_provider"))
)
_FIRST_CURSOR: Final = _insert(compared_books)
_SEEN: Final = Statement(
    sa.select(seen_webhooks.c.event_id).where(
        seen_webhooks.c.consumer == sa.bindparam("of_consumer"),
        seen_webhooks.c.event_id == sa.bindparam("of_event_id"),
    )
)
_ADVANCE: Final = Statement(
    sa.update(compared_books)
    .where(compared_books.c.provider == sa.bindparam("of_provider"))
    .values(cursor=sa.bindparam("new_cursor"))
)
