"""Orders in and out of a transaction: their events are the truth, their rows are made from those."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from bodega.order.v1 import order_pb2 as pb

from services.chassis import context
from services.chassis.events.envelope import envelope
from services.chassis.events.outbox import Outbox
from services.chassis.feed import Feed
from services.chassis.storage import event_store
from services.chassis.storage.event_store import EventStore
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import from_micros, to_micros
from services.kernel.ids import Ids
from services.order import convert, domain, events, facts, projection, refusals
from services.order.tables import order_drives, order_events, order_lines, orders


class Transaction:
    """What a transaction of this service works with."""

    def __init__(self, session: Session, ids: Ids, feed: Feed) -> None:
        self.orders = Orders(session, Outbox(session), ids, feed)
        self.drives = Drives(session)
        self.after_commit = session.after_commit


class Orders:
    """The orders, each an aggregate of its own."""

    def __init__(self, session: Session, outbox: Outbox, ids: Ids, feed: Feed) -> None:
        self._session = session
        self._outbox = outbox
        self._ids = ids
        self._feed = feed

    def get(self, order_id: str) -> domain.Order:
        """The order as its events tell it. Raises refusals.OrderNotFound."""
        return domain.replay(order_id, self.history(order_id))

    def expect(self, order: domain.Order) -> None:
        """Raises a Stale if someone has moved the order since it was loaded."""
        if _EVENTS.version(self._session, order.id) != order.saved_version:
            raise StaleVersion(stream_id=order.id, expected_version=order.saved_version)

    def history(self, order_id: str) -> list[facts.Event]:
        """What happened to the order, oldest first; nothing for an unknown one."""
        return [event_from_stored(stored) for stored in _EVENTS.load(self._session, order_id)]

    def save(self, order: domain.Order) -> domain.Order:
        """Appends what happened since load, and with it the order's row and what the world is told.

        Raises a Stale if someone else appended first.
        """
        if not order.pending_events:
            return order
        version = order.saved_version
        for event in order.pending_events:
            version = _EVENTS.append(self._session, order.id, version, [_stored(order, event)], at=event.at)
        self._project(order)
        for event in order.pending_events:
            if (message := events.published(order, event.fact)) is not None:
                self._outbox.add(envelope("order", order.id, message, id=self._ids.new(), at=event.at))
        self._session.after_commit(lambda: self._feed.moved(order.id))
        return order.saved()

    def timeline(self, order_id: str, *, after: int = 0) -> list[event_store.StoredEvent]:
        """What is stored of the order behind a version, oldest first; nothing for an unknown one."""
        return _EVENTS.load(self._session, order_id, after=after)

    def shown(self, order_id: str) -> pb.Order:
        """The order as its rows show it: for answers, not for decisions. Raises refusals.OrderNotFound."""
        row = self._session.one(_SELECT_ORDER, order_id=order_id)
        if row is None:
            raise refusals.OrderNotFound(order_id=order_id)
        return projection.shown(row, self._session.all(_SELECT_LINES, order_id=order_id))

    def buyer(self, order_id: str) -> str:
        """The id of the user whose order it is. Raises refusals.OrderNotFound."""
        row = self._session.one(_SELECT_BUYER, order_id=order_id)
        if row is None:
            raise refusals.OrderNotFound(order_id=order_id)
        return str(row["user_id"])

    def is_settled(self, order_id: str) -> bool:
        """Whether nothing is under way for the order. Raises refusals.OrderNotFound."""
        row = self._session.one(_SELECT_UNDER_WAY, order_id=order_id)
        if row is None:
            raise refusals.OrderNotFound(order_id=order_id)
        return not row["under_way"]

    def _project(self, order: domain.Order) -> None:
        self._session.run(_UPSERT_ORDER, **projection.order_row(order))
        if order.saved_version == 0 or order.refunds:
            self._session.many(_UPSERT_LINE, projection.line_rows(order))


@dataclass(frozen=True, slots=True)
class Drive:
    """An order under way: how often its next step was tried in vain, since when, and in which trace."""

    order_id: str
    attempts: int = 0
    step_since: datetime | None = None
    """When the next step was first tried in vain; None if it was not."""

    traceparent: str = ""
    is_resumed: bool = False
    """It waited out a failure, or lost its driver; else somebody has just asked for something."""


@dataclass(frozen=True, slots=True)
class Due:
    """When the next order is due and free, of each kind; None if there is none."""

    asked_for: datetime | None
    resumed: datetime | None


class Drives:
    """Who drives which order until when, and which orders are due. A lapsed lease is anyone's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(self, order_id: str, *, driver: str, leased_until: datetime, now: datetime) -> None:
        """A new order, leased to its first driver."""
        self._put(order_id, driver=driver, due=now, leased_until=to_micros(leased_until))

    def wake(self, order_id: str, *, now: datetime) -> None:
        """The order is due now, for whoever comes first."""
        self._put(order_id, driver="", due=now, leased_until=0)

    def progressed(self, order_id: str, *, driver: str, leased_until: datetime) -> None:
        """A step was taken: the next one begins with no attempt made; the driver keeps the order."""
        self._session.run(
            _PROGRESSED, b_order_id=order_id, driver=driver, leased_until=to_micros(leased_until)
        )

    def park(self, drive: Drive, *, due: datetime) -> None:
        """The step failed: the order waits until due, held by nobody."""
        self._session.run(
            _PARK,
            b_order_id=drive.order_id,
            due_time=to_micros(due),
            attempts=drive.attempts,
            step_since=to_micros(drive.step_since) if drive.step_since else 0,
        )

    def end(self, order_id: str) -> None:
        """Nothing is under way any more."""
        self._session.run(_END, order_id=order_id)

    def claim(
        self, *, driver: str, leased_until: datetime, now: datetime, asked_for_max: int, resumed_max: int
    ) -> list[Drive]:
        """Leases due orders that nobody holds to the driver, longest due first.

        Passes over those that another driver is claiming at the moment.
        """
        rows = [
            *self._session.all(_SELECT_ASKED_FOR, now=to_micros(now), row_limit=asked_for_max),
            *self._session.all(_SELECT_RESUMED, now=to_micros(now), row_limit=resumed_max),
        ]
        for row in rows:
            self._session.run(
                _LEASE, b_order_id=row["order_id"], driver=driver, leased_until=to_micros(leased_until)
            )
        return [_drive(row) for row in rows]

    def next_due(self) -> Due:
        row = self._session.one(_SELECT_NEXT_DUE)
        assert row is not None
        return Due(_time(row["asked_for"]), _time(row["resumed"]))

    def disown(self, driver: str, *, now: datetime) -> int:
        """Ends the leases that a former life of this driver had when it died; how many that were."""
        return self._session.run(_DISOWN, b_driver=driver, leased_until=to_micros(now))

    def _put(self, order_id: str, *, driver: str, due: datetime, leased_until: int) -> None:
        self._session.run(
            _PUT,
            order_id=order_id,
            due_time=to_micros(due),
            leased_until=leased_until,
            driver=driver,
            attempts=0,
            step_since=0,
            traceparent=context.traceparent(),
        )


