"""The tables of the user service."""

import sqlalchemy as sa

from services.chassis.events import outbox
from services.chassis.storage import audit_trail, idempotency
from services.user.domain import State

metadata = sa.MetaData()

STANDING = sa.text("state <> 'DEACTIVATED'")
"""Of accounts that have not ended. Written out: a parameter would keep SQLite from its partial indexes."""

UNREVOKED = sa.text("revoke_time IS NULL")
"""Of API keys that nobody has ended."""

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
    sa.Column("marketing_opt_in_time", sa.BigInteger),
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

LIVE = sa.text("end_time IS NULL")
"""Of sessions that nobody has ended; some of them may have expired."""

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("refresh_time", sa.BigInteger, nullable=False),
    sa.Column("expire_time", sa.BigInteger, nullable=False),
    sa.Column("end_time", sa.BigInteger),
    sa.Column("ending", sa.Text),
    sa.CheckConstraint("(end_time IS NULL) = (ending IS NULL)", name="what_ended_says_why"),
    sa.Index(
        "sessions_by_user", "user_id", "create_time", "session_id", sqlite_where=LIVE, postgresql_where=LIVE
    ),
    sa.Index("sessions_by_expire_time", "expire_time"),
)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("token_hash", sa.LargeBinary, primary_key=True),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("expire_time", sa.BigInteger, nullable=False),
    sa.Column("use_time", sa.BigInteger),
    sa.Index("refresh_tokens_by_expire_time", "expire_time"),
)

# Failed attempts to sign in, by a keyed digest of the account's address or of the network address.
lockouts = sa.Table(
    "lockouts",
    metadata,
    sa.Column("subject", sa.LargeBinary, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("fail_time", sa.BigInteger, nullable=False),
    sa.Index("lockouts_by_fail_time", "fail_time"),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sealed_private_key", sa.LargeBinary, nullable=False),
    sa.Column("sealed_with", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("sign_time", sa.BigInteger, nullable=False),
    sa.Column("retire_time", sa.BigInteger),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("api_key_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # space between
    sa.Column("secret_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("ending", sa.Text, nullable=False),
    sa.Column("create_time", sa.BigInteger, nullable=False),
    sa.Column("expire_time", sa.BigInteger),
    sa.Column("revoke_time", sa.BigInteger),
    sa.Column("last_use_time", sa.BigInteger),
    sa.Index("api_keys_by_user", "user_id", "create_time", "api_key_id"),
)

outbox_rows = outbox.define(metadata)
remembered_calls = idempotency.define(metadata)
audit_rows = audit_trail.define(metadata)
