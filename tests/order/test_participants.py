"""What a participant's answer proves: done, refused, or nothing at all."""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import protovalidate
import pytest
from bodega.inventory.v1 import inventory_pb2
from bodega.payment.v1 import payment_pb2

from services.chassis import status
from services.chassis.client.unsent import CircuitOpen, unsent
from services.kernel.money import Money
from services.order import domain, facts
from services.order.facts import Step
from services.order.participants import (
    LINE_MAX,
    REFUSALS,
    Answer,
    Done,
    Participants,
    Refused,
    Unknown,
    request_id,
)
from tests.order.conftest import LINE, placed

Payment = payment_pb2.Payment
ORDER = domain.place("0190dddd-0000-7000-8000-000000000001", placed(), at=datetime(2026, 1, 1, tzinfo=UTC))
USD_9 = Money(900, "USD")
REFUND_STEPS = (Step.REFUND_PAYMENT, Step.RETURN_STOCK)
REFUND = facts.RefundRequested("0190eeee-0000-7000-8000-000000000001", ((LINE.product_id, 1),), USD_9, True)
REFUNDED = ORDER.record(REFUND, at=ORDER.create_time)


class Stub:
    """Answers every method with one reply or one error, and keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[Any] = []

    def __getattr__(self, method: str) -> Any:
        async def call(request: Any) -> Any:
            self.requests.append(request)
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


def ask(step: Step, answer: Any, stub: Stub | None = None) -> Awaitable[Answer]:
    stub = stub or Stub(answer)
    participants = Participants(stub, stub, hold_s=900)  # type: ignore[arg-type]
    return participants.ask(REFUNDED if step in REFUND_STEPS else ORDER, step)


def error(code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    details = status.trailers(status.build(code, reason, "as the test wants"))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*details), "as the test wants")


def bare(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "no details")


@pytest.mark.parametrize(
    ("step", "reason"), [(step, reason) for step, reasons in REFUSALS.items() for reason in sorted(reasons)]
)
async def test_a_reason_that_the_step_lists_is_a_refusal(step: Step, reason: str) -> None:
    assert await ask(step, error(grpc.StatusCode.FAILED_PRECONDITION, reason)) == Refused(reason)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step.CAPTURE_PAYMENT, "PAYMENT_NOT_CAPTURABLE"),
        (Step.RETURN_STOCK, "MORE_THAN_SOLD"),
        (Step.RETURN_STOCK, "NOT_SOLD"),
    ],
)
async def test_what_others_did_by_themselves_is_not_asked_for_ever(step: Step, reason: str) -> None:
    assert await ask(step, error(grpc.StatusCode.FAILED_PRECONDITION, reason)) == Refused(reason)


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(
    "answer",
    [
        bare(grpc.StatusCode.UNAVAILABLE),
        bare(grpc.StatusCode.DEADLINE_EXCEEDED),
        bare(grpc.StatusCode.INTERNAL),
        bare(grpc.StatusCode.UNIMPLEMENTED),
        bare(grpc.StatusCode.FAILED_PRECONDITION),
        bare(grpc.StatusCode.NOT_FOUND),
        error(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MUCH"),
        error(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS"),
        error(grpc.StatusCode.FAILED_PRECONDITION, "RESERVATION_CLOSED"),
        error(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_CLOSED"),
        error(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"),
    ],
    ids=lambda answer: f"{answer.code().name}-{status.reason(answer)}",
)
async def test_every_other_error_may_have_happened(step: Step, answer: grpc.aio.AioRpcError) -> None:
    assert await ask(step, answer) == Unknown(answer.code().name)


async def test_a_call_that_was_never_made_is_known_as_such() -> None:
    refused = unsent(CircuitOpen(method="/Capture", retry_in_s=1.0))
    assert await ask(Step.CAPTURE_PAYMENT, refused) == Unknown("CIRCUIT_OPEN", was_sent=False)


async def test_a_refusal_of_one_step_is_none_of_another() -> None:
    out_of_stock = error(grpc.StatusCode.FAILED_PRECONDITION, "OUT_OF_STOCK")
    assert isinstance(await ask(Step.AUTHORIZE_PAYMENT, out_of_stock), Unknown)
    assert isinstance(await ask(Step.RELEASE_STOCK, out_of_stock), Unknown)


@pytest.mark.parametrize(
    ("step", "state", "answer"),
    [
        (Step.AUTHORIZE_PAYMENT, Payment.STATE_AUTHORIZED, Done("p1")),
        (Step.AUTHORIZE_PAYMENT, Payment.STATE_CAPTURED, Done("p1")),
        (Step.AUTHORIZE_PAYMENT, Payment.STATE_DECLINED, Refused("PAYMENT_DECLINED")),
        (Step.AUTHORIZE_PAYMENT, Payment.STATE_UNKNOWN, Unknown("STATE_UNKNOWN")),
        (Step.AUTHORIZE_PAYMENT, Payment.STATE_VOIDED, Unknown("STATE_VOIDED")),
        (Step.CAPTURE_PAYMENT, Payment.STATE_CAPTURED, Done("p1")),
        (Step.CAPTURE_PAYMENT, Payment.STATE_UNKNOWN, Unknown("STATE_UNKNOWN")),
        (Step.CAPTURE_PAYMENT, Payment.STATE_REFUNDED, Unknown("STATE_REFUNDED")),
        (Step.VOID_PAYMENT, Payment.STATE_VOIDED, Done("p1")),
        (Step.VOID_PAYMENT, Payment.STATE_REFUNDED, Done("p1")),
        (Step.VOID_PAYMENT, Payment.STATE_DECLINED, Done("p1")),
        (Step.VOID_PAYMENT, Payment.STATE_AUTHORIZED, Unknown("STATE_AUTHORIZED")),
        (Step.VOID_PAYMENT, Payment.STATE_CAPTURED, Unknown("STATE_CAPTURED")),
        (Step.VOID_PAYMENT, Payment.STATE_UNKNOWN, Unknown("STATE_UNKNOWN")),
        (Step.REFUND_PAYMENT, Payment.STATE_REFUNDED, Done("p1")),
        (Step.REFUND_PAYMENT, Payment.STATE_CAPTURED, Unknown("STATE_CAPTURED")),
    ],
)
async def test_a_payment_is_believed_only_in_the_state_that_the_step_wants(
    step: Step, state: Any, answer: Answer
) -> None:
    assert await ask(step, Payment(payment_id="p1", state=state)) == answer


async def test_stock_steps_answer_with_the_reservation() -> None:
    reservation = inventory_pb2.Reservation(reservation_id="r1")
    for step in (Step.RESERVE_STOCK, Step.COMMIT_STOCK, Step.RELEASE_STOCK):
        assert await ask(step, reservation) == Done("r1")


async def test_a_request_carries_the_id_of_its_order_step_and_version() -> None:
    stub = Stub(inventory_pb2.Reservation())
    await ask(Step.RESERVE_STOCK, None, stub)
    await ask(Step.RESERVE_STOCK, None, stub)
    assert {request.request_id for request in stub.requests} == {request_id(ORDER, Step.RESERVE_STOCK)}
    later = ORDER.apply(facts.StepDone(Step.RESERVE_STOCK, 1), at=ORDER.create_time)
    steps = [step for step in Step if step not in REFUND_STEPS]
    assert len({request_id(order, step) for order in (ORDER, later) for step in steps}) == 2 * len(steps)


async def test_a_refund_carries_its_own_id_whatever_the_version() -> None:
    stub = Stub(Payment(payment_id="p1", state=Payment.STATE_PARTIALLY_REFUNDED))
    assert await ask(Step.REFUND_PAYMENT, None, stub) == Done("p1")
    (request,) = stub.requests
    assert (request.refund_id, request.amount.units) == (REFUND.refund_id, 9)
    later = REFUNDED.raise_attention(Step.REFUND_PAYMENT, 8, at=ORDER.create_time)
    assert request.request_id == request_id(later, Step.REFUND_PAYMENT)


async def test_a_return_names_the_pieces_that_come_back() -> None:
    stub = Stub(inventory_pb2.Reservation(reservation_id="r1"))
    assert await ask(Step.RETURN_STOCK, None, stub) == Done("r1")
    (request,) = stub.requests
    assert request.return_id == REFUND.refund_id
    assert [(line.product_id, line.quantity) for line in request.lines] == [(LINE.product_id, 1)]


async def test_only_what_was_asked_for_is_taken() -> None:
    stub = Stub(Payment(payment_id="p1", state=Payment.STATE_CAPTURED))
    await ask(Step.CAPTURE_PAYMENT, None, stub)
    participants = Participants(stub, stub, hold_s=900)  # type: ignore[arg-type]
    being_paid = ORDER.record(facts.CaptureRequested(Money(450, "USD")), at=ORDER.create_time)
    await participants.ask(being_paid, Step.CAPTURE_PAYMENT)
    whole, part = stub.requests
    assert not whole.HasField("amount"), "all of it"
    assert (part.amount.units, part.amount.nanos) == (4, 500_000_000)


async def test_more_pieces_than_a_line_may_say_are_said_in_several() -> None:
    stub = Stub(inventory_pb2.Reservation(reservation_id="r1"))
    line = replace(LINE, quantity=2 * LINE_MAX + 1)
    participants = Participants(stub, stub, hold_s=900)  # type: ignore[arg-type]
    await participants.ask(replace(ORDER, lines=(line,)), Step.RESERVE_STOCK)
    refund = replace(REFUND, quantities=((LINE.product_id, 2 * LINE_MAX),))
    await participants.ask(ORDER.record(refund, at=ORDER.create_time), Step.RETURN_STOCK)
    reserve, give_back = stub.requests
    assert [one.quantity for one in reserve.lines] == [LINE_MAX, LINE_MAX, 1]
    assert [one.quantity for one in give_back.lines] == [LINE_MAX, LINE_MAX]
    protovalidate.validate(give_back)
    reserve.lines[0].quantity += 1
    with pytest.raises(protovalidate.ValidationError):
        protovalidate.validate(reserve)
