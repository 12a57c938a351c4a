"""Payment is killed around every commit, provider call and reply, for each kind of operation.

Each operation is two commits: that the provider is about to be asked, and what it answered. Whatever dies in
between asks the provider again with the same key: nobody is charged twice, and nothing stays held.
"""

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

VISITS = [
    "storage.commit.before[{rpc}]=exit@1",
    "payment.{kind}.unknown.committed=exit",
    "payment.{kind}.provider.before=exit",
    "payment.{kind}.provider.answered=exit",
    "storage.commit.before[{rpc}]=exit@2",
    "payment.{kind}.outcome.committed=exit",
    "server.reply.before[{rpc}]=exit",
]
# An undo writes down the wish first, then the two commits around the provider, then the reply.
UNDO_VISITS = [
    *VISITS,
    "storage.commit.after[{rpc}]=exit@1",
    "storage.commit.before[{rpc}]=exit@3",
    "storage.commit.before[{rpc}]=exit@4",
]


@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("kind", ["authorize", "capture"])
async def test_an_order_is_charged_once_though_payment_dies_at(scene: Scene, kind: str, visit: str) -> None:
    place = visit.format(kind=kind, rpc=f"{kind.title()}Payment")
    [order] = await scene.survives("payment", place, scene.buy())
    await scene.assert_paid(order)


@pytest.mark.parametrize("visit", UNDO_VISITS)
async def test_a_captured_payment_is_given_back_once_though_payment_dies_at(scene: Scene, visit: str) -> None:
    order = await scene.buy()
    place = visit.format(kind="refund", rpc="VoidPayment")
    [ended] = await scene.survives("payment", place, scene.cancel(order["orderId"]))
    await scene.assert_given_back(ended, ["AUTHORIZE", "CAPTURE", "REFUND"])


@pytest.mark.parametrize("visit", UNDO_VISITS)
async def test_an_authorized_payment_is_voided_once_though_payment_dies_at(scene: Scene, visit: str) -> None:
    place = visit.format(kind="void", rpc="VoidPayment")
    [order] = await scene.survives("payment", place, scene.buy(card="capture_refused"))
    await scene.assert_capture_refused(order)


@pytest.mark.parametrize("visit", VISITS[2:6])
async def test_a_declined_order_is_rejected_though_payment_dies_at(scene: Scene, visit: str) -> None:
    place = visit.format(kind="authorize", rpc="AuthorizePayment")
    [order] = await scene.survives("payment", place, scene.buy(card="decline"))
    await scene.assert_declined(order)


@pytest.mark.parametrize("site", ["outbox.publish.before", "outbox.mark.before"])
async def test_payments_are_told_of_once_though_payment_dies_at(scene: Scene, site: str) -> None:
    [order] = await scene.survives("payment", f"{site}=exit", scene.buy(card="decline"))
    await scene.assert_declined(order)


async def test_an_order_waits_for_payment_that_is_down_for_a_while(scene: Scene) -> None:
    """One of them is called off meanwhile: it never costs anything."""
    await scene.kill("payment")
    kept, dropped = await scene.begin(), await scene.begin()
    await scene.call_off(dropped)
    await scene.until(lambda: scene.attempts(kept), lambda attempts: attempts >= 2)
    await scene.revive("payment")
    await scene.assert_paid(await scene.settled(kept))
    await scene.assert_given_back(await scene.settled(dropped), [])


async def test_a_lost_reply_and_a_death_charge_once(scene: Scene) -> None:
    [order] = await scene.survives(
        "payment", "payment.capture.provider.answered=exit", scene.buy(card="lost_reply")
    )
    await scene.assert_paid(order)