def stored_event(row: sa.RowMapping) -> event_store.StoredEvent:
    """A row of `order_events` that a query found."""
    return event_store.StoredEvent(**{**row, "at": from_micros(row["at"])})


def event_from_stored(stored: event_store.StoredEvent) -> facts.Event:
    return facts.Event(fact=convert.fact_from_proto(pb.OrderEvent.FromString(stored.body)), at=stored.at)


def _stored(order: domain.Order, event: facts.Event) -> event_store.NewEvent:
    message = convert.fact_to_proto(order, event.fact)
    return event_store.NewEvent(type=str(message.WhichOneof("fact")), body=message.SerializeToString())


def _drive(row: Row) -> Drive:
    return Drive(
        order_id=row["order_id"],
        attempts=row["attempts"],
        step_since=from_micros(row["step_since"]) if row["step_since"] else None,
        traceparent=row["traceparent"],
        is_resumed=bool(row["attempts"] or row["leased_until"]),
    )


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _upsert(table: sa.Table, *key: str) -> Statement:
    statement = insert(table)
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in key}
    return Statement(statement.on_conflict_do_update(index_elements=list(key), set_=changed))


_EVENTS: Final = EventStore(order_events)
_B_ORDER: Final = sa.bindparam("order_id", type_=sa.String)
_SELECT_ORDER: Final = Statement(sa.select(orders).where(orders.c.order_id == _B_ORDER))
_SELECT_BUYER: Final = Statement(sa.select(orders.c.user_id).where(orders.c.order_id == _B_ORDER))
_SELECT_UNDER_WAY: Final = Statement(sa.select(orders.c.under_way).where(orders.c.order_id == _B_ORDER))
_SELECT_LINES: Final = Statement(
    sa.select(order_lines).where(order_lines.c.order_id == _B_ORDER).order_by(order_lines.c.line)
)
_UPSERT_ORDER: Final = _upsert(orders, "order_id")
_UPSERT_LINE: Final = _upsert(order_lines, "order_id", "line")

