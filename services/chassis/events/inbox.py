"""The inbox: which events had their effect, written in the transaction of that effect."""

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import to_micros

STREAM_KEEPS: Final = timedelta(days=30)
"""How long streams keep events (their `max_age`): a consumer may be down for a month and miss nothing."""

KEPT: Final = STREAM_KEEPS + timedelta(days=2)
"""Rows outlive their events: what can no longer be delivered again need no longer be recognised. The two
days are for a republished event, which is as old as its row in the outbox and then new to the stream."""


def define(metadata: sa.MetaData) -> sa.Table:
    """Adds the inbox to a service's tables."""
    return sa.Table(
        "inbox",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("create_time", sa.BigInteger, nullable=False, index=True),
    )


_INBOX = define(sa.MetaData())
_CLAIM = Statement(
    insert(_INBOX)
    .values({name: sa.bindparam(name) for name in ("consumer", "event_id", "create_time")})
    .on_conflict_do_nothing(index_elements=["consumer", "event_id"])
)

RETENTION: Final = Retention(_INBOX, _INBOX.c.create_time, KEPT)
"""For the janitor."""


def claim(session: Session, *, consumer: str, event_id: str, at: datetime) -> bool:
    """Whether this transaction is the first to have the event's effect."""
    return session.run(_CLAIM, consumer=consumer, event_id=event_id, create_time=to_micros(at)) == 1
