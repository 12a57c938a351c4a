"""Webhooks: signed, taken once, and no more than a hint."""

import asyncio
import json
from collections.abc import Callable

import grpc
import pytest
from bodega.payment.v1 import payment_events_pb2 as events
from bodega.payment.v1 import payment_pb2 as pb
from google.api.httpbody_pb2 import HttpBody

from services.chassis import status, wire
from services.chassis.testing import FakeClock
from services.payment.refusals import PaymentInProgress, ProviderUnavailable
from services.payment.sandbox_courier import TRIES_MAX
from services.payment.webhook import Signed, sign
from tests.payment.house import WEBHOOK_KEY, Fault, House, new_id
from tests.payment.lives import Lives, Till, capture_elsewhere, late_capture

Books = Callable[[], dict[str, dict[str, int]]]


async def authorization_of(house: House, order_id: str) -> str:
    return (await house.store.read(lambda tx: tx.payments.get_of_order(order_id))).authorization


def body(authorization: object, type_: str = "payment.captured") -> bytes:
    return json.dumps({"type": type_, "data": {"authorization": authorization}}).encode()


def signed(house: House, data: bytes, id_: str = "") -> Signed:
    return sign(WEBHOOK_KEY, id=id_ or new_id(), at=house.clock.now(), body=data)


async def send(house: House, data: bytes, headers: Signed, provider: str = "sandbox") -> None:
    request = pb.HandleProviderWebhookRequest(
        provider=provider, event=HttpBody(content_type="application/json", data=data)
    )
    await house.stub.HandleProviderWebhook(request, metadata=headers.as_metadata())


async def refused(
    house: House, data: bytes, headers: Signed, provider: str = "sandbox"
) -> tuple[object, ...]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await send(house, data, headers, provider)
    return error.value.code(), status.reason(error.value)


INVALID = (grpc.StatusCode.PERMISSION_DENIED, "WEBHOOK_SIGNATURE_INVALID")


async def test_what_nobody_signed_is_refused_and_has_no_effect(house: House, clock: FakeClock) -> None:
    payment = await house.stub.AuthorizePayment(await house.authorization())
    await capture_elsewhere(house, payment.payment_id)
    data = body(await authorization_of(house, payment.order_id))
    right = signed(house, data)
    assert await refused(house, data, Signed()) == INVALID
    assert await refused(house, data + b" ", right) == INVALID
    assert await refused(house, data, right, "stripe") == INVALID
    clock.advance(301)
    assert await refused(house, data, right) == INVALID
    found = await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))
    assert found.state == pb.Payment.STATE_AUTHORIZED


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'"x"', body(7), b'{"data": null}', b'{"data": {}}']
)
async def test_what_is_none_of_the_provider_s_events_is_refused(house: House, data: bytes) -> None:
    malformed = (grpc.StatusCode.INVALID_ARGUMENT, "WEBHOOK_MALFORMED")
    assert await refused(house, data, signed(house, data)) == malformed


async def test_what_is_too_long_is_refused(house: House) -> None:
    data = b" " * 65537
    code, _ = await refused(house, data, signed(house, data))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_webhook_is_a_hint_that_is_looked_into(house: House, check_books: Books) -> None:
    """It says captured; what counts is what the provider's books say."""
    payment = await house.stub.AuthorizePayment(await house.authorization())
    data = body(await authorization_of(house, payment.order_id))
    await send(house, data, signed(house, data))
    found = await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))
    assert found.state == pb.Payment.STATE_AUTHORIZED
    await capture_elsewhere(house, payment.payment_id)
    await send(house, data, signed(house, data))
    found = await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))
    assert found.state == pb.Payment.STATE_CAPTURED
    check_books()


async def test_a_webhook_has_its_effect_once(
    house: House, monkeypatch: pytest.MonkeyPatch, check_books: Books
) -> None:
    payment = await house.stub.AuthorizePayment(await house.authorization())
    data = body(await authorization_of(house, payment.order_id))
    await capture_elsewhere(house, payment.payment_id)
    headers = signed(house, data)
    await asyncio.gather(*(send(house, data, headers) for _ in range(5)))

    async def not_asked(_authorization: str) -> object:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(house.line, "standing", not_asked)
        await send(house, data, headers)
    told = [type(one) for one in await house.told(payment.order_id)]
    assert told == [events.PaymentAuthorized, events.PaymentCaptured]
    check_books()


async def test_late_money_goes_back_once_whoever_tells_of_it(house: House, check_books: Books) -> None:
    payment = await house.stub.AuthorizePayment(await house.authorization())
    authorization = await authorization_of(house, payment.order_id)
    await house.void(payment.order_id)
    await late_capture(house, authorization)
    data = body(authorization)
    await send(house, data, signed(house, data))
    assert house.operations.work_waits.is_set()
    await send(house, data, signed(house, data))
    await house.settle()
    await send(house, data, signed(house, data))
    await house.settle()
    assert await house.transactions(payment.payment_id) == [
        ("AUTHORIZE", "SUCCEEDED"),
        ("VOID", "SUCCEEDED"),
        ("CAPTURE", "SUCCEEDED"),
        ("REFUND", "SUCCEEDED"),
    ]
    [late] = [one for one in await house.told(payment.order_id) if isinstance(one, events.PaymentRefunded)]
    assert late.late
    check_books()


