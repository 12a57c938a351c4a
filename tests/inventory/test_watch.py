"""Streams of stock: the newest levels at once, then after each commit; over a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from bodega.inventory.v1 import inventory_pb2 as pb

from services.chassis.feed import Feed
from services.chassis.testing import until
from services.inventory import holds
from services.inventory.watch import StockWatch
from tests.inventory.shop import NOBODY, NOT_FOUND, TOO_MUCH, Shop, order, refused

WAIT_S = 10.0
ENDS_SOON_S = 2.0  # half of it for what there is to be told, half for the end to arrive in time


class Watcher:
    """A client that watches."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._replies = aiter(call)

    async def next(self) -> pb.WatchStockResponse:
        async with asyncio.timeout(WAIT_S):
            return await anext(self._replies)

    async def over(self) -> bool:
        """Whether it ends now, and well. Raises what the stream ends with if it does not end well."""
        with pytest.raises(StopAsyncIteration):
            await self.next()
        return await self.call.code() is grpc.StatusCode.OK


@asynccontextmanager
async def watching(
    shop: Shop, product: pb.Product, *, after_version: int = 0, timeout_s: float | None = None
) -> AsyncIterator[Watcher]:
    request = pb.WatchStockRequest(product_id=product.product_id, after_version=after_version)
    call = shop.inventory.WatchStock(request, timeout=timeout_s)
    try:
        yield Watcher(call)
    finally:
        call.cancel()


async def test_the_levels_are_told_at_once_and_after_each_change(shop: Shop) -> None:
    far = await shop.warehouse("Far", 1)
    beans = await shop.product("B-1", on_hand=5)
    async with watching(shop, beans) as watcher:
        first = await watcher.next()
        assert (first.available, [level.on_hand for level in first.levels]) == (5, [5])
        await shop.count(beans, 2, far)
        second = await watcher.next()
        assert (second.available, sorted(level.on_hand for level in second.levels)) == (7, [2, 5])
        await shop.reserve(order(), (beans, 4))
        third = await watcher.next()
        assert (third.available, sum(level.reserved for level in third.levels)) == (3, 4)
        assert first.version < second.version < third.version
        assert third.version == (await shop.movements(beans))[0].movement_id


async def test_holds_that_expire_are_told_too(shop: Shop) -> None:
    beans = await shop.product("B-1", on_hand=5)
    await shop.reserve(order(), (beans, 4), expires_in_s=1)
    async with watching(shop, beans) as watcher:
        assert (await watcher.next()).available == 1
        shop.clock.advance(1)
        await shop.store.write(lambda tx: holds.expire_lapsed(tx, at=shop.clock.now()))
        assert (await watcher.next()).available == 5


async def test_nothing_is_told_of_other_products_nor_of_what_was_refused(shop: Shop) -> None:
    beans, milk = await shop.product("B-1", on_hand=5), await shop.product("M-1", on_hand=5)
    async with watching(shop, beans) as watcher:
        first = await watcher.next()
        await shop.count(milk, 1)
        with pytest.raises(grpc.aio.AioRpcError):
            await shop.reserve(order(), (beans, 6))
        await shop.count(beans, 4)
        second = await watcher.next()
        assert (first.available, second.available) == (5, 4)


async def test_who_resumes_hears_only_what_is_newer(shop: Shop) -> None:
    beans = await shop.product("B-1", on_hand=5)
    async with watching(shop, beans) as watcher:
        seen = (await watcher.next()).version
    async with watching(shop, beans, after_version=seen, timeout_s=ENDS_SOON_S) as watcher:
        assert await watcher.over()
    async with watching(shop, beans, after_version=seen) as watcher:
        await shop.count(beans, 4)
        newer = await watcher.next()
        assert newer.available == 4
    async with watching(shop, beans, after_version=seen) as watcher:
        assert await watcher.next() == newer


async def test_a_version_of_the_future_gets_what_there_is(shop: Shop) -> None:
    beans = await shop.product("B-1", on_hand=5)
    async with watching(shop, beans, after_version=10**9) as watcher:
        assert (await watcher.next()).available == 5


