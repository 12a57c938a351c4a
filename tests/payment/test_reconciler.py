"""The reconciler: what was left open is settled, late money goes back, and the books come to agree."""

import asyncio
from collections.abc import Callable

import pytest
from bodega.payment.v1 import payment_pb2 as pb

from services.payment.provider import ProviderSilent
from services.payment.refusals import ProviderUnavailable
from tests.payment.house import Fault
from tests.payment.lives import Lives, capture_elsewhere, late_capture

Books = Callable[[], dict[str, dict[str, int]]]

CAPTURED, REFUNDED = pb.Payment.STATE_CAPTURED, pb.Payment.STATE_REFUNDED


async def test_money_captured_after_the_order_was_given_up_goes_back_once(
    lives: Lives, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        payment = await till.authorize(wanted)
        authorization = (
            await till.house.store.read(lambda tx: tx.payments.get(payment.payment_id))
        ).authorization
        await till.void(wanted.order_id)
        await late_capture(till.house, authorization)
        await till.house.settle()
        assert await till.state(wanted.order_id) == "REFUNDED"
        before = list(till.house.line.keys)
        await till.house.settle()
        assert till.house.line.keys == before
        assert (await till.void(wanted.order_id, "again")).state == REFUNDED
    assert check_books()["ledger.posted"] == {"entries": 2, "movements": 2, "violations": 0}


async def test_a_refund_made_elsewhere_is_taken_over(lives: Lives, check_books: Books) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        payment = await till.authorize(wanted)
        await till.capture(wanted.order_id)
        known = await till.house.store.read(lambda tx: tx.payments.get(payment.payment_id))
        await till.house.sandbox.refund("dashboard", authorization=known.authorization, amount=known.captured)
        await till.house.settle()
        assert await till.state(wanted.order_id) == "REFUNDED"
    check_books()


async def test_books_are_compared_from_where_the_last_comparison_ended(lives: Lives) -> None:
    async with lives.one() as till:
        for _ in range(60):  # more than a page of the provider's
            wanted = await till.wanted()
            payment = await till.authorize(wanted)
        await capture_elsewhere(till.house, payment.payment_id)
        assert await till.house.reconciler.compare_books() == 1
        assert await till.house.reconciler.compare_books() == 0
        assert await till.state(wanted.order_id) == "CAPTURED"
    async with lives.one() as till:
        assert await till.house.reconciler.compare_books() == 0


async def test_what_is_in_flight_is_compared_once_it_has_landed(lives: Lives, check_books: Books) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        payment = await till.authorize(wanted)
        till.house.line.faults.append(Fault.UNREACHED)
        with pytest.raises(ProviderUnavailable):
            await till.capture(wanted.order_id)
        await capture_elsewhere(till.house, payment.payment_id)
        assert await till.house.reconciler.compare_books() == 0
        # The capture is refused at the provider, who says why: it was captured.
        assert (await till.capture(wanted.order_id)).state == CAPTURED
        assert await till.house.reconciler.compare_books() == 0
    assert check_books()["payments.once"] == {"charged": 1, "violations": 0}


async def test_books_that_cannot_be_read_are_read_later(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lives.one() as till:

        async def silent(_after: str) -> object:
            raise ProviderSilent

        monkeypatch.setattr(till.house.line, "changes", silent)
        assert await till.house.reconciler.compare_books() == 0


async def test_one_payment_that_cannot_be_finished_does_not_keep_the_others_waiting(
    lives: Lives, check_books: Books
) -> None:
    async with lives.one() as till:
        orders = []
        for _ in range(3):
            wanted = await till.wanted()
            till.house.line.faults.append(Fault.UNREACHED)
            with pytest.raises(ProviderUnavailable):
                await till.authorize(wanted)
            orders.append(wanted.order_id)
        lives.clock.advance(60)
        till.house.line.faults.append(Fault.UNREACHED)
        assert await till.house.reconciler.finish_due() == 3
        states = sorted([await till.state(order_id) for order_id in orders])
        assert states == ["AUTHORIZED", "AUTHORIZED", "UNKNOWN"]
        await till.house.settle()
        assert {await till.state(order_id) for order_id in orders} == {"AUTHORIZED"}
    check_books()


async def test_the_reconciler_works_by_itself(lives: Lives) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        till.house.line.faults.append(Fault.LOST_REPLY)
        with pytest.raises(ProviderUnavailable):
            await till.authorize(wanted)
        lives.clock.advance(60)
        running = asyncio.create_task(till.house.reconciler.run())
        async with asyncio.timeout(10):
            while await till.state(wanted.order_id) == "UNKNOWN":  # noqa: ASYNC110 (what it writes is the sign)
                await asyncio.sleep(0.002)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
