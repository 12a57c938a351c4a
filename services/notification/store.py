"""Messages in and out of a transaction."""

from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import from_micros, to_micros
from services.notification.domain import Channel, Fact, Message, Notification, State
from services.notification.tables import PENDING, notifications


class Transaction:
    """What a transaction of this service works with."""

    def __init__(self, session: Session) -> None:
        self.notifications = Notifications(session)


class Notifications:
    """The messages."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, notification: Notification) -> None:
        """Writes it down, unless the fact has a message already: even one that the inbox has forgotten."""
        self._session.run(_ADD, **_row(notification))

    def change(self, notification: Notification) -> None:
        """Notes how a try went. What is no longer pending stays as it is."""
        row = _row(notification)
        new = {f"new_{name}": row[name] for name in _CHANGING}
        self._session.run(_CHANGE, of_notification_id=notification.id, **new)

    def due(self, *, now: datetime, limit: int) -> list[Notification]:
        """Pending messages whose time has come, oldest first: of each user only the oldest pending one."""
        return [from_row(row) for row in self._session.all(_DUE, now=to_micros(now), rows_max=limit)]

    def next_due(self, *, now: datetime) -> datetime | None:
        """When the next message that must still wait becomes due."""
        row = self._session.one(_NEXT_DUE, now=to_micros(now))
        return from_micros(row["due"]) if row and row["due"] is not None else None

    def count(self, state: State) -> int:
        row = self._session.one(_COUNT, of_state=str(state))
        return int(row["rows"]) if row else 0


def from_row(row: Row) -> Notification:
    """The message that a row of `notifications` holds."""
    return Notification(
        id=row["notification_id"],
        message=Message(
            row["user_id"],
            row["title"],
            row["body"],
            row["order_id"],
            particulars=orjson.loads(row["particulars"]),
        ),
        fact=Fact(row["event_id"], row["event_type"]),
        channel=Channel(row["channel"]),
        created_at=from_micros(row["create_time"]),
        next_try_at=from_micros(row["next_try_time"]),
        state=State(row["state"]),
        tries=row["tries"],
        sent_at=from_micros(row["sent_time"]) if row["sent_time"] is not None else None,
        problem=row["problem"],
        traceparent=row["traceparent"],
    )


def _row(notification: Notification) -> dict[str, Any]:
    message, fact = notification.message, notification.fact
    return {
        "notification_id": notification.id,
        "user_id": message.user_id,
        "event_id": fact.event_id,
        "event_type": fact.event_type,
        "order_id": message.order_id,
        "title": message.title,
        "body": message.body,
        "particulars": orjson.dumps(dict(message.particulars)).decode(),
        "channel": str(notification.channel),
        "state": str(notification.state),
        "tries": notification.tries,
        "next_try_time": to_micros(notification.next_try_at),
        "problem": notification.problem,
        "traceparent": notification.traceparent,
        "create_time": to_micros(notification.created_at),
        "sent_time": to_micros(notification.sent_at) if notification.sent_at else None,
    }


_WRITTEN: Final = [column.name for column in notifications.columns if column.name != "sequence"]
_CHANGING: Final = ("state", "tries", "next_try_time", "problem", "sent_time")

_ADD: Final = Statement(
    insert(notifications)
    .values({name: sa.bindparam(name) for name in _WRITTEN})
    .on_conflict_do_nothing(index_elements=["event_id"])
)
_CHANGE: Final = Statement(
    sa.update(notifications)
    .where(notifications.c.notification_id == sa.bindparam("of_notification_id"), PENDING)
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGING})
)
_B_NOW: Final = sa.bindparam("now", type_=sa.BigInteger)
_EARLIER: Final = sa.alias(notifications)
_FIRST_OF_ITS_USER: Final = ~sa.exists().where(
    _EARLIER.c.user_id == notifications.c.user_id,
    _EARLIER.c.sequence < notifications.c.sequence,
    _EARLIER.c.state == sa.literal_column("'PENDING'"),
)
_IS_PENDING: Final = notifications.c.state == sa.literal_column("'PENDING'")
_DUE: Final = Statement(
    sa.select(notifications)
    .where(_IS_PENDING, notifications.c.next_try_time <= _B_NOW, _FIRST_OF_ITS_USER)
    .order_by(notifications.c.sequence)
    .limit(sa.bindparam("rows_max", type_=sa.Integer))
)
_NEXT_DUE: Final = Statement(
    sa.select(sa.func.min(notifications.c.next_try_time).label("due")).where(
        _IS_PENDING, notifications.c.next_try_time > _B_NOW
    )
)
_COUNT: Final = Statement(
    sa.select(sa.func.count().label("rows"))
    .select_from(notifications)
    .where(notifications.c.state == sa.bindparam("of_state"))
)
