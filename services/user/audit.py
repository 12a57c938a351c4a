"""What must hold of accounts, as questions to a live database."""

import time
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from bodega.user.v1 import user_events_pb2

from services.chassis.audit import Check, Finding, judged
from services.chassis.events import outbox
from services.user import api_key_audit, session_audit
from services.user.domain import State
from services.user.tables import STANDING, outbox_rows, users

OUTBOX_MARGIN: Final = timedelta(minutes=5)
"""What the outbox may already have forgotten is not asked for; clocks and sweeps are a little apart."""

_NO_CHANGE: Final = user_events_pb2.UserSignedIn.DESCRIPTOR.full_name
"""Told of an account, and changes nothing about it."""


def _find_unique(connection: sa.Connection) -> Finding:
    violations = []
    for what, column in (("e-mail address", users.c.email_key), ("username", users.c.username_key)):
        shared = connection.execute(
            sa.select(sa.func.min(users.c.user_id).label("user_id"), sa.func.count().label("accounts"))
            .where(STANDING)
            .group_by(column)
            .having(sa.func.count() > 1)
        )
        violations += [f"user {row.user_id}: {row.accounts} accounts with its {what}" for row in shared]
    standing = connection.scalar(sa.select(sa.func.count()).select_from(users).where(STANDING)) or 0
    return judged("users.unique", violations, standing=standing)


def _find_hashed(connection: sa.Connection) -> Finding:
    plain = users.c.password_hash.not_like("$argon2id$v=%")
    violations = [f"user {id_}" for id_ in connection.scalars(sa.select(users.c.user_id).where(plain))]
    return judged("users.hashed", violations, accounts=_count(connection))


def _find_reasons(connection: sa.Connection) -> Finding:
    suspended = users.c.state == str(State.SUSPENDED)
    wrong = suspended != (users.c.suspension_reason != "")
    rows = connection.execute(sa.select(users.c.user_id, users.c.state).where(wrong))
    violations = [f"user {row.user_id}: {row.state}, and the reason does not fit" for row in rows]
    return judged("users.reasons", violations, accounts=_count(connection))


def _find_told(connection: sa.Connection) -> Finding:
    """Only of accounts so young that the outbox remembers all of them."""
    kept_micros = (outbox.KEPT - OUTBOX_MARGIN) // timedelta(microseconds=1)
    young = users.c.create_time > time.time_ns() // 1000 - kept_micros
    told = (
        sa.select(sa.func.count())
        .select_from(outbox_rows)
        .where(outbox_rows.c.aggregate_id == users.c.user_id, outbox_rows.c.type != _NO_CHANGE)
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(users.c.user_id, users.c.version, told.label("told")).where(young)
    ).all()
    violations = [
        f"user {row.user_id}: {row.version} changes, {row.told} told"
        for row in rows
        if row.version != row.told
    ]
    return judged("users.told", violations, accounts=len(rows), facts=sum(row.version for row in rows))


def _count(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(users)) or 0


CHECKS: Final = (
    Check("users.unique", "No two standing accounts share an e-mail address or a username.", _find_unique),
    Check("users.hashed", "Passwords are kept as Argon2id hashes only.", _find_hashed),
    Check("users.reasons", "A suspended account has a reason, any other has none.", _find_reasons),
    Check("users.told", "Every change of an account stands in the outbox.", _find_told),
    *session_audit.CHECKS,
    *api_key_audit.CHECKS,
)
