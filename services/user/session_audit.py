"""What must hold of sessions and signing keys, as questions to a live database."""

import time
from datetime import timedelta
from itertools import pairwise
from typing import Final

import sqlalchemy as sa

from services.chassis.audit import Check, Finding, judged
from services.user.domain import State
from services.user.key_schedule import TOKEN_LIFE
from services.user.tables import refresh_tokens, sessions, signing_keys, users

_GOES_ON: Final = sessions.c.end_time.is_(None)


def _find_of_active(connection: sa.Connection) -> Finding:
    rows = connection.execute(
        sa.select(sessions.c.session_id, users.c.state)
        .select_from(sessions.outerjoin(users, users.c.user_id == sessions.c.user_id))
        .where(_GOES_ON, sa.func.coalesce(users.c.state, "") != str(State.ACTIVE))
    )
    violations = [f"session {row.session_id}: its account is {row.state or 'not there'}" for row in rows]
    return judged("sessions.of_active", violations, sessions=_going_on(connection))


def _find_one_token(connection: sa.Connection) -> Finding:
    """Of sessions that have not expired; of others the tokens may be gone."""
    good = (
        sa.select(refresh_tokens.c.session_id, sa.func.count().label("tokens"))
        .where(refresh_tokens.c.use_time.is_(None))
        .group_by(refresh_tokens.c.session_id)
        .subquery()
    )
    tokens = sa.func.coalesce(good.c.tokens, 0)
    rows = connection.execute(
        sa.select(sessions.c.session_id, tokens.label("tokens"))
        .select_from(sessions.outerjoin(good, good.c.session_id == sessions.c.session_id))
        .where(_GOES_ON, sessions.c.expire_time > time.time_ns() // 1000, tokens != 1)
    )
    violations = [f"session {row.session_id}: {row.tokens} good refresh tokens" for row in rows]
    return judged("sessions.one_token", violations, sessions=_going_on(connection))


def _find_succession(connection: sa.Connection) -> Finding:
    keys = connection.execute(sa.select(signing_keys).order_by(signing_keys.c.number)).all()
    life_micros = TOKEN_LIFE // timedelta(microseconds=1)
    violations = [
        f"key {key.number}: retires before its last token has expired, or never"
        for key, successor in pairwise(keys)
        if (key.retire_time or 0) < successor.sign_time + life_micros
    ]
    if keys and keys[-1].retire_time is not None:
        violations.append(f"key {keys[-1].number}: retires without a successor")
    return judged("keys.succession", violations, keys=len(keys))


def _going_on(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(sessions).where(_GOES_ON)) or 0


CHECKS: Final = (
    Check("sessions.of_active", "Only active accounts are signed in.", _find_of_active),
    Check("sessions.one_token", "A session that goes on has one good refresh token.", _find_one_token),
    Check("keys.succession", "A signing key is published until its tokens have expired.", _find_succession),
)
