"""The tables of the notification service."""

import sqlalchemy as sa

from services.chassis.events import inbox
from services.chassis.storage import audit_trail
from services.notification.domain import Channel, State

metadata = sa.MetaData()

PENDING = sa.text("state = 'PENDING'")
"""Written out: a parameter would keep SQLite from its partial indexes."""


def _one_of(column: str, words: type[State] | type[Channel]) -> str:
    return f"{column} IN ({', '.join(repr(str(word)) for word in words)})"


notifications = sa.Table(
    "notifications",
    metadata,
    # The order in which messages were written, and hence leave.
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),  # only INTEGER counts by itself there
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("notification_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),  # one fact, one message
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("particulars", sa.Text, nullable=False, server_default="{}"),  # a JSON object of strings
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("next_try_time", sa.BigInteger, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("sent_time", sa.BigInteger),
    sa.CheckConstraint(_one_of("state", State), name="state_is_known"),
    sa.CheckConstraint(_one_of("channel", Channel), name="channel_is_known"),
    sa.CheckConstraint("(state = 'SENT') = (sent_time IS NOT NULL)", name="sent_has_a_time"),
    sa.Index("notifications_by_user", "user_id", "sequence"),
    # The sender goes through what is pending in order, and never through what was sent.
    sa.Index("notifications_queue", "sequence", sqlite_where=PENDING, postgresql_where=PENDING),
    sa.Index("notifications_pending", "user_id", "sequence", sqlite_where=PENDING, postgresql_where=PENDING),
)

inbox_rows = inbox.define(metadata)
audit_rows = audit_trail.define(metadata)
