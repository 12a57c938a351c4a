"""The order service is killed at every place of an order's life; the order ends as if nothing had been.

On the way forward it dies at each of them. Of two places of an undo that enclose nothing (after this step,
before the next), one kind of undo dies at the one and another kind at the other.
"""

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACCEPTING = [
    "server.reply.before[CreateOrder]",
    "storage.commit.before[CreateOrder]",
    "storage.commit.after[CreateOrder]",
    "order.accept.after",
]
STEPS = [
    "order.reserve_stock.before",
    "order.reserve_stock.after",
    "order.authorize_payment.before",
    "order.authorize_payment.after",
    "order.commit_stock.before",
    "order.commit_stock.after",
    "order.capture_payment.before",
    "order.capture_payment.after",
]
APPENDS = [
    "order.append.before",
    "order.append.after",
]  # twice: before the point of no return, and at the end
TELLING = ["outbox.publish.before", "outbox.mark.before"]


@pytest.mark.parametrize("place", [*ACCEPTING, *STEPS, *TELLING])
async def test_orders_are_confirmed_though_the_order_service_dies_at(scene: Scene, place: str) -> None:
    orders = await scene.survives("order", f"{place}=exit", *(scene.buy() for _ in range(3)))
    for order in orders:
        await scene.assert_paid(order)


@pytest.mark.parametrize("visit", [1, 2])
@pytest.mark.parametrize("place", APPENDS)
async def test_an_order_is_confirmed_though_the_order_service_dies_at_append(
    scene: Scene, place: str, visit: int
) -> None:
    [order] = await scene.survives("order", f"{place}=exit@{visit}", scene.buy())
    await scene.assert_paid(order)


@pytest.mark.parametrize(
    "place",
    [
        "order.append.before=exit@1",
        "order.release_stock.before=exit",
        "order.release_stock.after=exit",
        "order.append.after=exit@2",
    ],
)
async def test_a_declined_order_is_rejected_though_the_order_service_dies_at(
    scene: Scene, place: str
) -> None:
    [order] = await scene.survives("order", place, scene.buy(card="decline"))
    await scene.assert_declined(order)


@pytest.mark.parametrize(
    "place",
    [
        "order.append.before=exit@2",
        "order.append.after=exit@2",
        "order.void_payment.after=exit",
        "order.append.before=exit@3",
    ],
)
async def test_an_order_whose_capture_is_refused_is_undone_though_the_order_service_dies_at(
    scene: Scene, place: str
) -> None:
    """Sold already and the card does not pay: both are undone."""
    [order] = await scene.survives("order", place, scene.buy(card="capture_refused"))
    await scene.assert_capture_refused(order)


@pytest.mark.parametrize(
    "place",
    [
        "storage.commit.before[CancelOrder]",
        "storage.commit.after[CancelOrder]",
        "server.reply.before[CancelOrder]",
        "order.void_payment.before",
        "order.release_stock.before",
        "order.release_stock.after",
        "order.append.after",
    ],
)
async def test_cancelled_orders_give_everything_back_though_the_order_service_dies_at(
    scene: Scene, place: str
) -> None:
    bought = [await scene.buy() for _ in range(2)]
    ended = await scene.survives(
        "order", f"{place}=exit", *(scene.cancel(order["orderId"]) for order in bought)
    )
    for order in ended:
        await scene.assert_given_back(order, ["AUTHORIZE", "CAPTURE", "REFUND"])
