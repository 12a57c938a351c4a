"""What each step of the saga asks of whom, and what came of it: done, refused or unknown, never just two.

Refused is only what the step itself lists: every other answer, whatever its status code, may have happened
and is asked again under the same request id.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import grpc
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.payment.v1 import payment_pb2, payment_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from services.chassis import status, wire
from services.chassis.client.unsent import was_sent
from services.kernel import ids
from services.order import domain
from services.order.facts import Step

PAYMENT_DECLINED: Final = "PAYMENT_DECLINED"

LINE_MAX: Final = 1_000_000
"""Pieces in one line, by both contracts. Orders sum their lines by product, and so does inventory."""

# Error reasons that prove a step did not and will not happen.
REFUSALS: Final[dict[Step, frozenset[str]]] = {
    Step.RESERVE_STOCK: frozenset({"OUT_OF_STOCK", "PRODUCT_NOT_FOUND"}),
    Step.AUTHORIZE_PAYMENT: frozenset({"PAYMENT_METHOD_NOT_FOUND"}),
    Step.COMMIT_STOCK: frozenset({"OUT_OF_STOCK"}),
    # Not capturable: the provider took, or gave up, what was held without being asked, and tells so.
    Step.CAPTURE_PAYMENT: frozenset({"CAPTURE_REFUSED", "PAYMENT_NOT_CAPTURABLE"}),
    Step.VOID_PAYMENT: frozenset(),
    Step.RELEASE_STOCK: frozenset(),
    Step.REFUND_PAYMENT: frozenset(),
    # The warehouse was faster: it may take back by itself what a buyer sends.
    Step.RETURN_STOCK: frozenset({"MORE_THAN_SOLD", "NOT_SOLD"}),
}

_NOTHING_HELD_OR_TAKEN: Final = frozenset(
    {
        payment_pb2.Payment.STATE_VOIDED,
        payment_pb2.Payment.STATE_REFUNDED,
        payment_pb2.Payment.STATE_DECLINED,
    }
)

_REFUNDED: Final = frozenset(
    {payment_pb2.Payment.STATE_REFUNDED, payment_pb2.Payment.STATE_PARTIALLY_REFUNDED}
)


@dataclass(frozen=True, slots=True)
class Done:
    """The participant did it, now or before."""

    reference: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The participant did not and will not do it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have happened."""

    outcome: str
    """What the call ended with, e.g. `UNAVAILABLE`; or why it was not made, e.g. `CIRCUIT_OPEN`."""

    was_sent: bool = True


Answer = Done | Refused | Unknown


def request_id(order: domain.Order, step: Step) -> str:
    """The same for every call that this version (or refund) of the order makes for the step, by whomever."""
    refund = order.refund_under_way if step in (Step.REFUND_PAYMENT, Step.RETURN_STOCK) else None
    return ids.derived(order.id, step, refund.refund_id if refund else str(order.version))


