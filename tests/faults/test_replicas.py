"""Replicas on PostgreSQL: one of two freezes, dies or gives way to a new one, and people buy on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import pytest_asyncio
from bodega.inventory.v1 import inventory_pb2
from bodega.inventory.v1.inventory_pb2_grpc import InventoryServiceStub

from tests import postgres_server
from tests.databases import only_postgresql
from tests.faults.figures import missed
from tests.faults.scene import WAIT_S, Scene
from tests.faults.shows import replicas
from tests.faults.shows.replicas import Lengths

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.usefixtures("databases"),
    only_postgresql,
]

UNANSWERED_MAX_BUSY = 10  # other tests have the machine, too; `make soak` asks for none

SHORT = Lengths(before_s=1, away_s=7, after_s=2)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    with postgres_server.running() as server:  # shops call their databases alike, and others run on SERVER
        async with replicas.replicated(tmp_path_factory.mktemp("replicas"), server) as scene:
            yield scene


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def holding(scene: Scene) -> AsyncIterator[None]:
    """Nothing was done twice, and nothing left out."""
    yield
    await scene.everything_holds()


async def test_who_watches_at_one_replica_hears_what_another_writes(scene: Scene) -> None:
    at = scene.shop.endpoints.services["inventory"].replicas
    request = inventory_pb2.WatchStockRequest(product_id=scene.product_id)
    async with AsyncExitStack() as lines:
        watches: list[Any] = []
        for replica in at.values():
            line = await lines.enter_async_context(grpc.aio.insecure_channel(replica.grpc))
            watches.append(InventoryServiceStub(line).WatchStock(request))
        before = [await watch.read() for watch in watches]
        await scene.buy()  # some replica holds and sells it
        async with asyncio.timeout(WAIT_S):
            after = [await watch.read() for watch in watches]
    assert all(new.version > old.version for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("program", ["inventory-1", "order-1"])
async def test_who_freezes_is_passed_over_and_does_nothing_twice_when_it_wakes(
    scene: Scene, program: str
) -> None:
    assert missed(await replicas.freezes(scene, program, SHORT)) == []


async def test_nobody_notices_that_each_replica_is_replaced(scene: Scene) -> None:
    assert missed(await replicas.give_way(scene, unanswered_max=UNANSWERED_MAX_BUSY)) == []


@pytest.mark.parametrize("program", ["inventory-2", "order-2"])
async def test_who_dies_takes_along_no_more_than_it_had_begun(scene: Scene, program: str) -> None:
    assert missed(await replicas.dies(scene, program, Lengths(before_s=1, away_s=1, after_s=1))) == []
