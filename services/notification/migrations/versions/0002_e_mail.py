"""E-mail: another channel, and what a fact says, for other languages than the shop's."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PENDING = sa.text("state = 'PENDING'")


def upgrade() -> None:
    # SQLite changes a constraint by copying the table, and does not tell of all that stands on the old one.
    with op.batch_alter_table("notifications", copy_from=_as_of_0001()) as notifications:
        notifications.add_column(sa.Column("particulars", sa.Text(), nullable=False, server_default="{}"))
        notifications.drop_constraint("channel_is_known", type_="check")
        notifications.create_check_constraint("channel_is_known", "channel IN ('CONSOLE', 'EMAIL')")


def _as_of_0001() -> sa.Table:
    return sa.Table(
        "notifications",
        sa.MetaData(),
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("notification_id", sa.Text(), nullable=False, unique=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False, unique=True),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_time", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("sent_time", sa.BigInteger()),
        sa.CheckConstraint("(state = 'SENT') = (sent_time IS NOT NULL)", name="sent_has_a_time"),
        sa.CheckConstraint("channel IN ('CONSOLE')", name="channel_is_known"),
        sa.CheckConstraint("state IN ('PENDING', 'SENT', 'PARKED')", name="state_is_known"),
        sa.Index("notifications_by_user", "user_id", "sequence"),
        sa.Index(
            "notifications_pending", "user_id", "sequence", sqlite_where=_PENDING, postgresql_where=_PENDING
        ),
    )
