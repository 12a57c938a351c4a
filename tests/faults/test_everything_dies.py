"""A power cut: every process is killed at once, and a new shop is opened on the same folder."""

import asyncio
import uuid

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_every_accepted_order_ends_after_a_power_cut(scene: Scene) -> None:
    """Confirmed ones being cancelled, fresh ones under way, and a declined one."""
    bought = [await scene.buy() for _ in range(2)]
    before = await scene.orders()
    async with asyncio.TaskGroup() as tasks:
        cancelled = [tasks.create_task(scene.cancel(order["orderId"])) for order in bought]
        paid = [tasks.create_task(scene.buy()) for _ in range(6)]
        declined = tasks.create_task(scene.buy(card="decline"))
        await scene.until(scene.orders_since(before), lambda orders: len(orders) >= 2)
        await scene.power_cut()
    for order in cancelled:
        await scene.assert_given_back(order.result(), ["AUTHORIZE", "CAPTURE", "REFUND"])
    for order in paid:
        await scene.assert_paid(order.result())
    await scene.assert_declined(declined.result())
    assert await scene.verify() == "all holds"


async def test_a_power_cut_while_orders_wait_for_payment(scene: Scene) -> None:
    await scene.kill("payment")
    keys = [str(uuid.uuid4()) for _ in range(4)]
    waiting = [await scene.begin(key=key) for key in keys]
    await scene.call_off(waiting[0])
    await scene.power_cut()
    assert [await scene.begin(key=key) for key in keys] == waiting
    await scene.assert_given_back(await scene.settled(waiting[0]), [])
    for order_id in waiting[1:]:
        await scene.assert_paid(await scene.settled(order_id))