async def test_a_webhook_from_before_changes_nothing(house: House, check_books: Books) -> None:
    """It was under way while the order was refunded: our states only move forward."""
    payment = await house.stub.AuthorizePayment(await house.authorization())
    await house.capture(payment.order_id)
    refunded = await house.refund(payment.order_id)
    for type_ in ("payment.authorized", "payment.captured"):
        data = body(await authorization_of(house, payment.order_id), type_)
        await send(house, data, signed(house, data))
    assert await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id)) == refunded
    check_books()


async def _take(till: Till, headers: Signed, data: bytes) -> None:
    await till.house.webhooks.take("sandbox", headers, data)


async def test_what_cannot_be_looked_into_now_may_come_again(lives: Lives, check_books: Books) -> None:
    async with lives.one() as till:
        wanted = await till.wanted()
        payment = await till.authorize(wanted)
        data = body(await authorization_of(till.house, wanted.order_id))
        headers = signed(till.house, data)
        till.house.line.faults.append(Fault.UNREACHED)
        with pytest.raises(ProviderUnavailable):
            await till.capture(wanted.order_id)
        with pytest.raises(PaymentInProgress):  # the answer to the capture says more than we could ask now
            await _take(till, headers, data)
        unknown = body("sandbox_auth_of_nobody")
        with pytest.raises(ProviderUnavailable):  # "not found" is not an answer
            await _take(till, signed(till.house, unknown), unknown)
        await till.capture(wanted.order_id)
        await till.house.sandbox.refund(
            "dashboard",
            authorization=await authorization_of(till.house, wanted.order_id),
            amount=(await till.house.store.read(lambda tx: tx.payments.get(payment.payment_id))).captured,
        )
        await _take(till, headers, data)
        assert await till.state(wanted.order_id) == "REFUNDED"
    check_books()


async def test_what_is_another_shop_s_is_left_alone(house: House) -> None:
    wanted = await house.authorization()
    answer = await house.sandbox.authorize(
        "stranger",
        payment_id=new_id(),
        token="tok_approve",
        amount=wire.money_from_proto(wanted.amount),
    )
    data = body(getattr(answer, "reference", ""))
    await send(house, data, signed(house, data))


# The sandbox's own


async def test_doubled_webhooks_change_nothing(house: House, check_books: Books) -> None:
    wanted = await house.authorization("tok_duplicate_webhook")
    await house.stub.AuthorizePayment(wanted)
    await house.capture(wanted.order_id)
    refunded = await house.refund(wanted.order_id)
    assert house.sandbox.webhooks_wait.is_set()
    sent = [await house.courier.deliver_due() for _ in range(3)]
    assert sent == [3, 3, 0]
    found = await house.stub.GetPayment(pb.GetPaymentRequest(payment_id=refunded.payment_id))
    assert found == refunded
    check_books()


async def test_a_capture_that_comes_late_is_given_back(house: House, check_books: Books) -> None:
    """What a shopper sees: the order was rejected, the money was taken all the same, and went back."""
    wanted = await house.authorization("tok_late_capture")
    await house.stub.AuthorizePayment(wanted)
    with pytest.raises(grpc.aio.AioRpcError):
        await house.capture(wanted.order_id)
    assert (await house.void(wanted.order_id)).state == pb.Payment.STATE_VOIDED
    assert await house.courier.deliver_due() == 3
    await house.settle()
    while await house.courier.deliver_due():
        await house.settle()
    [late] = [one for one in await house.told(wanted.order_id) if isinstance(one, events.PaymentRefunded)]
    assert (late.late, late.amount) == (True, wanted.amount)
    assert check_books()["ledger.posted"] == {"entries": 2, "movements": 2, "violations": 0}


async def test_webhooks_that_are_not_taken_are_sent_again_and_survive_the_process(
    lives: Lives, check_books: Books
) -> None:
    async with lives.one() as till:
        wanted = await till.wanted("tok_duplicate_webhook")
        till.house.line.faults.append(Fault.LOST_REPLY)
        with pytest.raises(ProviderUnavailable):
            await till.authorize(wanted)
        assert await till.house.courier.deliver_due() == 1  # refused: its payment is still UNKNOWN
    async with lives.one() as till:
        await till.authorize(wanted)
        assert [await till.house.courier.deliver_due() for _ in range(3)] == [1, 1, 0]
    check_books()


async def test_a_webhook_that_is_never_taken_is_dropped(lives: Lives) -> None:
    async with lives.one() as till:
        wanted = await till.wanted("tok_duplicate_webhook")
        till.house.line.faults.append(Fault.LOST_REPLY)
        with pytest.raises(ProviderUnavailable):
            await till.authorize(wanted)
        sent = [await till.house.courier.deliver_due() for _ in range(TRIES_MAX + 1)]
        assert sent == [1] * TRIES_MAX + [0]


async def test_the_courier_works_by_itself(house: House) -> None:
    running = asyncio.create_task(house.courier.run())
    payment = await house.stub.AuthorizePayment(await house.authorization("tok_duplicate_webhook"))
    async with asyncio.timeout(10):
        while house.sandbox.webhooks_wait.is_set() or await _waiting(house):  # noqa: ASYNC110 (its deeds are the sign)
            await asyncio.sleep(0.002)
    assert payment.state == pb.Payment.STATE_AUTHORIZED
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def _waiting(house: House) -> int:
    return len(await house.sandbox.books.read(lambda books: books.post.due(now=house.clock.now())))
