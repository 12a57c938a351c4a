"""Watchers are woken after the commit that moved their topic, and by nothing else."""

import asyncio

import pytest

from services.chassis.feed import Feed, TooManyWatchers
from services.chassis.testing import until


async def test_who_watches_is_woken() -> None:
    feed = Feed()
    with feed.watching("a") as a, feed.watching("b") as b:
        feed.moved("a")
        assert await a.news(timeout_s=1)
        assert not await a.news(timeout_s=0)
        assert not await b.news(timeout_s=0)


async def test_what_moves_between_a_look_and_a_wait_is_not_missed() -> None:
    feed = Feed()
    with feed.watching("a") as watch:
        feed.moved("a")
        feed.moved("a")
        assert await watch.news(timeout_s=1)
        feed.moved("a")
        assert await watch.news(timeout_s=1)


async def test_a_thousand_are_woken_at_once() -> None:
    feed = Feed()

    async def watched() -> bool:
        with feed.watching("a") as watch:
            return await watch.news(timeout_s=20)

    watching = [asyncio.create_task(watched()) for _ in range(1000)]
    await until(lambda: feed.watchers == 1000)
    feed.moved("a")
    assert all(await asyncio.gather(*watching))
    assert feed.watchers == 0


async def test_there_is_room_for_so_many_and_no_more() -> None:
    feed = Feed(watchers_max=1)
    with feed.watching("a"), pytest.raises(TooManyWatchers), feed.watching("b"):
        pass
    with feed.watching("b"):
        assert feed.watchers == 1


async def test_closing_wakes_everyone() -> None:
    feed = Feed()
    with feed.watching("a") as watch:
        feed.close()
        assert await watch.news(timeout_s=1)
        assert feed.closed
