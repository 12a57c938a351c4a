"""What must hold of API keys, as questions to a live database."""

import time
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from bodega.user.v1 import user_events_pb2

from services.chassis.audit import Check, Finding, judged
from services.chassis.events import outbox
from services.user.api_keys import secret_hash
from services.user.tables import api_keys, outbox_rows, users

OUTBOX_MARGIN: Final = timedelta(minutes=5)
"""What the outbox may already have forgotten is not asked for; clocks and sweeps are a little apart."""

_HASH_BYTES: Final = len(secret_hash(""))


def _find_hashed(connection: sa.Connection) -> Finding:
    plain = sa.func.length(api_keys.c.secret_hash) != _HASH_BYTES
    violations = [f"key {id_}" for id_ in connection.scalars(sa.select(api_keys.c.api_key_id).where(plain))]
    return judged("api_keys.hashed", violations, keys=_count(connection))


def _find_owned(connection: sa.Connection) -> Finding:
    orphaned = ~sa.exists().where(users.c.user_id == api_keys.c.user_id)
    violations = [
        f"key {id_}" for id_ in connection.scalars(sa.select(api_keys.c.api_key_id).where(orphaned))
    ]
    return judged("api_keys.owned", violations, keys=_count(connection))


def _find_told(connection: sa.Connection) -> Finding:
    """Only of what is so young that the outbox remembers it."""
    kept_micros = (outbox.KEPT - OUTBOX_MARGIN) // timedelta(microseconds=1)
    since = time.time_ns() // 1000 - kept_micros
    violations, asked = [], 0
    for event, happened in (
        (user_events_pb2.ApiKeyCreated, api_keys.c.create_time),
        (user_events_pb2.ApiKeyRevoked, api_keys.c.revoke_time),
    ):
        told = (
            sa.select(sa.func.count())
            .select_from(outbox_rows)
            .where(
                outbox_rows.c.aggregate_id == api_keys.c.api_key_id,
                outbox_rows.c.type == event.DESCRIPTOR.full_name,
            )
            .scalar_subquery()
        )
        rows = connection.execute(
            sa.select(api_keys.c.api_key_id, told.label("told")).where(happened > since)
        ).all()
        violations += [
            f"key {row.api_key_id}: {event.DESCRIPTOR.name} told {row.told} times"
            for row in rows
            if row.told != 1
        ]
        asked += len(rows)
    return judged("api_keys.told", violations, facts=asked)


def _count(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(api_keys)) or 0


CHECKS: Final = (
    Check("api_keys.hashed", "Of API keys hashes are kept only.", _find_hashed),
    Check("api_keys.owned", "Every API key is somebody's.", _find_owned),
    Check("api_keys.told", "That a key was made or revoked is told once.", _find_told),
)
