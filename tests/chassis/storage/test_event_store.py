"""Streams of events with an expected version."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.chassis import context
from services.chassis.context import RequestContext, TraceContext
from services.chassis.identity.caller import Caller
from services.chassis.storage.event_store import NewEvent
from services.chassis.storage.faults import StaleVersion
from tests.chassis.storage.notebook import Notes, Transaction, events

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def new(*bodies: bytes) -> list[NewEvent]:
    return [NewEvent("told", body) for body in bodies]


async def test_what_was_appended_is_loaded_in_order_with_trace_and_cause(store: Notes) -> None:
    trace = TraceContext.fresh()
    caller = Caller(workload="order", on_behalf_of="user:u")
    with context.working_on(RequestContext(trace=trace, caller=caller, labels={"request_id": "r"})):
        version = await store.write(lambda tx: events.append(tx.session, "s", 0, new(b"1", b"2"), at=AT))
    assert version == 2
    assert await store.write(lambda tx: events.append(tx.session, "s", 2, new(b"3"), at=AT)) == 3

    loaded = await store.read(lambda tx: events.load(tx.session, "s"))
    assert [(event.version, event.body) for event in loaded] == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert (loaded[0].at, loaded[0].trace_id) == (AT, trace.trace_id)
    assert (loaded[0].actor, loaded[0].on_behalf_of, loaded[0].request_id) == (
        "workload:order",
        "user:u",
        "r",
    )
    unknown = (loaded[2].trace_id, loaded[2].actor, loaded[2].on_behalf_of, loaded[2].request_id)
    assert unknown == ("", "", "", "")
    assert [e.version for e in await store.read(lambda tx: events.load(tx.session, "s", after=2))] == [3]


@pytest.mark.parametrize("expected_version", [0, 1, 3, 9])
async def test_another_version_than_expected_is_a_lost_race(store: Notes, expected_version: int) -> None:
    await store.write(lambda tx: events.append(tx.session, "s", 0, new(b"1", b"2"), at=AT))

    with pytest.raises(StaleVersion) as lost:
        await store.write(lambda tx: events.append(tx.session, "s", expected_version, new(b"x"), at=AT))

    assert lost.value.metadata == {"stream_id": "s", "expected_version": str(expected_version)}
    assert await store.read(lambda tx: events.version(tx.session, "s")) == 2


async def test_streams_do_not_disturb_each_other(store: Notes) -> None:
    await store.write(lambda tx: events.append(tx.session, "a", 0, new(b"1"), at=AT))

    assert await store.read(lambda tx: events.version(tx.session, "b")) == 0
    assert await store.read(lambda tx: events.load(tx.session, "b")) == []


async def test_of_many_who_read_the_same_version_outside_one_wins(store: Notes) -> None:
    results = await asyncio.gather(
        *(store.write(lambda tx: events.append(tx.session, "s", 0, new(b"mine"), at=AT)) for _ in range(10)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["StaleVersion"] * 9 + ["int"]


async def test_those_who_load_inside_their_transaction_all_win(store: Notes) -> None:
    def append_next(tx: Transaction) -> int:
        return events.append(tx.session, "s", events.version(tx.session, "s"), new(b"mine"), at=AT)

    versions = await asyncio.gather(*(store.write(append_next) for _ in range(50)))
    assert sorted(versions) == list(range(1, 51))
