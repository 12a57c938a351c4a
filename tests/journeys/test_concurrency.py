"""What is claimed of many customers at once, with everything running."""

import asyncio
import uuid
from collections import Counter

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_of_fifty_orders_for_ten_pieces_ten_are_confirmed(scene: Scene) -> None:
    product_id = await scene.product(stock=10)
    orders = await asyncio.gather(*(scene.buy(product_id=product_id) for _ in range(50)))
    ends = Counter((order["state"], order.get("rejectionReason", "")) for order in orders)
    assert ends == {("STATE_CONFIRMED", ""): 10, ("STATE_REJECTED", "OUT_OF_STOCK"): 40}
    for order in orders:
        if order["state"] == "STATE_CONFIRMED":
            await scene.assert_paid(order)
        else:
            assert await scene.done_at_provider(order) == []
    left = await scene.ask("GET", f"/products/{product_id}/availability")
    assert left.get("availableQuantity", "0") == "0"


async def test_twenty_requests_with_one_key_are_one_order(scene: Scene) -> None:
    before = await scene.orders()
    key = str(uuid.uuid4())
    body = scene.order_body(wait=True)
    replies = await asyncio.gather(*(scene.ask("POST", "/orders", body, key=key) for _ in range(20)))
    assert all(reply == replies[0] for reply in replies)
    assert await scene.orders() - before == {replies[0]["orderId"]}
    await scene.assert_paid(replies[0])
