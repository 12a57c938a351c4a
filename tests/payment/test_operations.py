"""Operations at the provider: whatever dies, and whenever, the money ends where it should, once.

A life of the service ends with `Killed` at some point of an operation; the next one begins on the same files.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from bodega.payment.v1 import payment_pb2 as pb
from google.type.money_pb2 import Money

from services.chassis import failpoints
from services.kernel.errors import DomainError
from services.payment.refusals import CaptureRefused, PaymentClosed, PaymentInProgress, ProviderUnavailable
from tests.payment.house import Fault, House, Killed, new_id
from tests.payment.lives import Lives, capture_elsewhere

Books = Callable[[], dict[str, dict[str, int]]]

PLACES = ["unknown.committed", "provider.before", "provider.answered", "outcome.committed"]
AUTHORIZED, CAPTURED = pb.Payment.STATE_AUTHORIZED, pb.Payment.STATE_CAPTURED
VOIDED, REFUNDED = pb.Payment.STATE_VOIDED, pb.Payment.STATE_REFUNDED


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The process dies at this failpoint; an empty name lets it live."""

    def arm(site: str) -> None:
        async def reached(name: str) -> None:
            if name == site:
                raise Killed

        assert not site or site in failpoints.sites()
        monkeypatch.setattr(failpoints, "are_on", lambda: True)
        monkeypatch.setattr(failpoints, "areach", reached)

    return arm


async def killed(doing: Awaitable[object]) -> None:
    with pytest.raises(Killed):
        await doing


# Death at every point of every operation. Whoever asked comes again with the same request, as the saga does.


