"""Accounts, and the tables of the chassis."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
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
    op.create_index("outbox_publish_time", "outbox", ["publish_time"])
    op.create_index("outbox_stream_seq", "outbox", ["stream_seq"])
    op.create_index(
        "outbox_unpublished",
        "outbox",
        ["seq"],
        sqlite_where=sa.text("stream_seq IS NULL"),
        postgresql_where=sa.text("stream_seq IS NULL"),
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
    op.create_index("ix_remembered_calls_create_time", "remembered_calls", ["create_time"])
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("username_key", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("phone_number", sa.Text(), nullable=False),
        sa.Column("language_code", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("suspension_reason", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('INACTIVE', 'ACTIVE', 'SUSPENDED', 'DEACTIVATED')", name="state_is_known"
        ),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_index("users_by_create_time", "users", ["create_time", "user_id"])
    op.create_index(
        "users_by_email",
        "users",
        ["email_key"],
        unique=True,
        sqlite_where=sa.text("state <> 'DEACTIVATED'"),
        postgresql_where=sa.text("state <> 'DEACTIVATED'"),
    )
    op.create_index("users_by_state", "users", ["state", "create_time", "user_id"])
    op.create_index(
        "users_by_username",
        "users",
        ["username_key"],
        unique=True,
        sqlite_where=sa.text("state <> 'DEACTIVATED'"),
        postgresql_where=sa.text("state <> 'DEACTIVATED'"),
    )
