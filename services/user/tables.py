"""The tables of the user service."""

import sqlalchemy as sa

from services.chassis.events import outbox
from services.chassis.storage import idempotency
from services.user.domain import State

metadata = sa.MetaData()

STANDING = sa.text("state <> 'DEACTIVATED'")
"""Of accounts that have not ended. Written out: a parameter would keep SQLite from its partial indexes."""

STAFF = sa.text("roles <> 'CUSTOMER'")
"""Of accounts that are trusted with more, or less, than to buy: few. Written out, for the same reason."""

users = sa.Table(
    "users",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False),
    # Folded by Unicode's rules, so that they compare alike on any database.
    sa.Column("email_key", sa.Text, nullable=False),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("username_key", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("phone_number", sa.Text, nullable=False),
    sa.Column("language_code", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("roles", sa.Text, nullable=False),  # space between
    sa.Column("suspension_reason", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("update_time", sa.BigInteger, nullable=False),
    sa.CheckConstraint(f"state IN ({', '.join(repr(str(state)) for state in State)})", name="state_is_known"),
    sa.Index("users_by_email", "email_key", unique=True, sqlite_where=STANDING, postgresql_where=STANDING),
    sa.Index(
        "users_by_username", "username_key", unique=True, sqlite_where=STANDING, postgresql_where=STANDING
    ),
    sa.Index("users_by_create_time", "create_time", "user_id"),
    sa.Index("users_by_state", "state", "create_time", "user_id"),
    sa.Index("users_staff", "user_id", sqlite_where=STAFF, postgresql_where=STAFF),
)

activations = sa.Table(
    "activations",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("proof", sa.LargeBinary, nullable=False),
    sa.Column("issue_time", sa.BigInteger, nullable=False, index=True),
)

outbox_rows = outbox.define(metadata)
remembered_calls = idempotency.define(metadata)
