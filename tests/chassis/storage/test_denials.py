"""Refused calls: on record, whatever their number."""

import asyncio
from typing import Any

import pytest

from services.chassis.context import RequestContext, TraceContext
from services.chassis.identity.caller import NOBODY, Caller
from services.chassis.storage import denials
from services.chassis.storage.denials import KINDS_MAX, MORE, ROWS_A_MINUTE, ROWS_AT_ONCE, Denials
from services.chassis.storage.faults import StorageUnavailable
from services.chassis.testing import FakeClock
from tests.chassis.playground import METHODS
from tests.chassis.storage.notebook import Notes
from tests.chassis.storage.test_audit_trail import trail

ADA = Caller(user_id="ada", roles=frozenset({"customer"}), token="eyJ.ada.s")


def refused(caller: Caller = NOBODY) -> RequestContext:
    return RequestContext(
        TraceContext.fresh(), METHODS["Read"], caller=caller, labels={"request_id": "r"}, metadata={"a": "b"}
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def noted(store: Notes, clock: FakeClock) -> Denials:
    return Denials(store, clock=clock)


def in_total(rows: list[Any]) -> int:
    return sum(row["times"] for row in rows)


async def test_a_refused_call_is_on_record_with_all_that_matters(store: Notes, noted: Denials) -> None:
    request = refused(ADA)
    noted.note(request, "203.0.113.7", "NOT_ALLOWED")
    await noted.flush()
    (row,) = await trail(store)
    assert row == {
        "seq": 1,
        "kind": "denied",
        "create_time": 1767268800000000,
        "times": 1,
        "actor": "user:ada",
        "on_behalf_of": "",
        "roles": "customer",
        "address": "203.0.113.7",
        "method": METHODS["Read"].path,
        "subject": "{}",
        "outcome": "NOT_ALLOWED",
        "request_id": "",
        "trace_id": request.trace.trace_id,
    }


async def test_what_is_alike_is_one_row_and_what_differs_another(store: Notes, noted: Denials) -> None:
    for _ in range(10_000):
        noted.note(refused(ADA), "203.0.113.7", "NOT_ALLOWED")
    noted.note(refused(), "203.0.113.7", "NOT_SIGNED_IN")
    noted.note(refused(), "203.0.113.8", "NOT_SIGNED_IN")
    await noted.flush()
    await noted.flush()
    assert [(row["actor"], row["times"]) for row in await trail(store)] == [
        ("user:ada", 10_000),
        ("", 1),
        ("", 1),
    ]


async def test_an_hour_long_flood_from_everywhere_is_some_hundred_rows_and_every_call_is_counted(
    store: Notes, noted: Denials, clock: FakeClock
) -> None:
    calls = 0
    for second in range(0, 3600, 10):
        for n in range(300):
            noted.note(refused(), f"198.51.{second}.{n}", "NOT_SIGNED_IN")
            calls += 1
        clock.advance(denials.EVERY_S)
        await noted.flush()
    rows = await trail(store)
    assert in_total(rows) == calls
    assert len(rows) <= ROWS_AT_ONCE + 60 * ROWS_A_MINUTE + 360
    assert {row["outcome"] for row in rows} == {"NOT_SIGNED_IN", MORE}


async def test_a_flood_between_two_writes_takes_no_more_memory_than_its_share(
    store: Notes, noted: Denials
) -> None:
    for n in range(5 * KINDS_MAX):
        noted.note(refused(), str(n), "NOT_SIGNED_IN")
    assert len(noted._tallies) <= KINDS_MAX + 1
    await noted.flush()
    rows = await trail(store)
    assert (len(rows), in_total(rows)) == (ROWS_AT_ONCE + 1, 5 * KINDS_MAX)


async def test_callers_who_are_known_are_not_lost_among_those_who_are_not(
    store: Notes, noted: Denials
) -> None:
    for n in range(KINDS_MAX - 1):
        noted.note(refused(), str(n), "NOT_SIGNED_IN")
    noted.note(refused(ADA), "203.0.113.7", "NOT_ALLOWED")
    await noted.flush()
    assert (await trail(store))[0]["actor"] == "user:ada"


class Broken:
    """A store that takes nothing."""

    async def transact(self, fn: Any) -> Any:
        raise StorageUnavailable


async def test_what_cannot_be_written_is_counted_and_holds_nothing_up(clock: FakeClock) -> None:
    noted = Denials(Broken(), clock=clock)
    for n in range(ROWS_AT_ONCE * 2):
        noted.note(refused(), str(n), "NOT_SIGNED_IN")
    with pytest.raises(StorageUnavailable):
        await noted.flush()
    noted.note(refused(), "1", "NOT_SIGNED_IN")
    assert noted.lost == ROWS_AT_ONCE * 2


async def test_what_was_noted_last_is_written_when_the_service_ends(store: Notes, clock: FakeClock) -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    noted = Denials(store, clock=clock, sleep=sleep)
    running = asyncio.create_task(noted.run())
    await waiting.wait()
    noted.note(refused(ADA), "203.0.113.7", "NOT_ALLOWED")
    running.cancel()
    await asyncio.wait({running})
    assert in_total(await trail(store)) == 1
