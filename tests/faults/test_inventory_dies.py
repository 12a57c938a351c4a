"""Inventory is killed around its commits and replies; stock is neither lost nor sold twice."""

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

AROUND = ["storage.commit.before", "storage.commit.after", "server.reply.before"]
TELLING = ["outbox.publish.before", "outbox.mark.before"]


@pytest.mark.parametrize("site", AROUND)
@pytest.mark.parametrize("rpc", ["ReserveStock", "CommitStock"])
async def test_orders_are_confirmed_though_inventory_dies_at(scene: Scene, site: str, rpc: str) -> None:
    orders = await scene.survives("inventory", f"{site}[{rpc}]=exit", *(scene.buy() for _ in range(3)))
    for order in orders:
        await scene.assert_paid(order)


@pytest.mark.parametrize("site", AROUND)
async def test_cancelled_orders_give_everything_back_though_inventory_dies_at_release(
    scene: Scene, site: str
) -> None:
    bought = [await scene.buy() for _ in range(2)]
    ended = await scene.survives(
        "inventory", f"{site}[ReleaseStock]=exit", *(scene.cancel(order["orderId"]) for order in bought)
    )
    for order in ended:
        await scene.assert_given_back(order, ["AUTHORIZE", "CAPTURE", "REFUND"])


@pytest.mark.parametrize("site", TELLING)
async def test_orders_are_confirmed_though_inventory_dies_telling_at(scene: Scene, site: str) -> None:
    for order in await scene.survives("inventory", f"{site}=exit", scene.buy()):
        await scene.assert_paid(order)


async def test_the_last_piece_is_sold_once_though_inventory_dies_selling_it(scene: Scene) -> None:
    product_id = await scene.product(stock=1)
    orders = await scene.survives(
        "inventory",
        "storage.commit.after[ReserveStock]=exit",
        *(scene.buy(product_id=product_id) for _ in range(3)),
    )
    assert sorted(order["state"] for order in orders) == [
        "STATE_CONFIRMED",
        "STATE_REJECTED",
        "STATE_REJECTED",
    ]


async def test_an_order_called_off_while_inventory_is_down_gives_everything_back(scene: Scene) -> None:
    async with scene.down("inventory", "storage.commit.before[CommitStock]=exit") as death:
        order_id = await scene.begin()
        await death
        await scene.call_off(order_id)
    await scene.assert_given_back(await scene.settled(order_id), ["AUTHORIZE", "VOID"])