# Of an UPDATE, parameters named as columns are taken for new values: the key needs a name of its own.
_THIS_DRIVE: Final = order_drives.c.order_id == sa.bindparam("b_order_id", type_=sa.String)
_PUT: Final = _upsert(order_drives, "order_id")
_PROGRESSED: Final = Statement(
    sa.update(order_drives)
    .where(_THIS_DRIVE)
    .values(
        attempts=0,
        step_since=0,
        driver=sa.bindparam("driver", type_=sa.String),
        leased_until=sa.bindparam("leased_until", type_=sa.BigInteger),
    )
)
_PARK: Final = Statement(
    sa.update(order_drives)
    .where(_THIS_DRIVE)
    .values(
        due_time=sa.bindparam("due_time", type_=sa.BigInteger),
        attempts=sa.bindparam("attempts", type_=sa.Integer),
        step_since=sa.bindparam("step_since", type_=sa.BigInteger),
        leased_until=0,
        driver="",
    )
)
_END: Final = Statement(sa.delete(order_drives).where(order_drives.c.order_id == _B_ORDER))
_B_NOW: Final = sa.bindparam("now", type_=sa.BigInteger)
_IS_ASKED_FOR: Final = sa.and_(order_drives.c.attempts == 0, order_drives.c.leased_until == 0)


def _select_due(which: sa.ColumnElement[bool]) -> Statement:
    return Statement(
        sa.select(order_drives)
        .where(which, order_drives.c.due_time <= _B_NOW, order_drives.c.leased_until <= _B_NOW)
        .order_by(order_drives.c.due_time)
        .limit(sa.bindparam("row_limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)  # on SQLite there is nothing to skip, and nothing said
    )


_SELECT_ASKED_FOR: Final = _select_due(_IS_ASKED_FOR)
_SELECT_RESUMED: Final = _select_due(~_IS_ASKED_FOR)
_LEASE: Final = Statement(
    sa.update(order_drives)
    .where(_THIS_DRIVE)
    .values(
        driver=sa.bindparam("driver", type_=sa.String),
        leased_until=sa.bindparam("leased_until", type_=sa.BigInteger),
    )
)
# The later of the two: sa.func.max of two arguments would not be portable.
_FREE_AT: Final = sa.case(
    (order_drives.c.leased_until > order_drives.c.due_time, order_drives.c.leased_until),
    else_=order_drives.c.due_time,
)
_SELECT_NEXT_DUE: Final = Statement(
    sa.select(
        sa.func.min(sa.case((_IS_ASKED_FOR, _FREE_AT))).label("asked_for"),
        sa.func.min(sa.case((~_IS_ASKED_FOR, _FREE_AT))).label("resumed"),
    )
)
_DISOWN: Final = Statement(
    sa.update(order_drives)
    .where(order_drives.c.driver == sa.bindparam("b_driver", type_=sa.String))
    .values(leased_until=sa.bindparam("leased_until", type_=sa.BigInteger), driver="")
)
