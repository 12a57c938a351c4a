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


class Shelf:
    """Something to read, that counts how often it is read and can be slow."""

    def __init__(self) -> None:
        self.pieces = 0
        self.reads = 0
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> int:
        self.reads += 1
        seen = self.pieces
        await self.open.wait()
        return seen


async def test_a_thousand_share_what_one_of_them_reads() -> None:
    feed, shelf = Feed(), Shelf()
    seen: list[int] = []

    async def follow() -> None:
        with feed.watching("a") as watch:
            while (pieces := await watch.shared(shelf.read)) < 2:
                seen.append(pieces)
                assert await watch.news(timeout_s=20)
            seen.append(pieces)

    following = [asyncio.create_task(follow()) for _ in range(1000)]
    for pieces in (1, 2):
        await until(lambda: len(seen) == 1000 * (shelf.pieces + 1))
        shelf.pieces = pieces
        feed.moved("a")
    await asyncio.gather(*following)
    assert seen == [0] * 1000 + [1] * 1000 + [2] * 1000
    assert shelf.reads == 3


async def test_what_moves_while_it_is_read_is_read_again() -> None:
    feed, shelf = Feed(), Shelf()
    shelf.open.clear()
    with feed.watching("a") as watch:
        early = asyncio.create_task(watch.shared(shelf.read))
        await until(lambda: shelf.reads == 1)
        shelf.pieces = 1
        feed.moved("a")
        late = asyncio.create_task(watch.shared(shelf.read))
        shelf.open.set()
        assert (await early, await late) == (0, 1)
    assert shelf.reads == 2


async def test_a_reader_that_goes_or_fails_leaves_it_to_the_next() -> None:
    feed, shelf = Feed(), Shelf()
    shelf.open.clear()

    async def fail() -> int:
        raise LookupError

    with feed.watching("a") as watch:
        gone = asyncio.create_task(watch.shared(shelf.read))
        await until(lambda: shelf.reads == 1)
        waiting = asyncio.create_task(watch.shared(shelf.read))
        gone.cancel()
        shelf.open.set()
        assert await waiting == 0
        feed.moved("a")
        with pytest.raises(LookupError):
            await watch.shared(fail)
        assert await watch.shared(shelf.read) == 0


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
