"""What must hold of the money, as questions to a live database.

`verify` also holds these books against those of the orders and of the provider.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

import sqlalchemy as sa
from bodega.payment.v1 import payment_events_pb2 as pb
from google.protobuf.message import Message

from services.chassis.audit import Check, Finding, judged
from services.kernel.clock import from_micros
from services.payment import sandbox_books
from services.payment.domain import Kind, Operation, Outcome, State
from services.payment.ledger import Account
from services.payment.store import operation_from_row, payment_from_row
from services.payment.tables import (
    ledger_lines,
    operations,
    outbox_rows,
    payment_methods,
    payments,
    unfinished,
)

SETTLES_WITHIN: Final = timedelta(minutes=10)
"""Once the provider answers, nothing stays open for longer: a capped backoff, and room."""


TOLD_WITHIN: Final = timedelta(hours=23)
"""How far back the outbox is compared with the operations: it keeps what was published for a day."""

_EVENT_OF: Final[dict[tuple[str, str], type[Message]]] = {
    (Kind.AUTHORIZE, Outcome.SUCCEEDED): pb.PaymentAuthorized,
    (Kind.AUTHORIZE, Outcome.DECLINED): pb.PaymentDeclined,
    (Kind.CAPTURE, Outcome.SUCCEEDED): pb.PaymentCaptured,
    (Kind.REFUND, Outcome.SUCCEEDED): pb.PaymentRefunded,
    (Kind.VOID, Outcome.SUCCEEDED): pb.PaymentVoided,
}

_Fact = tuple[str, str, int]
"""An event by its order, type and time."""


@dataclass(frozen=True, slots=True)
class OrderMoney:
    """What was taken for one order, for checks across services."""

    state: State
    captured_minor: int
    refunded_minor: int
    currency: str


def money_by_order(connection: sa.Connection) -> dict[str, OrderMoney]:
    """Every order's money, tombstones included."""
    columns = (payments.c.captured_minor, payments.c.refunded_minor, payments.c.currency)
    rows = connection.execute(sa.select(payments.c.order_id, payments.c.state, *columns))
    return {
        row.order_id: OrderMoney(State(row.state), row.captured_minor, row.refunded_minor, row.currency)
        for row in rows
    }


def books_agree(connection: sa.Connection, provider: sa.Connection) -> Finding:
    """Holds the provider's books against ours, payment by payment. What is under way is counted apart."""
    theirs = _provider_positions(provider)
    violations, under_way, count = [], 0, 0
    for row in connection.execute(sa.select(payments).where(payments.c.payment_id.is_not(None))):
        there = theirs.pop(row.payment_id, (0, 0, 0))
        if row.state == State.UNKNOWN:
            under_way += 1
            continue
        count += 1
        here = (int(row.state == State.AUTHORIZED), row.captured_minor, row.refunded_minor)
        if here != there:
            violations.append(f"payment {row.payment_id}: held, captured, refunded {here}, provider {there}")
    violations += [f"payment {payment_id}: only in the provider's books" for payment_id in theirs]
    return judged("payments.provider", violations, payments=count, under_way=under_way)


def _provider_positions(provider: sa.Connection) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    for row in provider.execute(sa.select(sandbox_books.authorizations)):
        held, captured, refunded = found.get(row.payment_id, (0, 0, 0))
        found[row.payment_id] = (
            held + row.held,
            captured + row.captured_minor,
            refunded + row.refunded_minor,
        )
    return found


def _find_balanced(connection: sa.Connection) -> Finding:
    amount, lines = sa.func.sum(ledger_lines.c.amount_minor), sa.func.count()
    currencies = sa.func.count(sa.distinct(ledger_lines.c.currency))
    rows = connection.execute(
        sa.select(ledger_lines.c.entry_id, amount, lines, currencies).group_by(ledger_lines.c.entry_id)
    ).all()
    violations = [
        f"entry {entry_id}: {lines} lines in {currencies} currencies, sum {amount}"
        for entry_id, amount, lines, currencies in rows
        if (amount, lines, currencies) != (0, 2, 1)
    ]
    return judged("ledger.balanced", violations, entries=len(rows))


def _find_posted(connection: sa.Connection) -> Finding:
    """One entry for each operation that moved money, of its kind and amount, and no other."""
    posted = {
        row.entry_id: (row.order_id, row.kind, abs(row.amount_minor), row.currency)
        for row in connection.execute(
            sa.select(ledger_lines).where(ledger_lines.c.account == str(Account.PROVIDER_CLEARING))
        )
    }
    moved: dict[str, tuple[object, ...]] = {}
    moving = operations.c.kind.in_([str(Kind.CAPTURE), str(Kind.REFUND)])
    done = operations.c.outcome == str(Outcome.SUCCEEDED)
    for row in connection.execute(sa.select(operations).where(moving, done)).mappings():
        operation = operation_from_row(row)
        moved[operation.operation_id] = (
            row["order_id"],
            row["kind"],
            row["amount_minor"],
            row["currency"],
        )
    violations = [
        f"entry {entry_id}: posted {posted.get(entry_id)}, moved {moved.get(entry_id)}"
        for entry_id in sorted(posted.keys() | moved.keys())
        if posted.get(entry_id) != moved.get(entry_id)
    ]
    return judged("ledger.posted", violations, entries=len(posted), movements=len(moved))


