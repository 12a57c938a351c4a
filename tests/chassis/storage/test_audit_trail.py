"""Acts of staff: on record with their effect, or neither; and rows that stay as they are."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest
import sqlalchemy as sa
from bodega.order.v1 import order_pb2

from services.chassis import context, contract
from services.chassis.context import RequestContext, TraceContext
from services.chassis.identity.caller import Caller
from services.chassis.storage import audit_trail
from services.chassis.storage.idempotency import call
from services.chassis.storage.retention import Janitor
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement
from services.chassis.testing import FakeClock
from services.kernel import errors
from services.kernel.clock import SystemClock
from tests.chassis.storage.notebook import Notes, Transaction
from tests.databases import damage

CANCEL = "/bodega.order.v1.OrderService/CancelOrder"
REQUEST = order_pb2.CancelOrderRequest(order_id="o", reason="Ada asked for it", request_id="r-1")
SUE = Caller(user_id="sue", roles=frozenset({"support", "customer"}), token="eyJ.sue.s")
RAW = Statement(sa.select(audit_trail.TRAIL).order_by(audit_trail.TRAIL.c.seq))


class OrderShipped(errors.WrongState):
    """The order is on its way."""


class AccountLocked(errors.TooMuch):
    """Too many attempts."""


def act(caller: Caller = SUE) -> RequestContext:
    return RequestContext(
        TraceContext.fresh(),
        contract.by_path(order_pb2.DESCRIPTOR)[CANCEL],
        caller=caller,
        act={"order_id": "o"},
        labels={"request_id": "r-1"},
    )


async def trail(store: Notes) -> list[Any]:
    return [dict(row) for row in await store.look(lambda session: session.all(RAW))]  # type: ignore[call-overload]


def cancel(tx: Transaction) -> order_pb2.Order:
    tx.add(f"note {tx.count()}")
    return order_pb2.Order(order_id="o", user_id="ada")


async def test_an_act_is_on_record_with_all_that_matters_and_no_content(store: Notes) -> None:
    with context.working_on(act()) as request:
        await store.once(call(REQUEST), cancel)
    (row,) = await trail(store)
    assert orjson.loads(row.pop("subject")) == {"order_id": "o", "user_id": "ada"}
    assert row.pop("create_time") == pytest.approx(time.time() * 1e6, abs=60e6)
    assert row == {
        "seq": 1,
        "kind": "act",
        "times": 1,
        "actor": "user:sue",
        "on_behalf_of": "",
        "roles": "customer,support",
        "address": "",
        "method": CANCEL,
        "outcome": "OK",
        "request_id": "r-1",
        "trace_id": request.trace.trace_id,
    }


async def test_what_nobody_needs_a_role_for_is_not_on_record(store: Notes) -> None:
    await store.once(call(REQUEST), cancel)
    with context.working_on(act()) as request:
        request.act = None
        await store.write(cancel)
    assert await trail(store) == []


async def test_a_repeat_changes_nothing_and_is_not_on_record(store: Notes) -> None:
    for _ in range(2):
        with context.working_on(act()):
            await store.once(call(REQUEST), cancel)
    with context.working_on(act()) as request:
        assert await store.recall(call(REQUEST), order_pb2.Order)
        await store.write(lambda _: None)
    assert len(await trail(store)) == 1
    assert request.act is None


def refuse(_: Transaction) -> order_pb2.Order:
    raise OrderShipped


def fail(tx: Transaction) -> order_pb2.Order:
    cancel(tx)
    raise ValueError("bug")


@pytest.mark.parametrize("fn", [refuse, fail])
async def test_without_an_effect_there_is_no_act(store: Notes, fn: Callable[[Transaction], Any]) -> None:
    with context.working_on(act()):
        with pytest.raises((OrderShipped, ValueError)):
            await store.once(call(REQUEST), fn)
        with pytest.raises((OrderShipped, ValueError)):
            await store.write(fn)
    assert await trail(store) == []


async def test_without_its_record_there_is_no_effect(store: Notes, url: str) -> None:
    damage(url, f"DROP TABLE {audit_trail.TABLE}")
    with context.working_on(act()):
        with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable)):
            await store.once(call(REQUEST), cancel)
        with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable)):
            await store.write(cancel)
    assert await store.read(lambda tx: tx.count()) == 0


async def test_a_no_with_effects_is_on_record_by_its_reason(store: Notes) -> None:
    def lock(tx: Transaction) -> order_pb2.Order | errors.DomainError:
        cancel(tx)
        return AccountLocked()

    with context.working_on(act()), pytest.raises(AccountLocked):
        await store.once(call(REQUEST), lock)
    (row,) = await trail(store)
    assert row["outcome"] == "ACCOUNT_LOCKED"


async def test_a_request_of_several_transactions_is_one_act(store: Notes) -> None:
    with context.working_on(act(Caller(workload="operator"))):
        with pytest.raises(ValueError, match="bug"):
            await store.write(fail)
        await store.write(cancel)
        await store.write(cancel)
    (row,) = await trail(store)
    assert row["actor"] == "workload:operator"


async def test_acts_in_one_batch_with_others_keep_to_their_own(store: Notes) -> None:
    async def one(n: int) -> object:
        with context.working_on(act(Caller(user_id=str(n), roles=frozenset({"support"})))):
            return await store.write(fail if n % 3 == 0 else lambda tx: tx.add(f"of {n}"))

    await asyncio.gather(*(one(n) for n in range(30)), return_exceptions=True)
    actors = {row["actor"] for row in await trail(store)}
    assert actors == {f"user:{n}" for n in range(30) if n % 3}


async def add(store: Notes, age: timedelta) -> None:
    at = SystemClock().now() - age
    await store.transact(lambda session: audit_trail.record(session, act(), None, now=at))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_trail SET actor = 'user:nobody'",
        "UPDATE audit_trail SET create_time = 0",
        "DELETE FROM audit_trail",
        "DELETE FROM audit_trail WHERE seq = 1",
    ],
)
async def test_rows_are_neither_changed_nor_deleted(store: Notes, change: str) -> None:
    await add(store, timedelta(days=364))
    before = await trail(store)
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="append-only"):
        await store.transact(lambda session: _run(session, change))
    assert await trail(store) == before


def _run(session: Session, sql: str) -> None:
    session.run(Statement(sa.text(sql)))


async def test_the_janitor_forgets_what_is_older_than_a_year_and_a_month(store: Notes) -> None:
    for days in (1, 399, 401, 500):
        await add(store, timedelta(days=days))
    clock = FakeClock(SystemClock().now())
    assert await Janitor(store, audit_trail.RETENTION, clock=clock).sweep(audit_trail.RETENTION) == 2
    assert [row["seq"] for row in await trail(store)] == [1, 2]
