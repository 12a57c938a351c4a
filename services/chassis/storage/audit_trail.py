"""The audit trail: what staff changed, and who was refused what. Rows are added, and go when they are old.

An act of staff is written in the transaction of its effect, so that neither is ever without the other.
Refused calls have no transaction to be written in: see `denials.py`.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson
import sqlalchemy as sa
from google.protobuf.message import Message

from services.chassis import context
from services.chassis.context import RequestContext
from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement
from services.chassis.subject import subject
from services.kernel.clock import to_micros
from services.kernel.errors import DomainError

KEPT: Final = timedelta(days=400)
"""A year, and a month to look back on it."""

LOCKED: Final = timedelta(days=365)
"""How long the database itself refuses to delete a row. Less than KEPT: clocks differ."""

TABLE: Final = "audit_trail"
OK: Final = "OK"


class Kind(StrEnum):
    """What a row tells of."""

    ACT = "act"
    """Somebody changed something because of their role, or as the operator."""

    DENIED = "denied"
    """Somebody was refused because of who they are, or are not."""


def define(metadata: sa.MetaData) -> sa.Table:
    """Adds the trail to a service's tables."""
    table = sa.Table(
        TABLE,
        metadata,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False, index=True),
        # How many alike the row stands for; all but refused calls stand for themselves.
        sa.Column("times", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("on_behalf_of", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("trace_id", sa.Text, nullable=False),
        # A number is never given twice: whoever cuts off the end of the trail leaves a gap.
        sqlite_autoincrement=True,
    )
    sa.event.listen(table, "after_create", _created)
    return table


def protect(connection: sa.Connection) -> None:
    """Has the database refuse changes to the trail, and deletions of what is younger than LOCKED.

    For migrations, which create the table themselves. Against mistakes and injected SQL; whoever owns the
    database can of course do away with the triggers. So does SQLite when a table is copied, as Alembic's
    batches do: a migration that changes this table so must protect it again.
    """
    for statement in _PROTECTION[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def _created(_table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    protect(connection)


_LOCKED_MICROS: Final = LOCKED // timedelta(microseconds=1)
_PROTECTION: Final = {
    "sqlite": (
        f"""
        CREATE TRIGGER {TABLE}_is_not_changed BEFORE UPDATE ON {TABLE}
        BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END
        """,
        f"""
        CREATE TRIGGER {TABLE}_is_kept BEFORE DELETE ON {TABLE}
        WHEN OLD.create_time > CAST(strftime('%s', 'now') AS INTEGER) * 1000000 - {_LOCKED_MICROS}
        BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END
        """,
    ),
    "postgresql": (
        f"""
        CREATE FUNCTION {TABLE}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                IF OLD.create_time <= extract(epoch FROM now()) * 1000000 - {_LOCKED_MICROS} THEN
                    RETURN OLD;
                END IF;
            END IF;
            RAISE EXCEPTION '{TABLE} is append-only';
        END $$
        """,
        f"""
        CREATE TRIGGER {TABLE}_is_kept BEFORE UPDATE OR DELETE ON {TABLE}
        FOR EACH ROW EXECUTE FUNCTION {TABLE}_is_append_only()
        """,
        f"""
        CREATE TRIGGER {TABLE}_is_not_emptied BEFORE TRUNCATE ON {TABLE}
        FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_is_append_only()
        """,
    ),
}

TRAIL: Final = define(sa.MetaData())
ADD: Final = Statement(
    sa.insert(TRAIL)
    .values({column.name: sa.bindparam(column.name) for column in TRAIL.columns if column.name != "seq"})
    .inline()
)

RETENTION: Final = Retention(TRAIL, TRAIL.c.create_time, KEPT)
"""For the janitor."""


def acting() -> RequestContext | None:
    """The request at hand, if what it does next is to be written down."""
    request = context.current()
    return None if request is None or request.act is None else request


def record(session: Session, request: RequestContext, answer: object, *, now: datetime) -> None:
    """Writes down what has just been done in this transaction; once per request, however many it takes.

    `answer` is what the handler says of it: a reply, whose ids join those of the request, or a DomainError,
    which is a "no" with effects.
    """
    session.run(ADD, **_row(request, answer, now))
    session.after_commit(lambda: _on_record(request))


def _on_record(request: RequestContext) -> None:
    request.act = None


def _row(request: RequestContext, answer: object, now: datetime) -> dict[str, object]:
    told = subject(answer) if isinstance(answer, Message) else {}
    return {
        "kind": Kind.ACT.value,
        "create_time": to_micros(now),
        "times": 1,
        "actor": request.caller.name,
        "on_behalf_of": request.caller.on_behalf_of,
        "roles": roles(request),
        "address": "",
        "method": request.method.path if request.method else "",
        "subject": orjson.dumps(told | (request.act or {})).decode(),
        "outcome": answer.reason if isinstance(answer, DomainError) else OK,
        "request_id": request.labels.get("request_id", ""),
        "trace_id": request.trace.trace_id,
    }


def roles(request: RequestContext) -> str:
    """What the caller is trusted with, in one word."""
    return ",".join(sorted(request.caller.roles))