async def test_a_product_that_never_had_stock_is_told_as_nothing(shop: Shop) -> None:
    beans = await shop.product("B-1")
    async with watching(shop, beans) as watcher:
        nothing = await watcher.next()
        assert (nothing.version, nothing.available, list(nothing.levels)) == (0, 0, [])
        await shop.count(beans, 1)
        assert (await watcher.next()).available == 1


async def test_a_product_that_is_not_there(shop: Shop, feed: Feed) -> None:
    async with watching(shop, pb.Product(product_id=NOBODY)) as watcher:
        await refused(watcher.next(), NOT_FOUND, "PRODUCT_NOT_FOUND")
    await until(lambda: feed.watchers == 0)


async def test_it_ends_well_a_little_before_its_deadline(shop: Shop, feed: Feed) -> None:
    beans = await shop.product("B-1", on_hand=5)
    async with watching(shop, beans, timeout_s=ENDS_SOON_S) as watcher:
        await watcher.next()
        assert await watcher.over()
    await until(lambda: feed.watchers == 0)


async def test_it_ends_well_when_the_server_drains(shop: Shop, feed: Feed) -> None:
    beans = await shop.product("B-1", on_hand=5)
    async with watching(shop, beans) as watcher:
        await watcher.next()
        feed.close()
        assert await watcher.over()
    async with watching(shop, beans) as late:
        assert await late.over()


async def test_a_client_that_leaves_is_forgotten(shop: Shop, feed: Feed) -> None:
    beans = await shop.product("B-1", on_hand=5)
    async with watching(shop, beans) as watcher:
        await watcher.next()
        assert feed.watchers == 1
    await until(lambda: feed.watchers == 0)


class TestCrowds:
    @pytest.fixture
    def feed(self) -> Feed:
        return Feed(watchers_max=2)

    async def test_one_more_than_there_is_room_for_is_told_so(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        async with watching(shop, beans) as one, watching(shop, beans) as two:
            await asyncio.gather(one.next(), two.next())
            async with watching(shop, beans) as three:
                await refused(three.next(), TOO_MUCH, "TOO_MANY_WATCHERS")


async def test_a_slow_client_skips_what_was_overtaken(shop: Shop, feed: Feed) -> None:
    """In the server's place: what lies in grpc's own buffers on the way is not ours to skip."""
    beans = await shop.product("B-1", on_hand=1)
    levels = StockWatch(shop.store, feed).levels(beans.product_id, after_version=0)
    assert (await anext(levels)).available == 1
    for on_hand in range(2, 50):
        await shop.count(beans, on_hand)
    assert (await anext(levels)).available == 49
    pending = asyncio.ensure_future(anext(levels))
    await shop.count(beans, 50)
    assert (await asyncio.wait_for(pending, WAIT_S)).available == 50
    await levels.aclose()
    assert feed.watchers == 0


async def test_a_thousand_watchers_read_the_table_once_a_change(
    shop: Shop, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    beans = await shop.product("B-1", on_hand=1)
    reads = 0
    read = shop.store.read

    async def counted(fn: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(fn)

    monkeypatch.setattr(shop.store, "read", counted)  # nobody else reads: AdjustStock writes
    watch = StockWatch(shop.store, feed)
    streams = [watch.levels(beans.product_id, after_version=0) for _ in range(1000)]
    for on_hand in range(1, 4):
        if on_hand > 1:
            await shop.adjust(beans, 1)
        async with asyncio.timeout(WAIT_S):
            newest = await asyncio.gather(*(anext(stream) for stream in streams))
        assert {reply.available for reply in newest} == {on_hand}
        assert reads == on_hand
    for stream in streams:
        await stream.aclose()


async def test_watchers_on_many_products_while_they_move(shop: Shop) -> None:
    products = [await shop.product(f"P-{number}", on_hand=20) for number in range(5)]

    async def follow(product: pb.Product) -> list[int]:
        versions = []
        async with watching(shop, product) as watcher:
            while (reply := await watcher.next()).available:
                versions.append(reply.version)
        return versions

    following = [asyncio.create_task(follow(product)) for product in products for _ in range(4)]
    await asyncio.gather(*(shop.reserve(order(), (product, 1)) for product in products for _ in range(20)))
    async with asyncio.timeout(WAIT_S):
        seen = await asyncio.gather(*following)
    for versions in seen:
        assert versions == sorted(set(versions)), "never twice, never back"
