"""Reads answered by their last good reply, against real servers."""

from typing import Any

import pytest

from services.chassis import client, context, status
from services.chassis.client.fallback import REPLIES_MAX
from services.chassis.context import STALE, RequestContext, TraceContext
from services.chassis.identity.caller import Caller
from services.chassis.policy.circuit import Limits
from services.chassis.testing import FakeClock, serving
from tests.chassis import playground
from tests.chassis.client.neighbour import Neighbour, Nowhere, ShopClosed, called, refusal, stub
from tests.chassis.playground import FILE, METHODS, Ping, Pong, Stub

ADA, BOB = Caller(user_id="ada"), Caller(user_id="bob")
CACHE_S = METHODS["Recall"].cache_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def neighbour(clock: FakeClock) -> Neighbour:
    return Neighbour(clock)


def asked_by(caller: Caller) -> Any:
    return context.working_on(RequestContext(TraceContext.fresh(), caller=caller))


async def test_the_last_good_reply_is_served_until_it_is_too_old(
    neighbour: Neighbour, clock: FakeClock
) -> None:
    async with called(neighbour, clock) as channel:
        recite = stub(channel).Recite
        await recite(Ping(name="a"))
        neighbour.fails_with = ShopClosed()
        clock.advance(CACHE_S)
        with asked_by(ADA) as request:
            assert (await recite(Ping(name="a"))).name == "a"
            assert request.stale_s == pytest.approx(CACHE_S)
        clock.advance(0.1)
        assert status.reason(await refusal(recite(Ping(name="a")))) == "SHOP_CLOSED"


async def test_a_neighbour_that_is_well_is_asked(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        with asked_by(ADA) as request:
            for _ in range(3):
                await stub(channel).Recite(Ping(name="a"))
        assert (neighbour.calls, request.stale_s) == (3, None)


async def test_it_is_served_while_the_circuit_is_open(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock, circuits=Limits(consecutive_failures=1)) as channel:
        recite = stub(channel).Recite
        await recite(Ping(name="a"))
        neighbour.fails_with = ShopClosed()
        await recite(Ping(name="a"))
        heard = neighbour.calls
        assert (await recite(Ping(name="a"))).name == "a"
        assert status.reason(await refusal(recite(Ping(name="b")))) == "CIRCUIT_OPEN"
    assert neighbour.calls == heard


async def test_a_refusal_is_an_answer(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        recite = stub(channel).Recite
        await recite(Ping(name="a"))
        neighbour.fails_with = Nowhere(name="a")
        assert status.reason(await refusal(recite(Ping(name="a")))) == "NOWHERE"


async def test_nobody_is_given_what_another_was_told(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        recall = stub(channel).Recall
        with asked_by(ADA):
            await recall(Ping(name="a"))
        neighbour.fails_with = ShopClosed()
        with asked_by(BOB):
            await refusal(recall(Ping(name="a")))
        await refusal(recall(Ping(name="a")))
        with asked_by(ADA):
            assert (await recall(Ping(name="a"))).name == "a"


async def test_what_is_public_is_the_same_for_all(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        with asked_by(ADA):
            await stub(channel).Recite(Ping(name="a"))
        neighbour.fails_with = ShopClosed()
        with asked_by(BOB):
            assert (await stub(channel).Recite(Ping(name="a"))).name == "a"


async def test_only_what_the_contract_allows_is_remembered(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        await stub(channel).Read(Ping(name="a"))
        neighbour.fails_with = ShopClosed()
        await refusal(stub(channel).Read(Ping(name="a")))


async def test_who_changes_a_reply_changes_nobody_elses(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        recite = stub(channel).Recite
        (await recite(Ping(name="a"))).name = "changed"
        neighbour.fails_with = ShopClosed()
        (await recite(Ping(name="a"))).name = "changed"
        assert (await recite(Ping(name="a"))).name == "a"


async def test_what_was_asked_for_long_ago_makes_room(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as channel:
        recite = stub(channel).Recite
        for number in range(REPLIES_MAX + 1):
            await recite(Ping(count=number, name="a"))
        neighbour.fails_with = ShopClosed()
        await refusal(recite(Ping(count=0, name="a")))
        assert (await recite(Ping(count=1, name="a"))).name == "a"


async def test_a_reply_made_of_an_old_one_says_so(neighbour: Neighbour, clock: FakeClock) -> None:
    async with called(neighbour, clock) as to_neighbour:
        recite = stub(to_neighbour).Recite

        async def handler(request: Any, _context: Any) -> Any:
            return Pong(name=(await recite(request)).name)

        async with serving((playground.add_to_server, {"Read": handler}), files=[FILE]) as channel:
            assert await _stale(channel) is None
            neighbour.fails_with = ShopClosed()
            clock.advance(3.2)
            assert await _stale(channel) == "3"


async def _stale(channel: client.Channel) -> str | None:
    call = Stub(channel.raw).Read(Ping(name="a"))
    assert (await call).name == "a"
    told: dict[str, str] = dict(await call.initial_metadata())
    return told.get(STALE)