@pytest.mark.parametrize("place", PLACES)
async def test_an_authorization_survives_death_at(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        kill_at(f"payment.authorize.{place}")
        await killed(till.authorize(wanted))
    kill_at("")
    async with lives.one() as till:
        assert (await till.authorize(wanted)).state == AUTHORIZED
        assert await till.operations(wanted.order_id) == ["AUTHORIZE SUCCEEDED"]
    assert check_books()["payments.provider"] == {"payments": 1, "under_way": 0, "violations": 0}


@pytest.mark.parametrize("place", PLACES)
async def test_a_capture_survives_death_at(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        kill_at(f"payment.capture.{place}")
        await killed(till.capture(wanted.order_id))
    kill_at("")
    async with lives.one() as till:
        assert (await till.capture(wanted.order_id)).state == CAPTURED
        assert await till.operations(wanted.order_id) == ["AUTHORIZE SUCCEEDED", "CAPTURE SUCCEEDED"]
    assert check_books()["ledger.posted"] == {"entries": 1, "movements": 1, "violations": 0}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["void", "refund"])
async def test_an_undo_survives_death_at(
    lives: Lives, kill_at: Callable[[str], None], place: str, kind: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        if kind == "refund":
            await till.capture(wanted.order_id)
        kill_at(f"payment.{kind}.{place}")
        await killed(till.void(wanted.order_id))
    kill_at("")
    async with lives.one() as till:
        assert (await till.void(wanted.order_id)).state == (REFUNDED if kind == "refund" else VOIDED)
    check_books()


@pytest.mark.parametrize("place", PLACES)
async def test_a_refund_survives_death_at(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    refund_id = new_id()
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        await till.capture(wanted.order_id)
        kill_at(f"payment.refund.{place}")
        await killed(till.refund(wanted.order_id, refund_id))
    kill_at("")
    async with lives.one() as till:
        assert (await till.refund(wanted.order_id, refund_id)).state == REFUNDED
    assert check_books()["ledger.posted"] == {"entries": 2, "movements": 2, "violations": 0}


@pytest.mark.parametrize("place", PLACES)
async def test_a_refund_in_part_survives_death_at(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    refund_id, three = new_id(), Money(currency_code="EUR", units=3)
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        await till.capture(wanted.order_id)
        kill_at(f"payment.refund.{place}")
        await killed(till.refund(wanted.order_id, refund_id, amount=three))
    kill_at("")
    async with lives.one() as till:
        for request_id in ("refund", "again"):
            refunded = await till.refund(wanted.order_id, refund_id, request_id, three)
            assert (refunded.state, refunded.refunded_amount) == (
                pb.Payment.STATE_PARTIALLY_REFUNDED,
                three,
            )
        voided = await till.void(wanted.order_id)
        assert (voided.state, voided.refunded_amount) == (REFUNDED, wanted.amount)
    assert check_books()["ledger.posted"] == {"entries": 3, "movements": 3, "violations": 0}


@pytest.mark.parametrize("place", PLACES)
async def test_a_void_after_a_death_within_a_refund_in_part_gives_back_the_rest(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    three = Money(currency_code="EUR", units=3)
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        await till.capture(wanted.order_id)
        kill_at(f"payment.refund.{place}")
        await killed(till.refund(wanted.order_id, new_id(), amount=three))
    kill_at("")
    async with lives.one() as till:
        voided = await till.void(wanted.order_id)
        assert (voided.state, voided.refunded_amount) == (REFUNDED, wanted.amount)
    assert check_books()["ledger.posted"] == {"entries": 3, "movements": 3, "violations": 0}


async def test_a_refund_is_not_told_the_state_of_another_that_is_under_way(
    lives: Lives, check_books: Books
) -> None:
    refund_id, three = new_id(), Money(currency_code="EUR", units=3)
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        await till.capture(wanted.order_id)
        await till.refund(wanted.order_id, refund_id, "first", three)
        till.house.line.answers_wait = True
        other = asyncio.create_task(till.refund(wanted.order_id, new_id(), "other"))
        await till.house.line.asked.wait()
        with pytest.raises(PaymentInProgress):
            await till.refund(wanted.order_id, refund_id, "repeat", three)
        till.house.line.answers.set()
        assert (await other).state == REFUNDED
        assert (await till.refund(wanted.order_id, refund_id, "repeat", three)).state == REFUNDED
    check_books()


@pytest.mark.parametrize("place", PLACES)
async def test_nobody_need_come_again_for_what_is_open_to_be_settled(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        kill_at(f"payment.authorize.{place}")
        await killed(till.authorize(wanted))
    kill_at("")
    async with lives.one() as till:
        await till.house.reconciler.finish_due()
        assert await till.state(wanted.order_id) == "AUTHORIZED"
    assert check_books()["payments.settled"] == {"under_way": 0, "violations": 0}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["authorize", "capture"])
async def test_a_void_after_a_death_settles_first_and_then_undoes(
    lives: Lives, kill_at: Callable[[str], None], place: str, kind: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        if kind == "capture":
            await till.authorize(wanted)
        kill_at(f"payment.{kind}.{place}")
        await killed(till.capture(wanted.order_id) if kind == "capture" else till.authorize(wanted))
    kill_at("")
    async with lives.one() as till:
        voided = await till.void(wanted.order_id)
        assert voided.state == (REFUNDED if kind == "capture" else VOIDED)
        with pytest.raises(PaymentClosed):
            await till.capture(wanted.order_id, "late")
    check_books()


async def test_a_replica_waits_for_the_lease_of_another(lives: Lives, check_books: Books) -> None:
    """Only a driver of the same name takes up at once what it held when it died."""
    async with lives.one() as till, lives.one() as other:
        wanted = await till.wanted()
        till.house.line.answers_wait = True
        asking = asyncio.create_task(till.authorize(wanted))
        await till.house.line.asked.wait()
        with pytest.raises(PaymentInProgress):
            await other.authorize(wanted)
        lives.clock.advance(60)  # it seems dead, but it is only slow
        assert (await other.authorize(wanted)).state == AUTHORIZED
        till.house.line.answers.set()
        assert (await asking).state == AUTHORIZED
        assert await till.operations(wanted.order_id) == ["AUTHORIZE SUCCEEDED"]
    check_books()


# Authorized and captured in one call


DYING = [f"{kind}.{place}" for kind in ("authorize", "capture") for place in PLACES]


@pytest.mark.parametrize("site", DYING)
@pytest.mark.parametrize("then", ["asked again", "left to the reconciler"])
async def test_a_direct_payment_survives_death_at(
    lives: Lives, kill_at: Callable[[str], None], site: str, then: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        kill_at(f"payment.{site}")
        await killed(till.process(wanted))
    kill_at("")
    async with lives.one() as till:
        if then == "asked again":
            assert (await till.process(wanted)).state == CAPTURED
        else:
            await till.house.settle()
        assert await till.state(wanted.order_id) == "CAPTURED"
        assert await till.operations(wanted.order_id) == ["AUTHORIZE SUCCEEDED", "CAPTURE SUCCEEDED"]
    assert check_books()["payments.settled"] == {"under_way": 0, "violations": 0}


@pytest.mark.parametrize("site", [*DYING, *(f"void.{place}" for place in PLACES)])
async def test_a_direct_payment_that_cannot_be_captured_gives_up_its_hold_after_death_at(
    lives: Lives, kill_at: Callable[[str], None], site: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted("tok_capture_refused")
        kill_at(f"payment.{site}")
        await killed(till.process(wanted))
    kill_at("")
    async with lives.one() as till:
        with pytest.raises(CaptureRefused):
            await till.process(wanted)
        assert await till.state(wanted.order_id) == "VOIDED"
    check_books()


async def test_a_direct_payment_is_not_refused_before_its_hold_is_given_up(
    lives: Lives, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted("tok_capture_refused")
        till.house.line.faults.extend([Fault.NONE, Fault.NONE, Fault.UNREACHED])
        with pytest.raises(ProviderUnavailable):
            await till.process(wanted)
        with pytest.raises(CaptureRefused):
            await till.process(wanted)
    check_books()


async def test_a_void_has_its_way_with_a_direct_payment(lives: Lives, check_books: Books) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        till.house.line.answers_wait = True
        in_flight = asyncio.create_task(till.process(wanted))
        await till.house.line.asked.wait()
        with pytest.raises(PaymentInProgress):
            await till.void(wanted.order_id)
        till.house.line.answers.set()
        with pytest.raises(PaymentClosed):
            await in_flight
        assert await till.operations(wanted.order_id) == ["AUTHORIZE SUCCEEDED", "VOID SUCCEEDED"]
    check_books()


# Void against what is in flight


@pytest.mark.parametrize("kind", ["authorize", "capture"])
async def test_a_void_that_meets_an_operation_in_flight_has_its_way(
    lives: Lives, kind: str, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        if kind == "capture":
            await till.authorize(wanted)
        till.house.line.answers_wait = True
        doing = till.capture(wanted.order_id) if kind == "capture" else till.authorize(wanted)
        in_flight = asyncio.create_task(_coroutine(doing))
        await till.house.line.asked.wait()
        with pytest.raises(PaymentInProgress):
            await till.void(wanted.order_id)  # its wish is written down all the same
        till.house.line.answers.set()
        with pytest.raises(PaymentClosed):
            await in_flight
        assert till.house.operations.work_waits.is_set()
        await till.house.reconciler.finish_due()
        assert await till.state(wanted.order_id) == ("REFUNDED" if kind == "capture" else "VOIDED")
        assert (await till.void(wanted.order_id)).state == (REFUNDED if kind == "capture" else VOIDED)
        with pytest.raises(PaymentClosed):
            await till.capture(wanted.order_id, "late")
    check_books()


@pytest.mark.parametrize("place", PLACES)
async def test_a_wish_to_void_outlives_the_process_that_was_asking(
    lives: Lives, kill_at: Callable[[str], None], place: str, check_books: Books
) -> None:
    """Authorize in flight, void wished for, then everything dies, and nobody ever comes again."""
    async with lives.one() as till:
        wanted = await till.wanted()
        till.house.line.answers_wait = place in ("provider.answered", "outcome.committed")
        till.house.line.faults.append(Fault.NONE if till.house.line.answers_wait else Fault.KILLED_BEFORE)
        if till.house.line.answers_wait:
            kill_at(f"payment.authorize.{place}")
            in_flight = asyncio.create_task(till.authorize(wanted))
            await till.house.line.asked.wait()
            with pytest.raises(PaymentInProgress):
                await till.void(wanted.order_id)
            till.house.line.answers.set()
            await killed(in_flight)
        else:
            await killed(till.authorize(wanted))
            with pytest.raises(PaymentInProgress):
                await till.void(wanted.order_id)
    kill_at("")
    async with lives.one() as till:
        await till.house.reconciler.finish_due()
        assert await till.state(wanted.order_id) == "VOIDED"
        assert await till.operations(wanted.order_id) == ["AUTHORIZE SUCCEEDED", "VOID SUCCEEDED"]
    assert check_books()["payments.settled"] == {"under_way": 0, "violations": 0}


# A provider that does not answer


@pytest.mark.parametrize("fault", [Fault.UNREACHED, Fault.LOST_REPLY])
@pytest.mark.parametrize("then", ["asked again", "voided"])
async def test_silence_is_not_an_answer(lives: Lives, fault: Fault, then: str, check_books: Books) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        till.house.line.faults.append(fault)
        with pytest.raises(ProviderUnavailable):
            await till.authorize(wanted)
        assert await till.state(wanted.order_id) == "UNKNOWN"
        ended = await (till.void(wanted.order_id) if then == "voided" else till.authorize(wanted))
        assert ended.state == (VOIDED if then == "voided" else AUTHORIZED)
        # "Not found" told nothing: it was asked again with the same key until there was an answer.
        assert till.house.line.keys[0] == till.house.line.keys[1]
    check_books()


async def test_a_provider_that_takes_too_long_is_asked_again(lives: Lives, check_books: Books) -> None:
    async with lives.one(answer_within_s=0.05) as till:
        wanted = await till.wanted()
        till.house.line.answers_wait = True
        with pytest.raises(ProviderUnavailable):
            await till.authorize(wanted)
        till.house.line.answers.set()
        assert (await till.authorize(wanted)).state == AUTHORIZED
    check_books()


async def test_a_void_is_not_done_before_the_provider_has_done_it(lives: Lives, check_books: Books) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        await till.authorize(wanted)
        await till.capture(wanted.order_id)
        till.house.line.faults.extend([Fault.UNREACHED, Fault.LOST_REPLY])
        for _ in range(2):
            with pytest.raises(ProviderUnavailable):
                await till.void(wanted.order_id)
            assert await till.state(wanted.order_id) == "UNKNOWN"
        assert (await till.void(wanted.order_id)).state == REFUNDED
        assert await till.operations(wanted.order_id) == [
            "AUTHORIZE SUCCEEDED",
            "CAPTURE SUCCEEDED",
            "REFUND SUCCEEDED",
        ]
    check_books()


async def test_a_bug_on_the_way_to_the_provider_leaves_the_payment_to_be_taken_up(
    lives: Lives, monkeypatch: pytest.MonkeyPatch, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()

        async def broken(*_args: object, **_kwargs: object) -> object:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(till.house.line, "authorize", broken)
            with pytest.raises(ZeroDivisionError):
                await till.authorize(wanted)
        assert (await till.authorize(wanted)).state == AUTHORIZED
    check_books()


async def test_a_void_refused_because_it_was_captured_refunds(lives: Lives, check_books: Books) -> None:
    """Somebody captured at the provider, past us."""
    async with lives.one() as till:
        wanted = await till.wanted()
        payment = await till.authorize(wanted)
        await capture_elsewhere(till.house, payment.payment_id)
        voided = await till.void(wanted.order_id)
        assert (voided.state, voided.captured_amount, voided.refunded_amount) == (
            REFUNDED,
            wanted.amount,
            wanted.amount,
        )
        assert await till.operations(wanted.order_id) == [
            "AUTHORIZE SUCCEEDED",
            "VOID DECLINED",
            "CAPTURE SUCCEEDED",
            "REFUND SUCCEEDED",
        ]
    check_books()


async def test_an_undo_that_the_provider_refuses_is_tried_again_later(
    lives: Lives, monkeypatch: pytest.MonkeyPatch, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        payment = await till.authorize(wanted)
        await till.capture(wanted.order_id)
        with monkeypatch.context() as patch:
            patch.setattr(till.house.line.sandbox, "refund", till.house.line.sandbox.void)
            patch.setattr(till.house.line, "refund", _void_instead(till.house))
            with pytest.raises(ProviderUnavailable):
                await till.void(wanted.order_id)
        assert await till.state(wanted.order_id) == "CAPTURED"
        assert len(till.house.line.keys) == 2  # not in a hurry
        await till.house.settle()
        assert await till.state(wanted.order_id) == "REFUNDED"
        keys = [key.removeprefix(payment.payment_id) for key in till.house.line.keys]
        assert keys[-1].endswith("/2")
    check_books()


def _void_instead(house: House) -> Callable[..., Awaitable[object]]:
    async def refused(key: str, *, authorization: str, amount: object) -> object:
        return await house.sandbox.void(f"{key} refused", authorization=authorization)

    return refused


async def _coroutine(doing: Awaitable[pb.Payment]) -> pb.Payment:
    return await doing


def test_what_is_not_now_is_never_remembered() -> None:
    passing: list[type[DomainError]] = [PaymentInProgress, ProviderUnavailable]
    assert [error.definite for error in passing] == [False, False]
