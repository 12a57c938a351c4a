"""Notification is killed between its consumer's commit and the acknowledgement; each fact is told once."""

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    "place",
    [
        "consumer.commit.before=exit",
        "consumer.ack.before=exit",
        "notification.send.before=exit",
        "notification.send.after=exit",  # the console may hear it twice, and the message is still one
        "storage.commit.after=exit",
    ],
)
async def test_each_order_is_told_of_once_though_notification_dies_at(scene: Scene, place: str) -> None:
    orders = await scene.survives("notification", place, *(scene.buy() for _ in range(3)))
    for order in orders:
        await scene.assert_paid(order)
