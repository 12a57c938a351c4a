"""What must hold of messages, as questions to a live database."""

import time
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from services.chassis.audit import Check, Finding, judged
from services.chassis.events import inbox
from services.kernel.clock import from_micros
from services.notification.domain import State
from services.notification.tables import inbox_rows, notifications

TRIED_WITHIN: Final = timedelta(minutes=5)
"""After a message is due; a sender that lives takes seconds."""

INBOX_MARGIN: Final = timedelta(hours=1)
"""What the inbox may already have forgotten is not asked for; clocks and sweeps are a little apart."""


def _find_once(connection: sa.Connection) -> Finding:
    twice = connection.execute(
        sa.select(notifications.c.event_id, sa.func.count().label("messages"))
        .group_by(notifications.c.event_id)
        .having(sa.func.count() > 1)
    )
    violations = [f"event {row.event_id}: {row.messages} messages" for row in twice]
    return judged("notifications.once", violations, messages=_count(connection))


def _find_tried(connection: sa.Connection) -> Finding:
    """Of each user only the oldest pending message is due; the others wait for it to be sent or parked."""
    pending = notifications.c.state == str(State.PENDING)
    turn = sa.select(sa.func.min(notifications.c.sequence)).where(pending).group_by(notifications.c.user_id)
    too_late = time.time_ns() // 1000 - TRIED_WITHIN // timedelta(microseconds=1)
    rows = connection.execute(
        sa.select(notifications.c.notification_id, notifications.c.next_try_time, notifications.c.tries)
        .where(notifications.c.sequence.in_(turn), notifications.c.next_try_time < too_late)
        .order_by(notifications.c.sequence)
    )
    violations = [
        f"notification {row.notification_id}: due since {from_micros(row.next_try_time):%Y-%m-%dT%H:%M:%SZ},"
        f" tried {row.tries} times"
        for row in rows
    ]
    figures = {state.lower(): _count(connection, notifications.c.state == str(state)) for state in State}
    return judged("notifications.tried", violations, **figures)


def _find_explained(connection: sa.Connection) -> Finding:
    """The figures are what an operator looks for: how many were given up, and why."""
    parked = connection.execute(
        sa.select(notifications.c.problem, sa.func.count().label("messages"))
        .where(notifications.c.state == str(State.PARKED))
        .group_by(notifications.c.problem)
    ).all()
    violations = [f"{row.messages} parked messages do not say why" for row in parked if not row.problem]
    figures = {f"parked_{row.problem.lower()}": row.messages for row in parked if row.problem}
    return judged("notifications.explained", violations, **figures)


def _find_received(connection: sa.Connection) -> Finding:
    """Only of messages so young that the inbox remembers their events."""
    kept_micros = (inbox.KEPT - INBOX_MARGIN) // timedelta(microseconds=1)
    young = notifications.c.create_time > time.time_ns() // 1000 - kept_micros
    received = sa.exists().where(inbox_rows.c.event_id == notifications.c.event_id)
    orphans = connection.scalars(sa.select(notifications.c.notification_id).where(young, ~received))
    violations = [f"notification {id_}: of an event that was never received" for id_ in orphans]
    events = connection.scalar(sa.select(sa.func.count()).select_from(inbox_rows)) or 0
    return judged("notifications.received", violations, messages=_count(connection, young), events=events)


def _count(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(notifications).where(*where)) or 0


CHECKS: Final = (
    Check("notifications.once", "Each fact has at most one message.", _find_once),
    Check("notifications.tried", f"A message that is due is tried within {TRIED_WITHIN}.", _find_tried),
    Check("notifications.explained", "Each message that was given up says why.", _find_explained),
    Check("notifications.received", "Each message is of an event that was received.", _find_received),
)
