"""Payment methods, payments, the ledger, and the tables of the chassis."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "compared_books",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider"),
    )
    op.create_table(
        "ledger_lines",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("account IN ('provider_clearing', 'sales')", name="account_is_known"),
        sa.CheckConstraint("amount_minor <> 0", name="something_moved"),
        sa.PrimaryKeyConstraint("entry_id", "account"),
    )
    op.create_index("ledger_lines_by_order", "ledger_lines", ["order_id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("publish_time", sa.BigInteger(), nullable=True),
        sa.Column("stream_seq", sa.BigInteger(), nullable=True),
        sa.Column("stream_epoch", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("event_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_publish_time", "outbox", ["publish_time"], unique=False)
    op.create_index("outbox_stream_seq", "outbox", ["stream_seq"], unique=False)
    op.create_index(
        "outbox_unpublished",
        "outbox",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("stream_seq IS NULL"),
        postgresql_where=sa.text("stream_seq IS NULL"),
    )
    op.create_table(
        "payment_methods",
        sa.Column("payment_method_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_token", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=False),
        sa.Column("last_four", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("remove_time", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("remove_time IS NULL OR NOT is_default", name="default_remains"),
        sa.PrimaryKeyConstraint("payment_method_id"),
    )
    op.create_index(
        "payment_methods_by_user",
        "payment_methods",
        ["user_id", "create_time", "payment_method_id"],
        unique=False,
        sqlite_where=sa.text("remove_time IS NULL"),
        postgresql_where=sa.text("remove_time IS NULL"),
    )
    op.create_index(
        "payment_methods_default",
        "payment_methods",
        ["user_id"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    op.create_table(
        "payments",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("payment_method_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("captured_minor", sa.BigInteger(), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('UNKNOWN', 'AUTHORIZED', 'CAPTURED', 'REFUNDED', 'DECLINED', 'VOIDED')",
            name="state_is_known",
        ),
        sa.CheckConstraint("captured_minor >= 0 AND refunded_minor >= 0", name="sums_are_not_negative"),
        sa.CheckConstraint("refunded_minor <= captured_minor", name="no_more_is_given_back_than_was_taken"),
        sa.PrimaryKeyConstraint("order_id"),
        sa.UniqueConstraint("payment_id"),
    )
    op.create_table(
        "remembered_calls",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("reply_type", sa.Text(), nullable=True),
        sa.Column("reply", sa.LargeBinary(), nullable=True),
        sa.Column("refusal", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "request_id"),
    )
    op.create_index(
        op.f("ix_remembered_calls_create_time"), "remembered_calls", ["create_time"], unique=False
    )
    op.create_table(
        "operations",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider_key", sa.Text(), nullable=False),
        sa.Column("refund_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("provider_reference", sa.Text(), nullable=False),
        sa.Column("decline_code", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("settle_time", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(outcome = 'UNKNOWN') = (settle_time IS NULL)", name="settled_has_a_time"),
        sa.CheckConstraint("kind IN ('AUTHORIZE', 'CAPTURE', 'VOID', 'REFUND')", name="kind_is_known"),
        sa.CheckConstraint("outcome IN ('UNKNOWN', 'SUCCEEDED', 'DECLINED')", name="outcome_is_known"),
        sa.CheckConstraint("amount_minor > 0", name="amount_is_positive"),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["payments.order_id"],
        ),
        sa.PrimaryKeyConstraint("order_id", "number"),
        sa.UniqueConstraint("provider_key"),
    )
    op.create_table(
        "unfinished",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("driver", sa.Text(), nullable=False),
        sa.Column("leased_until", sa.BigInteger(), nullable=False),
        sa.Column("due_time", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["payments.order_id"],
        ),
        sa.PrimaryKeyConstraint("order_id"),
    )
    op.create_index("unfinished_by_due_time", "unfinished", ["due_time"], unique=False)

    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL does since 0006
        for deed in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER ledger_lines_no_{deed.lower()} BEFORE {deed} ON ledger_lines "
                "BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END"
            )
