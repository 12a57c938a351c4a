"""The RPCs of payment over a real server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import grpc
import pytest
from bodega.payment.v1 import payment_events_pb2 as events
from bodega.payment.v1 import payment_pb2 as pb
from google.protobuf.message import Message
from google.type.money_pb2 import Money

from services.chassis import status
from services.chassis.testing import FakeClock, until
from tests.payment.house import AMOUNT, Fault, House, new_id

Books = Callable[[], dict[str, dict[str, int]]]

NOTHING = Money(currency_code="USD")


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), status.reason(error.value)


def kinds(told: Sequence[Message]) -> list[object]:
    return [type(one) for one in told]


# Payment methods


async def test_a_method_is_described_by_its_provider_and_its_token_stays_secret(house: House) -> None:
    user_id = new_id()
    method = await house.method("tok_amex_0005", user_id)
    assert (method.user_id, method.provider, method.brand, method.last_four, method.is_default) == (
        user_id,
        "sandbox",
        "amex",
        "0005",
        True,
    )
    [told] = await house.told(method.payment_method_id)
    assert told == events.PaymentMethodAdded(payment_method_id=method.payment_method_id, user_id=user_id)


async def test_a_token_that_the_provider_does_not_know_is_refused(house: House) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await house.method("tok_stolen_9999")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.reason(error.value) == "PROVIDER_TOKEN_REFUSED"
    assert "stolen" not in str(status.parse(error.value))


async def test_adding_twice_with_one_request_id_adds_one(house: House) -> None:
    request = pb.AddPaymentMethodRequest(user_id=new_id(), provider_token="tok_approve", request_id=new_id())
    first = await house.stub.AddPaymentMethod(request)
    assert await house.stub.AddPaymentMethod(request) == first
    assert len(await methods(house, request.user_id)) == 1


async def methods(house: House, user_id: str, page_size: int = 0) -> list[pb.PaymentMethod]:
    """Of all pages."""
    found: list[pb.PaymentMethod] = []
    token = ""
    while True:
        page = await house.stub.ListPaymentMethods(
            pb.ListPaymentMethodsRequest(user_id=user_id, page_size=page_size, page_token=token)
        )
        found += page.payment_methods
        token = page.next_page_token
        if not token:
            return found


async def test_methods_are_listed_newest_first_page_by_page(house: House, clock: FakeClock) -> None:
    user_id = new_id()
    added = []
    for _ in range(5):
        added.append(await house.method(user_id=user_id))
        clock.advance(1)
    await house.method()  # somebody else's
    for page_size in (0, 1, 2, 5):
        listed = await methods(house, user_id, page_size)
        assert [one.payment_method_id for one in listed] == [one.payment_method_id for one in reversed(added)]


async def test_a_made_up_page_token_is_refused(house: House) -> None:
    call = house.stub.ListPaymentMethods(pb.ListPaymentMethodsRequest(user_id=new_id(), page_token="made-up"))
    assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_there_is_one_default_and_it_can_be_moved(house: House, check_books: Books) -> None:
    user_id = new_id()
    first, second = await house.method(user_id=user_id), await house.method(user_id=user_id)
    assert (first.is_default, second.is_default) == (True, False)
    request = pb.SetDefaultPaymentMethodRequest(
        payment_method_id=second.payment_method_id, request_id=new_id()
    )
    assert (await house.stub.SetDefaultPaymentMethod(request)).is_default
    third = await house.stub.AddPaymentMethod(
        pb.AddPaymentMethodRequest(
            user_id=user_id, provider_token="tok_approve", make_default=True, request_id=new_id()
        )
    )
    defaults = [one.payment_method_id for one in await methods(house, user_id) if one.is_default]
    assert defaults == [third.payment_method_id]
    assert check_books()["methods.default"] == {"users": 1, "violations": 0}


def removal(method: pb.PaymentMethod) -> pb.RemovePaymentMethodRequest:
    return pb.RemovePaymentMethodRequest(payment_method_id=method.payment_method_id, request_id=new_id())


async def test_a_removed_method_is_gone_and_can_neither_pay_nor_be_the_default(
    house: House, check_books: Books
) -> None:
    wanted = await house.authorization()
    [method] = await methods(house, wanted.user_id)
    other = await house.method(user_id=wanted.user_id)
    await house.stub.RemovePaymentMethod(removal(method))
    await house.stub.RemovePaymentMethod(removal(method))
    assert [one.payment_method_id for one in await methods(house, wanted.user_id)] == [
        other.payment_method_id
    ]
    assert kinds(await house.told(method.payment_method_id)) == [
        events.PaymentMethodAdded,
        events.PaymentMethodRemoved,
    ]
    gone = (grpc.StatusCode.NOT_FOUND, "PAYMENT_METHOD_NOT_FOUND")
    make_default = pb.SetDefaultPaymentMethodRequest(
        payment_method_id=method.payment_method_id, request_id=new_id()
    )
    assert await refusal(house.stub.SetDefaultPaymentMethod(make_default)) == gone
    assert await refusal(house.stub.AuthorizePayment(wanted)) == gone
    check_books()  # the one that is left became the default


async def test_what_never_existed_cannot_be_removed(house: House) -> None:
    call = house.stub.RemovePaymentMethod(removal(pb.PaymentMethod(payment_method_id=new_id())))
    assert await refusal(call) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_METHOD_NOT_FOUND")


# The straight way


async def test_an_order_is_authorized_and_captured(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    authorized = await house.stub.AuthorizePayment(wanted)
    assert authorized.state == pb.Payment.STATE_AUTHORIZED
    assert (authorized.order_id, authorized.user_id) == (wanted.order_id, wanted.user_id)
    assert (authorized.amount, authorized.captured_amount) == (AMOUNT, NOTHING)
    captured = await house.capture(wanted.order_id)
    assert captured.state == pb.Payment.STATE_CAPTURED
    assert (captured.captured_amount, captured.refunded_amount) == (AMOUNT, NOTHING)
    found = await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=captured.payment_id))
    assert found == captured
    assert await house.transactions(captured.payment_id) == [
        ("AUTHORIZE", "SUCCEEDED"),
        ("CAPTURE", "SUCCEEDED"),
    ]
    assert kinds(await house.told(wanted.order_id)) == [events.PaymentAuthorized, events.PaymentCaptured]
    assert check_books()["ledger.posted"] == {"entries": 1, "movements": 1, "violations": 0}


@pytest.mark.parametrize(
    ("card", "code"), [("tok_decline", "card_declined"), ("tok_insufficient_funds", "insufficient_funds")]
)
async def test_a_decline_is_a_reply(house: House, card: str, code: str, check_books: Books) -> None:
    wanted = await house.authorization(card)
    declined = await house.stub.AuthorizePayment(wanted)
    assert (declined.state, declined.decline_code) == (pb.Payment.STATE_DECLINED, code)
    [told] = await house.told(wanted.order_id)
    assert isinstance(told, events.PaymentDeclined)
    assert told.decline_code == code
    assert await house.transactions(declined.payment_id) == [("AUTHORIZE", "DECLINED")]
    assert await refusal(house.capture(wanted.order_id)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_NOT_CAPTURABLE",
    )
    check_books()


async def test_a_capture_that_the_provider_refuses_is_refused_for_good(
    house: House, check_books: Books
) -> None:
    wanted = await house.authorization("tok_capture_refused")
    await house.stub.AuthorizePayment(wanted)
    for _ in range(2):
        assert await refusal(house.capture(wanted.order_id)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "CAPTURE_REFUSED",
        )
    assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_VOIDED
    check_books()


async def test_a_refund_gives_all_back_once(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    await house.stub.AuthorizePayment(wanted)
    await house.capture(wanted.order_id)
    refund_id = new_id()
    for _ in range(2):
        refunded = await house.refund(wanted.order_id, refund_id)
        assert (refunded.state, refunded.refunded_amount) == (pb.Payment.STATE_REFUNDED, AMOUNT)
    assert await refusal(house.refund(wanted.order_id)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_NOT_REFUNDABLE",
    )
    assert kinds(await house.told(wanted.order_id))[2:] == [events.PaymentRefunded]
    assert check_books()["ledger.posted"]["entries"] == 2


def usd(cents: int) -> Money:
    return Money(currency_code="USD", units=cents // 100, nanos=cents % 100 * 10_000_000)


async def captured_order(house: House) -> str:
    wanted = await house.authorization()
    await house.stub.AuthorizePayment(wanted)
    await house.capture(wanted.order_id)
    return wanted.order_id


async def test_a_part_is_captured_and_the_rest_is_given_up(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    await house.stub.AuthorizePayment(wanted)
    not_capturable = (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_CAPTURABLE")
    assert await refusal(house.capture(wanted.order_id, amount=usd(1235))) == not_capturable
    captured = await house.capture(wanted.order_id, amount=usd(1000))
    assert (captured.state, captured.captured_amount) == (pb.Payment.STATE_CAPTURED, usd(1000))
    assert await house.capture(wanted.order_id, amount=usd(1000)) == captured
    assert await house.capture(wanted.order_id) == captured
    assert await refusal(house.capture(wanted.order_id, amount=usd(234))) == not_capturable
    assert await refusal(house.refund(wanted.order_id, amount=usd(1001))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_NOT_REFUNDABLE",
    )
    assert (await house.void(wanted.order_id)).refunded_amount == usd(1000)
    assert len(house.line.keys) == 3
    check_books()


async def test_refunds_in_part_are_given_once_each(house: House, check_books: Books) -> None:
    order_id, first, second = await captured_order(house), new_id(), new_id()
    for _ in range(2):
        refunded = await house.refund(order_id, first, usd(1000))
        assert (refunded.state, refunded.refunded_amount) == (
            pb.Payment.STATE_PARTIALLY_REFUNDED,
            usd(1000),
        )
    assert await refusal(house.refund(order_id, second, usd(235))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_NOT_REFUNDABLE",
    )
    for _ in range(2):
        refunded = await house.refund(order_id, second)
        assert (refunded.state, refunded.refunded_amount) == (pb.Payment.STATE_REFUNDED, AMOUNT)
    assert (await house.refund(order_id, first, usd(1000))).state == pb.Payment.STATE_REFUNDED
    told = [one for one in await house.told(order_id) if isinstance(one, events.PaymentRefunded)]
    assert [one.amount for one in told] == [usd(1000), usd(234)]
    assert check_books()["ledger.posted"] == {"entries": 3, "movements": 3, "violations": 0}


async def test_a_refund_id_stands_for_one_amount(house: House) -> None:
    order_id, refund_id = await captured_order(house), new_id()
    await house.refund(order_id, refund_id, usd(1))
    mismatch = (grpc.StatusCode.INVALID_ARGUMENT, "REFUND_MISMATCH")
    assert await refusal(house.refund(order_id, refund_id, usd(2))) == mismatch
    assert (await house.refund(order_id, refund_id.upper())).refunded_amount == usd(1)


async def test_a_refund_in_another_currency_is_refused(house: House) -> None:
    call = house.refund(await captured_order(house), amount=Money(currency_code="EUR", units=1))
    assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "CURRENCY_MISMATCH")


async def test_a_void_after_refunds_in_part_gives_back_the_rest(house: House, check_books: Books) -> None:
    order_id = await captured_order(house)
    await house.refund(order_id, amount=usd(1000))
    voided = await house.void(order_id)
    assert (voided.state, voided.refunded_amount) == (pb.Payment.STATE_REFUNDED, AMOUNT)
    told = [one for one in await house.told(order_id) if isinstance(one, events.PaymentRefunded)]
    assert [(one.amount, one.late) for one in told] == [(usd(1000), False), (usd(234), False)]
    check_books()


async def test_a_direct_payment_is_authorized_and_captured_once(house: House, check_books: Books) -> None:
    wanted = await house.processing()
    first = await house.stub.ProcessPayment(wanted)
    assert (first.state, first.captured_amount) == (pb.Payment.STATE_CAPTURED, AMOUNT)
    assert await house.stub.ProcessPayment(wanted) == first
    wanted.request_id = new_id()
    assert await house.stub.ProcessPayment(wanted) == first
    assert len(house.line.keys) == 2
    assert kinds(await house.told(wanted.order_id)) == [events.PaymentAuthorized, events.PaymentCaptured]
    check_books()


async def test_a_direct_payment_that_is_declined_is_a_reply(house: House) -> None:
    declined = await house.stub.ProcessPayment(await house.processing("tok_insufficient_funds"))
    assert (declined.state, declined.decline_code) == (pb.Payment.STATE_DECLINED, "insufficient_funds")


async def test_a_direct_payment_that_cannot_be_captured_is_given_up(house: House, check_books: Books) -> None:
    wanted = await house.processing("tok_capture_refused")
    for _ in range(2):
        assert await refusal(house.stub.ProcessPayment(wanted)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "CAPTURE_REFUSED",
        )
        wanted.request_id = new_id()
    assert kinds(await house.told(wanted.order_id)) == [events.PaymentAuthorized, events.PaymentVoided]
    check_books()


async def test_a_direct_payment_takes_nothing_that_was_authorized_otherwise(house: House) -> None:
    wanted = await house.processing()
    authorization = pb.AuthorizePaymentRequest(
        order_id=wanted.order_id,
        user_id=wanted.user_id,
        payment_method_id=wanted.payment_method_id,
        amount=wanted.amount,
        request_id=wanted.request_id,
    )
    await house.stub.AuthorizePayment(authorization)
    mismatch = (grpc.StatusCode.INVALID_ARGUMENT, "PAYMENT_MISMATCH")
    assert await refusal(house.stub.ProcessPayment(wanted)) == mismatch
    assert len(house.line.keys) == 1


async def test_what_was_paid_in_one_go_is_no_authorization(house: House) -> None:
    wanted = await house.processing()
    await house.stub.ProcessPayment(wanted)
    authorization = pb.AuthorizePaymentRequest(
        order_id=wanted.order_id,
        user_id=wanted.user_id,
        payment_method_id=wanted.payment_method_id,
        amount=wanted.amount,
        request_id=wanted.request_id,
    )
    mismatch = (grpc.StatusCode.INVALID_ARGUMENT, "PAYMENT_MISMATCH")
    assert await refusal(house.stub.AuthorizePayment(authorization)) == mismatch
    assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_REFUNDED


async def test_a_direct_payment_is_not_made_with_the_card_of_another_nor_after_a_void(house: House) -> None:
    wanted = await house.processing()
    user_id, wanted.user_id = wanted.user_id, new_id()
    not_found = (grpc.StatusCode.NOT_FOUND, "PAYMENT_METHOD_NOT_FOUND")
    assert await refusal(house.stub.ProcessPayment(wanted)) == not_found
    await house.void(wanted.order_id)
    wanted.user_id, wanted.request_id = user_id, new_id()
    closed = (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_CLOSED")
    assert await refusal(house.stub.ProcessPayment(wanted)) == closed
    assert house.line.keys == []


async def payments(house: House, request: pb.ListPaymentsRequest) -> list[pb.Payment]:
    """Of all pages."""
    found: list[pb.Payment] = []
    while True:
        page = await house.stub.ListPayments(request)
        found += page.payments
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def test_payments_are_listed_newest_first_by_user_and_state(house: House, clock: FakeClock) -> None:
    method = await house.method()
    made: list[pb.Payment] = []
    for _ in range(5):
        wanted = pb.ProcessPaymentRequest(
            order_id=new_id(),
            user_id=method.user_id,
            payment_method_id=method.payment_method_id,
            amount=AMOUNT,
            request_id=new_id(),
        )
        made.insert(0, await house.stub.ProcessPayment(wanted))
        clock.advance(1)
    made[1] = await house.refund(made[1].order_id, amount=usd(1))
    other = await house.stub.ProcessPayment(await house.processing("tok_decline"))
    await house.void(new_id())  # a tombstone is nobody's payment
    for page_size in (0, 1, 2, 5):
        asked = pb.ListPaymentsRequest(user_id=method.user_id.upper(), page_size=page_size)
        assert await payments(house, asked) == made
    assert await payments(house, pb.ListPaymentsRequest(page_size=4)) == [other, *made]
    in_part = pb.ListPaymentsRequest(state=pb.Payment.STATE_PARTIALLY_REFUNDED)
    assert await payments(house, in_part) == [made[1]]


async def test_transactions_are_paged_oldest_first(house: House) -> None:
    wanted = await house.authorization()
    payment = await house.stub.AuthorizePayment(wanted)
    await house.capture(wanted.order_id)
    await house.void(wanted.order_id)
    numbers, token = [], ""
    for _ in range(3):
        page = await house.stub.ListTransactions(
            pb.ListTransactionsRequest(payment_id=payment.payment_id, page_size=1, page_token=token)
        )
        [one] = page.transactions
        numbers.append(one.kind)
        token = page.next_page_token
    assert (numbers, token) == (
        [pb.Transaction.KIND_AUTHORIZE, pb.Transaction.KIND_CAPTURE, pb.Transaction.KIND_REFUND],
        "",
    )


# What is refused


async def test_what_does_not_exist_is_not_found(house: House) -> None:
    not_found = (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")
    assert await refusal(house.stub.GetPayment(pb.GetPaymentRequest(payment_id=new_id()))) == not_found
    assert await refusal(house.transactions(new_id())) == not_found
    assert await refusal(house.capture(new_id())) == not_found
    assert await refusal(house.refund(new_id())) == not_found


async def test_nobody_pays_with_the_card_of_another(house: House) -> None:
    wanted = await house.authorization()
    wanted.user_id = new_id()
    not_found = (grpc.StatusCode.NOT_FOUND, "PAYMENT_METHOD_NOT_FOUND")
    assert await refusal(house.stub.AuthorizePayment(wanted)) == not_found
    assert house.line.keys == []


@pytest.mark.parametrize(
    "amount",
    [
        Money(currency_code="usd", units=1),
        Money(currency_code="USD"),
        Money(currency_code="USD", units=-1),
        Money(currency_code="USD", nanos=1),
        Money(currency_code="JPY", nanos=500_000_000),
        Money(currency_code="USD", units=10**15),
    ],
    ids=["no currency", "nothing", "below nothing", "too precise", "half a yen", "too much"],
)
async def test_amounts_that_cannot_be_paid_are_refused(house: House, amount: Money) -> None:
    wanted = await house.authorization()
    wanted.amount.CopyFrom(amount)
    code, _ = await refusal(house.stub.AuthorizePayment(wanted))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert house.line.keys == []


async def test_an_order_has_one_payment(house: House) -> None:
    wanted = await house.authorization()
    first = await house.stub.AuthorizePayment(wanted)
    wanted.request_id = new_id()
    assert await house.stub.AuthorizePayment(wanted) == first
    wanted.request_id = new_id()
    wanted.amount.units += 1
    assert await refusal(house.stub.AuthorizePayment(wanted)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PAYMENT_MISMATCH",
    )
    assert len(house.line.keys) == 1


async def test_a_request_id_is_for_one_request(house: House) -> None:
    wanted = await house.authorization()
    await house.stub.AuthorizePayment(wanted)
    wanted.amount.units += 1
    assert await refusal(house.stub.AuthorizePayment(wanted)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )


async def test_ids_are_the_same_in_either_case(house: House) -> None:
    wanted = await house.authorization()
    wanted.order_id = wanted.order_id.upper()
    wanted.user_id = wanted.user_id.upper()
    payment = await house.stub.AuthorizePayment(wanted)
    assert payment.order_id == wanted.order_id.lower()
    assert (await house.capture(wanted.order_id.lower())).payment_id == payment.payment_id


# Void, from any state


async def test_a_void_before_its_authorize_wins_for_ever(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    voided = await house.void(wanted.order_id)
    assert (voided.state, voided.payment_id) == (pb.Payment.STATE_VOIDED, "")
    assert not voided.HasField("amount")
    closed = (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_CLOSED")
    assert await refusal(house.stub.AuthorizePayment(wanted)) == closed
    assert await refusal(house.capture(wanted.order_id)) == closed
    assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_VOIDED
    assert house.line.keys == []
    assert kinds(await house.told(wanted.order_id)) == [events.PaymentVoided]
    check_books()


async def test_what_is_authorized_is_voided(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    payment = await house.stub.AuthorizePayment(wanted)
    for _ in range(2):
        assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_VOIDED
    assert await house.transactions(payment.payment_id) == [
        ("AUTHORIZE", "SUCCEEDED"),
        ("VOID", "SUCCEEDED"),
    ]
    told = kinds(await house.told(wanted.order_id))
    wanted_events: list[object] = [events.PaymentAuthorized, events.PaymentVoided]
    assert told == wanted_events
    assert await refusal(house.capture(wanted.order_id)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_CLOSED",
    )
    check_books()


async def test_what_is_captured_is_refunded(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    payment = await house.stub.AuthorizePayment(wanted)
    await house.capture(wanted.order_id)
    for _ in range(2):
        voided = await house.void(wanted.order_id)
        assert (voided.state, voided.refunded_amount) == (pb.Payment.STATE_REFUNDED, AMOUNT)
    assert (await house.transactions(payment.payment_id))[-1] == ("REFUND", "SUCCEEDED")
    assert check_books()["ledger.posted"]["entries"] == 2


async def test_what_was_declined_stays_declined_and_is_closed(house: House) -> None:
    wanted = await house.authorization("tok_decline")
    await house.stub.AuthorizePayment(wanted)
    assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_DECLINED
    wanted.request_id = new_id()
    assert await refusal(house.stub.AuthorizePayment(wanted)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYMENT_CLOSED",
    )


# When the provider is slow or silent


async def test_a_slow_answer_is_waited_for(house: House) -> None:
    wanted = await house.authorization("tok_slow")
    assert (await house.stub.AuthorizePayment(wanted)).state == pb.Payment.STATE_AUTHORIZED


async def test_a_lost_reply_is_not_now_and_found_when_asked_again(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    house.line.faults.extend([Fault.LOST_REPLY] * 3)  # our client tries three times
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await house.stub.AuthorizePayment(wanted)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert status.reason(error.value) == "PROVIDER_UNAVAILABLE"
    assert status.retry_after_s(error.value) == pytest.approx(0.2)
    assert (await house.stub.AuthorizePayment(wanted)).state == pb.Payment.STATE_AUTHORIZED
    assert len(set(house.line.keys)) == 1
    assert check_books()["payments.provider"]["payments"] == 1


async def test_cards_that_lose_replies_pay_all_the_same(house: House, check_books: Books) -> None:
    wanted = await house.authorization("tok_lost_reply")
    assert (await house.stub.AuthorizePayment(wanted)).state == pb.Payment.STATE_AUTHORIZED
    assert (await house.capture(wanted.order_id)).state == pb.Payment.STATE_CAPTURED
    assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_REFUNDED
    assert check_books()["payments.once"] == {"charged": 1, "violations": 0}


async def test_a_twin_is_asked_to_come_back_and_finds_one_hold(house: House, check_books: Books) -> None:
    wanted = await house.authorization()
    house.line.answers_wait = True
    first = asyncio.ensure_future(_call(house.stub.AuthorizePayment(wanted)))
    await house.line.asked.wait()
    code, reason = await refusal(house.stub.AuthorizePayment(wanted))
    assert (code, reason) == (grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS")
    house.line.answers.set()
    authorized = await first
    assert await house.stub.AuthorizePayment(wanted) == authorized
    assert len(house.line.keys) == 1
    check_books()


async def test_many_twins_at_once_are_one_charge(house: House, check_books: Books) -> None:
    wanted = await house.authorization()

    async def patiently(call: Callable[[], Awaitable[pb.Payment]]) -> pb.Payment:
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                assert status.reason(error) == "PAYMENT_IN_PROGRESS"  # noqa: PT017 (any other ends it)
                await asyncio.sleep(0)

    async with asyncio.timeout(20):
        authorized = await asyncio.gather(
            *(patiently(lambda: house.stub.AuthorizePayment(wanted)) for _ in range(20))
        )
        captured = await asyncio.gather(
            *(patiently(lambda: house.capture(wanted.order_id)) for _ in range(20))
        )
    assert all(one == authorized[0] for one in authorized)
    assert {one.state for one in captured} == {pb.Payment.STATE_CAPTURED}
    assert await house.transactions(authorized[0].payment_id) == [
        ("AUTHORIZE", "SUCCEEDED"),
        ("CAPTURE", "SUCCEEDED"),
    ]
    check_books()


async def test_a_caller_who_leaves_does_not_stop_the_outcome_from_being_written(
    house: House, check_books: Books
) -> None:
    wanted = await house.authorization()
    house.line.answers_wait = True
    leaving = asyncio.ensure_future(_call(house.stub.AuthorizePayment(wanted)))
    await house.line.asked.wait()
    leaving.cancel()
    house.line.answers.set()

    def written() -> bool:
        return check_books()["payments.provider"]["payments"] == 1

    await until(written)
    assert (await house.stub.AuthorizePayment(wanted)).state == pb.Payment.STATE_AUTHORIZED
    assert len(house.line.keys) == 1


async def _call(call: Awaitable[pb.Payment]) -> pb.Payment:
    return await call
