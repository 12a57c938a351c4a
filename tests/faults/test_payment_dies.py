"""Payment is killed around every commit, provider call and reply, for each kind of operation.

Each operation is two commits: that the provider is about to be asked, and what it answered. Whatever dies in
between asks the provider again with the same key: nobody is charged twice, and nothing stays held.

Each kind dies in each state it can be in. Where two places enclose nothing (committed, and about to ask), one
kind dies at the one and another kind at the other.
"""

import pytest

from tests.faults.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHARGING = [
    "storage.commit.before[AuthorizePayment]=exit@1",
    "payment.authorize.unknown.committed=exit",
    "payment.authorize.provider.answered=exit",
    "storage.commit.after[AuthorizePayment]=exit@2",
    "server.reply.before[AuthorizePayment]=exit",
    "storage.commit.before[CapturePayment]=exit@1",
    "payment.capture.provider.before=exit",
    "storage.commit.before[CapturePayment]=exit@2",
    "payment.capture.outcome.committed=exit",
    "server.reply.before[CapturePayment]=exit",
]
# An undo writes down the wish first, then come the two commits around the provider, then that of the reply.
REFUNDING = [
    "storage.commit.before[VoidPayment]=exit@1",
    "storage.commit.after[VoidPayment]=exit@1",
    "payment.refund.unknown.committed=exit",
    "payment.refund.provider.answered=exit",
    "storage.commit.before[VoidPayment]=exit@4",
    "server.reply.before[VoidPayment]=exit",
]
VOIDING = [
    "storage.commit.before[VoidPayment]=exit@2",
    "payment.void.provider.before=exit",
    "storage.commit.before[VoidPayment]=exit@3",
    "payment.void.outcome.committed=exit",
    "storage.commit.after[VoidPayment]=exit@4",
]


@pytest.mark.parametrize("place", CHARGING)
async def test_an_order_is_charged_once_though_payment_dies_at(scene: Scene, place: str) -> None:
    [order] = await scene.survives("payment", place, scene.buy())
    await scene.assert_paid(order)


@pytest.mark.parametrize("place", REFUNDING)
async def test_a_captured_payment_is_given_back_once_though_payment_dies_at(scene: Scene, place: str) -> None:
    order = await scene.buy()
    [ended] = await scene.survives("payment", place, scene.cancel(order["orderId"]))
    await scene.assert_given_back(ended, ["AUTHORIZE", "CAPTURE", "REFUND"])


@pytest.mark.parametrize("place", VOIDING)
async def test_an_authorized_payment_is_voided_once_though_payment_dies_at(scene: Scene, place: str) -> None:
    [order] = await scene.survives("payment", place, scene.buy(card="capture_refused"))
    await scene.assert_capture_refused(order)


@pytest.mark.parametrize(
    "place", ["payment.authorize.provider.answered=exit", "payment.authorize.outcome.committed=exit"]
)
async def test_a_declined_order_is_rejected_though_payment_dies_at(scene: Scene, place: str) -> None:
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