def _find_replay(connection: sa.Connection) -> Finding:
    by_order = dict(_operations(connection))
    violations, count = [], 0
    for row in connection.execute(sa.select(payments)).mappings():
        count += 1
        payment = payment_from_row(row, by_order.get(row["order_id"], ()))
        follows = (payment.state, payment.captured.amount_minor, payment.refunded.amount_minor)
        if follows != (row["state"], row["captured_minor"], row["refunded_minor"]):
            violations.append(f"order {row['order_id']}: {row['state']} does not follow from its operations")
    return judged("payments.replay", violations, payments=count)


def _operations(connection: sa.Connection) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    rows = connection.execute(sa.select(operations).order_by(operations.c.order_id, operations.c.number))
    for order_id, group in groupby(rows.mappings(), itemgetter("order_id")):
        yield order_id, tuple(map(operation_from_row, group))


def _find_settled(connection: sa.Connection) -> Finding:
    """Also of what is still due of what was wished for: an undo, or the capture of a direct payment."""
    before = time.time_ns() // 1000 - SETTLES_WITHIN // timedelta(microseconds=1)
    to_finish = set(connection.scalars(sa.select(unfinished.c.order_id)))
    by_order = dict(_operations(connection))
    violations, under_way = [], 0
    for row in connection.execute(sa.select(payments)).mappings():
        asked_for = row["order_id"] in to_finish
        at_rest = payment_from_row(row, by_order.get(row["order_id"], ())).at_rest
        if at_rest and not asked_for and row["state"] != State.UNKNOWN:
            continue
        under_way += 1
        if not asked_for or row["update_time"] < before:
            since = f"{from_micros(row['update_time']):%Y-%m-%d %H:%M:%S}"
            nobody = "" if asked_for else ", and nobody is to finish it"
            violations.append(f"order {row['order_id']}: {row['state']} since {since}{nobody}")
    return judged("payments.settled", violations, under_way=under_way)


def _find_told(connection: sa.Connection) -> Finding:
    since = time.time_ns() // 1000 - TOLD_WITHIN // timedelta(microseconds=1)
    facts = _settled_since(connection, since) | _buried_since(connection, since)
    columns = (outbox_rows.c.aggregate_id, outbox_rows.c.type, outbox_rows.c.create_time)
    rows = connection.execute(sa.select(*columns).where(outbox_rows.c.create_time >= since))
    told = {(row.aggregate_id, row.type, row.create_time) for row in rows}
    return judged(
        "payments.told",
        [f"{type_} of order {order_id} is not in the outbox" for order_id, type_, _ in sorted(facts - told)],
        facts=len(facts),
    )


def _settled_since(connection: sa.Connection, since: int) -> set[_Fact]:
    """What came of operations, as the events that must tell it. A decline is news of a hold only."""
    rows = connection.execute(sa.select(operations).where(operations.c.settle_time >= since))
    events = {(row.order_id, _EVENT_OF.get((row.kind, row.outcome)), row.settle_time) for row in rows}
    return {(order_id, event.DESCRIPTOR.full_name, at) for order_id, event, at in events if event is not None}


def _buried_since(connection: sa.Connection, since: int) -> set[_Fact]:
    """Tombstones, in the same words."""
    rows = connection.execute(
        sa.select(payments.c.order_id, payments.c.create_time).where(
            payments.c.payment_id.is_(None), payments.c.create_time >= since
        )
    )
    return {(row.order_id, pb.PaymentVoided.DESCRIPTOR.full_name, row.create_time) for row in rows}


def _find_once(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(operations.c.order_id, sa.func.count().label("captures"))
        .where(operations.c.kind == str(Kind.CAPTURE), operations.c.outcome == str(Outcome.SUCCEEDED))
        .group_by(operations.c.order_id)
    ).all()
    violations = [f"order {row.order_id}: charged {row.captures} times" for row in rows if row.captures > 1]
    return judged("payments.once", violations, charged=len(rows))


def _find_one_default(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(
            payment_methods.c.user_id,
            sa.func.sum(sa.case((payment_methods.c.is_default, 1), else_=0)).label("defaults"),
        )
        .where(payment_methods.c.remove_time.is_(None))
        .group_by(payment_methods.c.user_id)
    ).all()
    violations = [f"user {row.user_id}: {row.defaults} defaults" for row in rows if row.defaults != 1]
    return judged("methods.default", violations, users=len(rows))


CHECKS: Final = (
    Check("ledger.balanced", "Every ledger entry is two lines that sum to zero.", _find_balanced),
    Check("ledger.posted", "Every movement of money has one ledger entry, and no other has.", _find_posted),
    Check("payments.replay", "State and sums of a payment follow from its operations.", _find_replay),
    Check(
        "payments.settled",
        "What the provider has not answered is being asked, and what is still to be done is being done.",
        _find_settled,
    ),
    Check("payments.told", "What became of money in the last day was written to the outbox.", _find_told),
    Check("payments.once", "No order is charged twice.", _find_once),
    Check("methods.default", "Who has ways to pay has one default.", _find_one_default),
)
