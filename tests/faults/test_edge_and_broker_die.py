"""The gateway is killed while it holds a request; the broker while events flow, and with all it knew."""

import asyncio
import shutil
import uuid

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_request_the_gateway_died_with_is_one_order(scene: Scene) -> None:
    key = str(uuid.uuid4())
    before = await scene.orders()
    scene.slow("order", "server.reply.before[CreateOrder]=delay(2)@1")
    async with asyncio.TaskGroup() as tasks:
        buying = tasks.create_task(scene.buy(key=key))
        [new] = await scene.until(scene.orders_since(before), lambda orders: len(orders) == 1)
        await scene.kill("gateway")
        scene.disarm("order")
        await scene.revive("gateway")
    assert buying.result()["orderId"] == new
    await scene.assert_paid(buying.result())


async def test_orders_go_on_without_the_broker_and_are_told_of_once_when_it_is_back(scene: Scene) -> None:
    async with asyncio.TaskGroup() as tasks:
        before = [tasks.create_task(scene.buy()) for _ in range(5)]
        await scene.kill("nats")
        during = [tasks.create_task(scene.buy()) for _ in range(5)]
        await asyncio.gather(*during)
        await scene.revive("nats")
    for bought in [*before, *during]:
        await scene.assert_paid(bought.result())


async def test_a_broker_that_forgot_everything_is_told_again(scene: Scene) -> None:
    known = [await scene.buy() for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        before = [tasks.create_task(scene.buy()) for _ in range(5)]
        await scene.kill("nats")
        shutil.rmtree(scene.shop.folder.nats / "jetstream")
        during = [tasks.create_task(scene.buy()) for _ in range(5)]
        await asyncio.gather(*during)
        await scene.revive("nats")
    for order in [*known, *(bought.result() for bought in [*before, *during])]:
        await scene.assert_paid(order)
