"""The tables of payment. Times are microseconds since 1970, money is minor units and a currency.

The CHECKs and unique indexes are a net, not the rule: the rule is decided in the domain. What would slip
through ends the transaction instead of the books.
"""

from enum import StrEnum

import sqlalchemy as sa

from services.chassis.events import inbox, outbox
from services.chassis.storage import audit_trail, idempotency
from services.payment.domain import Kind, Outcome, State
from services.payment.ledger import Account

metadata = sa.MetaData()


def _one_of(column: str, words: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(str(word)) for word in words)})"


REMAINING = sa.text("remove_time IS NULL")
"""Of methods that can pay. Written out: a parameter would keep SQLite from its partial indexes."""

payment_methods = sa.Table(
    "payment_methods",
    metadata,
    sa.Column("payment_method_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    # A secret between us and the provider: in no reply, no event, no log line.
    sa.Column("provider_token", sa.Text, nullable=False),
    sa.Column("brand", sa.Text, nullable=False),
    sa.Column("last_four", sa.Text, nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    # The row stays: what was begun with the method must be finished with it.
    sa.Column("remove_time", sa.BigInteger),
    sa.CheckConstraint("remove_time IS NULL OR NOT is_default", name="default_remains"),
    sa.Index(
        "payment_methods_by_user",
        "user_id",
        "create_time",
        "payment_method_id",
        sqlite_where=REMAINING,
        postgresql_where=REMAINING,
    ),
)
sa.Index(
    "payment_methods_default",
    payment_methods.c.user_id,
    unique=True,
    sqlite_where=sa.text("is_default"),
    postgresql_where=sa.text("is_default"),
)

# One row an order, for ever. State and sums follow from the operations; they are kept here to be looked up.
payments = sa.Table(
    "payments",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    # NULL: a tombstone, the order was voided before anything was authorized.
    sa.Column("payment_id", sa.Text, unique=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("payment_method_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("captured_minor", sa.BigInteger, nullable=False),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    sa.Column("direct", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.Index("payments_by_user", "user_id", "create_time", "order_id"),
    sa.Index("payments_by_time", "create_time", "order_id"),
    sa.CheckConstraint(_one_of("state", State), name="state_is_known"),
    sa.CheckConstraint("captured_minor >= 0 AND refunded_minor >= 0", name="sums_are_not_negative"),
    sa.CheckConstraint("refunded_minor <= captured_minor", name="no_more_is_given_back_than_was_taken"),
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("payments.order_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("provider_key", sa.Text, nullable=False, unique=True),
    sa.Column("refund_id", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("provider_reference", sa.Text, nullable=False),
    sa.Column("decline_code", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("settle_time", sa.BigInteger),
    sa.CheckConstraint(_one_of("kind", Kind), name="kind_is_known"),
    sa.CheckConstraint(_one_of("outcome", Outcome), name="outcome_is_known"),
    sa.CheckConstraint("(outcome = 'UNKNOWN') = (settle_time IS NULL)", name="settled_has_a_time"),
    sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
)

# Payments for which something is still to be done at the provider; who is at it holds the lease.
unfinished = sa.Table(
    "unfinished",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("payments.order_id"), primary_key=True),
    sa.Column("driver", sa.Text, nullable=False),
    sa.Column("leased_until", sa.BigInteger, nullable=False),
    sa.Column("due_time", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Index("unfinished_by_due_time", "due_time"),
)

# Double entry: the lines of an entry sum to zero. Rows are added, never changed (the migration has triggers).
ledger_lines = sa.Table(
    "ledger_lines",
    metadata,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),  # debits above zero, credits below
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.CheckConstraint(_one_of("account", Account), name="account_is_known"),
    sa.CheckConstraint("amount_minor <> 0", name="something_moved"),
    sa.Index("ledger_lines_by_order", "order_id"),
)

# Up to where the books of each provider were compared with ours.
compared_books = sa.Table(
    "compared_books",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
)

outbox_rows = outbox.define(metadata)
seen_webhooks = inbox.define(metadata)
remembered_calls = idempotency.define(metadata)
audit_rows = audit_trail.define(metadata)
