"""Feeds of two replicas, joined by a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.chassis.events import moves
from services.chassis.events.jetstream import JetStream
from services.chassis.events.moves import Moves
from services.chassis.events.server import NatsServer
from services.chassis.feed import Feed, Watch
from tests.chassis.events.waiting import WAIT_S, eventually, running


@pytest.fixture(autouse=True)
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "LOOK_EVERY_S", 10 * WAIT_S)


@asynccontextmanager
async def replica(server: NatsServer, name: str) -> AsyncIterator[Feed]:
    feed = Feed()
    async with JetStream.connect(server.url, name=name) as jetstream:
        joined = Moves(feed, jetstream, service="order", instance=name)
        async with running(joined.run()):
            yield feed


async def wakes(feed: Feed, watch: Watch, topic: str) -> bool:
    """Whether a watcher hears of what is moved; the one who tells may not be connected yet."""
    feed.moved(topic)
    return await watch.news(timeout_s=0.1)


@pytest.mark.parametrize("topics", [1, moves.TOPICS_MAX + 1])
async def test_what_one_replica_moves_wakes_who_watches_at_another(server: NatsServer, topics: int) -> None:
    async with AsyncExitStack() as open_things:
        one = await open_things.enter_async_context(replica(server, "one"))
        other = await open_things.enter_async_context(replica(server, "other"))
        watches = [open_things.enter_context(other.watching(f"order-{number}")) for number in range(topics)]
        await eventually(lambda: wakes(one, watches[0], "order-0"))
        for number in range(topics):
            one.moved(f"order-{number}")
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(watch.news() for watch in watches))


async def test_nobody_hears_their_own_words_again(server: NatsServer) -> None:
    async with replica(server, "one") as one, replica(server, "other") as other:
        with one.watching("order-1") as mine:
            await eventually(lambda: wakes(other, mine, "order-1"))
            while await mine.news(timeout_s=0.1):
                pass  # what was tried before it was heard
            one.moved("order-1")
            assert await mine.news(timeout_s=WAIT_S)
            assert not await mine.news(timeout_s=0.1)


async def test_without_a_broker_watchers_look_now_and_then(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "LOOK_EVERY_S", 0.05)
    async with replica(server, "one") as feed:
        await server.stop()
        with feed.watching("order-1") as watch:
            assert await watch.news(timeout_s=WAIT_S)
            assert await watch.news(timeout_s=WAIT_S)


async def test_what_waits_for_a_broker_is_bounded(server: NatsServer) -> None:
    async with JetStream.connect(server.url, name="one") as jetstream:
        joined = Moves(feed := Feed(), jetstream, service="order", instance="one")
        for number in range(moves.WAITING_MAX + 1):
            feed.moved(f"order-{number}")
        assert len(joined._moved) == moves.WAITING_MAX