class Participants:
    """Inventory and payment, as the saga sees them."""

    def __init__(
        self,
        inventory: inventory_pb2_grpc.InventoryServiceStub,
        payment: payment_pb2_grpc.PaymentServiceStub,
        *,
        hold_s: int,
    ) -> None:
        self._inventory = inventory
        self._payment = payment
        self._hold_s = hold_s
        self._calls: dict[Step, Callable[[domain.Order, str], Awaitable[Answer]]] = {
            Step.RESERVE_STOCK: self._reserve,
            Step.AUTHORIZE_PAYMENT: self._authorize,
            Step.COMMIT_STOCK: self._commit,
            Step.CAPTURE_PAYMENT: self._capture,
            Step.VOID_PAYMENT: self._void,
            Step.RELEASE_STOCK: self._release,
            Step.REFUND_PAYMENT: self._refund,
            Step.RETURN_STOCK: self._return,
        }

    async def ask(self, order: domain.Order, step: Step) -> Answer:
        """Calls the participant once."""
        try:
            return await self._calls[step](order, request_id(order, step))
        except grpc.aio.AioRpcError as error:
            reason = status.reason(error)
            if reason in REFUSALS[step]:
                return Refused(reason)
            return Unknown(error.code().name) if was_sent(error) else Unknown(str(reason), was_sent=False)

    async def _reserve(self, order: domain.Order, request_id: str) -> Answer:
        reservation = await self._inventory.ReserveStock(
            inventory_pb2.ReserveStockRequest(
                order_id=order.id,
                lines=_stock_lines((line.product_id, line.quantity) for line in order.lines),
                expires_in=Duration(seconds=self._hold_s),
                request_id=request_id,
            )
        )
        return Done(reservation.reservation_id)

    async def _authorize(self, order: domain.Order, request_id: str) -> Answer:
        payment = await self._payment.AuthorizePayment(
            payment_pb2.AuthorizePaymentRequest(
                order_id=order.id,
                user_id=order.user_id,
                payment_method_id=order.payment_method_id,
                amount=wire.money_to_proto(order.total),
                request_id=request_id,
            )
        )
        match payment.state:
            case payment_pb2.Payment.STATE_DECLINED:
                return Refused(PAYMENT_DECLINED)
            case payment_pb2.Payment.STATE_AUTHORIZED | payment_pb2.Payment.STATE_CAPTURED:
                return Done(payment.payment_id)
            case other:
                return Unknown(payment_pb2.Payment.State.Name(other))

    async def _commit(self, order: domain.Order, request_id: str) -> Answer:
        reservation = await self._inventory.CommitStock(
            inventory_pb2.CommitStockRequest(order_id=order.id, request_id=request_id)
        )
        return Done(reservation.reservation_id)

    async def _capture(self, order: domain.Order, request_id: str) -> Answer:
        payment = await self._payment.CapturePayment(
            payment_pb2.CapturePaymentRequest(
                order_id=order.id,
                amount=wire.money_to_proto(order.to_capture) if order.to_capture else None,
                request_id=request_id,
            )
        )
        if payment.state == payment_pb2.Payment.STATE_CAPTURED:
            return Done(payment.payment_id)
        return Unknown(payment_pb2.Payment.State.Name(payment.state))

    async def _void(self, order: domain.Order, request_id: str) -> Answer:
        payment = await self._payment.VoidPayment(
            payment_pb2.VoidPaymentRequest(order_id=order.id, request_id=request_id)
        )
        if payment.state in _NOTHING_HELD_OR_TAKEN:
            return Done(payment.payment_id)
        return Unknown(payment_pb2.Payment.State.Name(payment.state))

    async def _release(self, order: domain.Order, request_id: str) -> Answer:
        reservation = await self._inventory.ReleaseStock(
            inventory_pb2.ReleaseStockRequest(order_id=order.id, request_id=request_id)
        )
        return Done(reservation.reservation_id)

    async def _refund(self, order: domain.Order, request_id: str) -> Answer:
        refund = order.refund_under_way
        assert refund is not None
        payment = await self._payment.RefundPayment(
            payment_pb2.RefundPaymentRequest(
                order_id=order.id,
                refund_id=refund.refund_id,
                amount=wire.money_to_proto(refund.amount),
                request_id=request_id,
            )
        )
        if payment.state in _REFUNDED:
            return Done(payment.payment_id)
        return Unknown(payment_pb2.Payment.State.Name(payment.state))

    async def _return(self, order: domain.Order, request_id: str) -> Answer:
        refund = order.refund_under_way
        assert refund is not None
        reservation = await self._inventory.ReturnStock(
            inventory_pb2.ReturnStockRequest(
                order_id=order.id,
                return_id=refund.refund_id,
                lines=_stock_lines(refund.quantities),
                request_id=request_id,
            )
        )
        return Done(reservation.reservation_id)


def _stock_lines(pieces: Iterable[tuple[str, int]]) -> list[inventory_pb2.ReserveLine]:
    """Several for what is more than one may say; never more than the buyer needed to say it."""
    return [
        inventory_pb2.ReserveLine(product_id=product_id, quantity=min(LINE_MAX, quantity - said))
        for product_id, quantity in pieces
        for said in range(0, quantity, LINE_MAX)
    ]
