"""The outbox: events in the database of the fact they tell, in its transaction, until the broker has them.

Rows stay for a day after they were published, with the sequence that the stream gave them: what a broker
forgot can be published again, and `bodega verify` compares both books.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import orjson
import sqlalchemy as sa

from services.chassis.events.envelope import Envelope
from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.clock import to_micros

KEPT: Final = timedelta(hours=24)
"""How long published rows are kept: long enough to notice that a broker came back without them."""

EVENT_BYTES_MAX: Final = 512 * 1024
"""Half of what a NATS server takes by default (`max_payload`), headers included."""


def define(metadata: sa.MetaData) -> sa.Table:
    """Adds the outbox to a service's tables."""
    unpublished = sa.text("stream_seq IS NULL")
    return sa.Table(
        "outbox",
        metadata,
        # Rows are published in this order. AUTOINCREMENT: a number is never given twice, not even after
        # the newest rows were deleted.
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        sa.Column("aggregate_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("publish_time", sa.BigInteger),
        sa.Column("stream_seq", sa.BigInteger),
        sa.Column("stream_epoch", sa.Text),
        sa.Index("outbox_unpublished", "seq", sqlite_where=unpublished, postgresql_where=unpublished),
        sa.Index("outbox_publish_time", "publish_time"),
        sa.Index("outbox_stream_seq", "stream_seq"),
        sqlite_autoincrement=True,
    )


_OUTBOX = define(sa.MetaData())
_WRITTEN: Final = ("event_id", "aggregate_id", "subject", "type", "headers", "body", "create_time")
_ADD = Statement(sa.insert(_OUTBOX).values({name: sa.bindparam(name) for name in _WRITTEN}).inline())
_UNPUBLISHED = Statement(
    sa.select(_OUTBOX)
    .where(_OUTBOX.c.stream_seq.is_(None), _OUTBOX.c.seq > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(_OUTBOX.c.seq)
    .limit(sa.bindparam("rows_max", type_=sa.Integer))
)
_PUBLISHED = Statement(
    sa.update(_OUTBOX)
    .where(_OUTBOX.c.seq == sa.bindparam("of_seq"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("publish_time", "stream_seq", "stream_epoch")})
)
_FORGET_EPOCH = Statement(
    sa.update(_OUTBOX)
    .where(_OUTBOX.c.stream_epoch != sa.bindparam("epoch"))
    .values(publish_time=sa.null(), stream_seq=sa.null(), stream_epoch=sa.null())
)
_FORGET_FROM = Statement(
    sa.update(_OUTBOX)
    .where(_OUTBOX.c.stream_seq >= sa.bindparam("first_forgotten"))
    .values(publish_time=sa.null(), stream_seq=sa.null(), stream_epoch=sa.null())
)
_BY_STREAM_SEQ = Statement(
    sa.select(_OUTBOX.c.event_id, _OUTBOX.c.stream_seq)
    .where(_OUTBOX.c.stream_seq.is_not(None))
    .order_by(_OUTBOX.c.stream_seq.desc())
    .limit(1)
    .offset(sa.bindparam("newest_skipped", type_=sa.Integer))
)
_COUNT_PUBLISHED = Statement(
    sa.select(sa.func.count().label("rows")).where(_OUTBOX.c.stream_seq.is_not(None))
)
_LAG = Statement(
    sa.select(sa.func.count().label("rows"), sa.func.min(_OUTBOX.c.create_time).label("oldest")).where(
        _OUTBOX.c.stream_seq.is_(None)
    )
)

RETENTION: Final = Retention(_OUTBOX, _OUTBOX.c.publish_time, KEPT)
"""For the janitor: published rows go after a day, unpublished ones never."""


class Outbox:
    """What a transaction has to say to the world: `tx.outbox.add(envelope)`."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, envelope: Envelope) -> None:
        """Publishes the event if, and only if, the transaction commits; in order per aggregate.

        Raises the driver's integrity error for an event id that was used before, and ValueError for an
        event that no broker would take: it would hold up its aggregate for ever.
        """
        headers = orjson.dumps(envelope.headers())
        if len(headers) + len(envelope.data) > EVENT_BYTES_MAX:
            raise ValueError(
                f"an event of {len(headers) + len(envelope.data)} bytes, {EVENT_BYTES_MAX} at most"
            )
        self._session.run(
            _ADD,
            event_id=envelope.id,
            aggregate_id=envelope.subject,
            subject=envelope.nats_subject,
            type=envelope.type,
            headers=headers,
            body=envelope.data,
            create_time=to_micros(envelope.time),
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that is not yet known to be in the stream."""

    seq: int
    event_id: str
    aggregate_id: str
    subject: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """That the stream has a row, and where."""

    seq: int
    stream_seq: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the broker is behind the database."""

    rows: int
    oldest_age_s: float
    """Seconds since the oldest unpublished event happened; 0 if there is none."""


def unpublished(session: Session, rows_max: int, *, after: int = 0) -> list[Waiting]:
    """The oldest unpublished rows behind a place (`Waiting.seq`), in order."""
    return [_waiting(row) for row in session.all(_UNPUBLISHED, rows_max=rows_max, after=after)]


def mark_published(session: Session, rows: Iterable[Published], *, epoch: str, at: datetime) -> None:
    """Notes where in the stream the rows are."""
    session.many(
        _PUBLISHED,
        [
            {
                "of_seq": row.seq,
                "new_publish_time": to_micros(at),
                "new_stream_seq": row.stream_seq,
                "new_stream_epoch": epoch,
            }
            for row in rows
        ],
    )


def forget_other_epochs(session: Session, epoch: str) -> int:
    """The stream is a new one: what an older one had is unpublished again. How many rows that is."""
    return session.run(_FORGET_EPOCH, epoch=epoch)


def forget_from(session: Session, stream_seq: int) -> int:
    """The stream has lost this sequence and all behind it: those rows are unpublished again."""
    return session.run(_FORGET_FROM, first_forgotten=stream_seq)


def count_published(session: Session) -> int:
    """How many rows are kept that the stream is believed to have."""
    row = session.one(_COUNT_PUBLISHED)
    return int(row["rows"]) if row else 0


def nth_newest(session: Session, newest_skipped: int) -> tuple[str, int]:
    """Event id and stream sequence of a published row, counted from the newest (0)."""
    row = session.one(_BY_STREAM_SEQ, newest_skipped=newest_skipped)
    if row is None:
        raise IndexError(newest_skipped)
    return row["event_id"], row["stream_seq"]


def lag(session: Session, now: datetime) -> Lag:
    """How much waits, and for how long."""
    row = session.one(_LAG)
    if row is None or not row["rows"]:
        return Lag(0, 0.0)
    return Lag(row["rows"], max(0.0, (to_micros(now) - row["oldest"]) / 1e6))


def _waiting(row: Row) -> Waiting:
    return Waiting(
        seq=row["seq"],
        event_id=row["event_id"],
        aggregate_id=row["aggregate_id"],
        subject=row["subject"],
        headers=orjson.loads(row["headers"]),
        body=row["body"],
    )
