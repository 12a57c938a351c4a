"""The spans of transactions and of the statements in them, where the request at hand is sampled."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from services.chassis import tracing
from services.chassis.context import TraceContext
from services.chassis.storage.session import Session
from services.chassis.tracing import Kind, Value, names

T = TypeVar("T")

QUERY_CHARS_MAX: Final = 2048
"""A list of columns may be long; what is behind them seldom says more."""

_OPERATION: Final = re.compile(r"\s*(\w+)")
_TABLE: Final = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+\"?(\w+)", re.IGNORECASE)

Work = Callable[[Session], T]


def traced(
    name: str, system: str, work: Work[T], run: Callable[[Work[T]], Coroutine[Any, Any, T]]
) -> Coroutine[Any, Any, T]:
    """Has a transaction function run, from its queuing to its answer in a span, if it is to be in one."""
    parent = tracing.sampled()
    return run(work) if parent is None else _in_span(name, system, parent, work, run)


async def _in_span(
    name: str,
    system: str,
    parent: TraceContext,
    work: Work[T],
    run: Callable[[Work[T]], Coroutine[Any, Any, T]],
) -> T:
    place = parent.child()

    def watched(session: Session) -> T:
        with session.watched(lambda sql, rows: _statement(system, place, sql, rows)):
            return work(session)

    with tracing.written(name, Kind.INTERNAL, place, parent.span_id, {names.DB_SYSTEM: system}):
        return await run(watched)


def searched(
    dialect: sa.Dialect, clause: sa.Select[Any], search: Coroutine[Any, Any, T]
) -> Coroutine[Any, Any, T]:
    """The same for a query of its own."""
    parent = tracing.sampled()
    if parent is None:
        return search
    sql = str(clause.compile(dialect=dialect))
    return _awaited_in(_statement(dialect.name, parent, sql), search)


async def _awaited_in(span: AbstractContextManager[None], work: Awaitable[T]) -> T:
    with span:
        return await work


def _statement(system: str, parent: TraceContext, sql: str, rows: int = 1) -> AbstractContextManager[None]:
    """One statement, with its placeholders: never what is bound to them."""
    operation, table = summary(sql)
    told: dict[str, Value] = {
        names.DB_SYSTEM: system,
        names.DB_OPERATION: operation,
        names.DB_QUERY: sql[:QUERY_CHARS_MAX],
    }
    if table:
        told[names.DB_COLLECTION] = table
    if rows > 1:
        told[names.DB_BATCH_SIZE] = rows
    name = f"{operation} {table}".strip()
    return tracing.written(name, Kind.CLIENT, parent.child(), parent.span_id, told)


@lru_cache(1024)
def summary(sql: str) -> tuple[str, str]:
    """What a statement does, and to which table first."""
    operation, table = _OPERATION.match(sql), _TABLE.search(sql)
    return operation[1].upper() if operation else "", table[1] if table else ""
