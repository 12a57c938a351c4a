"""Streams of events, appended with an expected version: the truth of event-sourced aggregates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from services.chassis import context
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import from_micros, to_micros


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What has happened, as bytes."""

    type: str
    """What decodes the body, e.g. the full name of a protobuf message."""

    body: bytes


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """What has happened, and when, and on whose behalf."""

    stream_id: str
    version: int
    """1 for the first event of a stream, without gaps."""

    type: str
    body: bytes
    at: datetime
    trace_id: str
    """W3C trace id of the request that caused it; empty if there was none."""

    actor: str
    """Who caused it, e.g. `user:0190…`; empty if nobody was known."""

    on_behalf_of: str = ""
    """Whose wish the actor carried out; empty if it was its own."""

    request_id: str = ""
    """Of the call in which it was caused; empty if there was none."""


def define(metadata: sa.MetaData, name: str) -> sa.Table:
    """Adds a table of event streams to a service's tables."""
    return sa.Table(
        name,
        metadata,
        sa.Column("stream_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("trace_id", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("on_behalf_of", sa.Text, nullable=False, server_default=""),
        sa.Column("request_id", sa.Text, nullable=False, server_default=""),
    )


class EventStore:
    """The streams of one table. Holds statements only; every call names its session."""

    def __init__(self, table: sa.Table) -> None:
        of_stream = table.c.stream_id == sa.bindparam("of_stream_id")
        self._version = Statement(
            sa.select(sa.func.coalesce(sa.func.max(table.c.version), 0).label("version")).where(of_stream)
        )
        self._append = Statement(
            insert(table)
            .from_select(
                table.columns.keys(),
                sa.select(*(sa.bindparam(column.name, type_=column.type) for column in table.columns)).where(
                    _follows(table)
                ),
            )
            .on_conflict_do_nothing(index_elements=["stream_id", "version"])
        )
        self._load = Statement(
            sa.select(table)
            .where(of_stream, table.c.version > sa.bindparam("after", type_=sa.BigInteger))
            .order_by(table.c.version)
        )

    def append(
        self,
        session: Session,
        stream_id: str,
        expected_version: int,
        events: Sequence[NewEvent],
        *,
        at: datetime,
    ) -> int:
        """Appends behind `expected_version` (0 for a new stream); the stream's version afterwards.

        Trace and who it was come from the request at hand. Raises StaleVersion if the stream is not, or no
        longer, at that version: then nothing was appended, and the store runs the transaction again.
        """
        cause = _cause()
        for version, event in enumerate(events, start=expected_version + 1):
            appended = session.run(
                self._append,
                stream_id=stream_id,
                version=version,
                type=event.type,
                body=event.body,
                at=to_micros(at),
                **cause,
            )
            if not appended:
                raise StaleVersion(stream_id=stream_id, expected_version=expected_version)
        return expected_version + len(events)

    def load(self, session: Session, stream_id: str, *, after: int = 0) -> list[StoredEvent]:
        """The stream's events behind version `after`, in order; none for an unknown stream."""
        return [
            StoredEvent(
                stream_id=row["stream_id"],
                version=row["version"],
                type=row["type"],
                body=row["body"],
                at=from_micros(row["at"]),
                trace_id=row["trace_id"],
                actor=row["actor"],
                on_behalf_of=row["on_behalf_of"],
                request_id=row["request_id"],
            )
            for row in session.all(self._load, of_stream_id=stream_id, after=after)
        ]

    def version(self, session: Session, stream_id: str) -> int:
        """The version of the last event; 0 for an unknown stream."""
        row = session.one(self._version, of_stream_id=stream_id)
        return int(row["version"]) if row else 0


def _cause() -> dict[str, str]:
    current = context.current()
    if current is None:
        return dict.fromkeys(("trace_id", "actor", "on_behalf_of", "request_id"), "")
    return {
        "trace_id": current.trace.trace_id,
        "actor": current.caller.name,
        "on_behalf_of": current.caller.on_behalf_of,
        "request_id": current.labels.get("request_id", ""),
    }


def _follows(table: sa.Table) -> sa.ColumnElement[bool]:
    """That the new event leaves no gap behind it; that its place is free, the primary key says."""
    version = sa.bindparam("version", type_=table.c.version.type)
    stream_id = sa.bindparam("stream_id", type_=table.c.stream_id.type)
    before = sa.exists().where(table.c.stream_id == stream_id, table.c.version == version - 1)
    return sa.or_(version == 1, before)
