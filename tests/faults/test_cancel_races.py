"""A cancel at any moment, with the order service dying meanwhile: all of the order happened, or none."""

import asyncio

import pytest

from tests.faults.scene import Json, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

ORDERS = 6


@pytest.mark.parametrize(
    "place",
    [
        "order.append.before=exit@4",
        "order.append.after=exit@3",
        "order.release_stock.after=exit@3",
        "storage.commit.before[CancelOrder]=exit@3",
        "order.void_payment.before=exit@2",
    ],
)
async def test_a_cancelled_order_gives_back_whatever_it_had(scene: Scene, place: str) -> None:
    async def regret(number: int) -> Json:
        order_id = await scene.begin(card="slow" if number % 2 else "approve")
        return await scene.cancel(order_id)

    ended = await scene.survives("order", place, *(regret(number) for number in range(ORDERS)))
    assert {order["state"] for order in ended} == {"STATE_CANCELLED"}
    for order in ended:
        done = await scene.done_at_provider(order)
        assert done in (
            [],
            ["AUTHORIZE", "VOID"],
            ["AUTHORIZE", "CAPTURE", "REFUND"],
        ), done


async def test_cancels_and_deaths_of_payment_leave_nothing_held(scene: Scene) -> None:
    async def regret() -> Json:
        return await scene.cancel(await scene.begin())

    async with asyncio.TaskGroup() as tasks:
        ended = [tasks.create_task(regret()) for _ in range(ORDERS)]
        for _ in range(2):
            await scene.kill("payment")
            await scene.revive("payment")
    assert {order.result()["state"] for order in ended} == {"STATE_CANCELLED"}
