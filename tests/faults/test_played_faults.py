"""Participants fail, hang and lose their answers, as an operator has them do: orders are paid once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.cli import failpoints
from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

ORDERS = 4


@asynccontextmanager
async def played(scene: Scene, faults: dict[str, str]) -> AsyncIterator[None]:
    """Inside, these faults are played in these services; afterwards each has been at least once."""
    for service, text in faults.items():
        await failpoints.set_in(scene.shop.endpoints, text, [service])
    try:
        yield
        for stood in (await failpoints.standing(scene.shop.endpoints, [*faults])).values():
            assert all(it.plays for it in stood.failpoints), stood
    finally:
        await failpoints.cleared(scene.shop.endpoints, [])


LOST = "server.reply.before[{}]=drop-reply*2"

ANSWERS_ARE_LOST = {
    "inventory": f"{LOST.format('ReserveStock')};{LOST.format('CommitStock')}",
    "payment": f"{LOST.format('AuthorizePayment')};{LOST.format('CapturePayment')}",
}
ALL_SORTS = {
    "inventory": "storage.commit.after[ReserveStock]=error(UNAVAILABLE)*2",
    "payment": "server.call.before[CapturePayment]=hang*1",
    "order": "client.reply.after[CommitStock]=error(DEADLINE_EXCEEDED)*2;"
    "outbox.publish.before=error(UNAVAILABLE)*2",
}


@pytest.mark.parametrize("faults", [ANSWERS_ARE_LOST, ALL_SORTS], ids=["answers are lost", "all sorts"])
async def test_every_order_is_paid_once_though(scene: Scene, faults: dict[str, str]) -> None:
    async with played(scene, faults):
        orders = [await scene.buy() for _ in range(ORDERS)]
        for order in orders:
            await scene.assert_paid(order)
