"""Which facts are told, and what of each is said. Pure; the words stand in `wording`.

Every event listed here is told; any other is not. An order that needs attention is the shop's business, not
the buyer's; that an order was placed they have just seen themselves; that money goes back is told by
payment's PaymentRefunded, whatever set it off, and hence not once more by the order's OrderRefunded. That is
told only where nothing had been taken yet, of which payment has nothing to say.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bodega.order.v1 import order_events_pb2 as orders
from bodega.payment.v1 import payment_events_pb2 as payments
from bodega.user.v1 import user_events_pb2 as users
from google.type.money_pb2 import Money as MoneyMessage

from services.kernel.money import Money
from services.notification import wording
from services.notification.domain import Message
from services.notification.wording.language import Particulars

Template = Callable[[Any], Message | None]
"""From an event to what it says to whom; None if it says nothing."""

CAPTURE_REFUSED: Final = "CAPTURE_REFUSED"
"""Why the house itself calls off an order that was to be paid when it is shipped."""


def order_confirmed(event: orders.OrderConfirmed) -> Particulars:
    held = {"held": "yes"} if event.capture == orders.CAPTURE_ON_SHIPMENT else {}
    return {"order_id": event.order_id, "amount": _amount(event.total), **held}


def order_rejected(event: orders.OrderRejected) -> Particulars:
    return {"order_id": event.order_id, "reason": event.reason}


def order_cancelled(event: orders.OrderCancelled) -> Particulars:
    """Without the reason, unless it is ours: others are people's words, and this may show up anywhere."""
    unpaid = {"unpaid": "yes"} if event.reason == CAPTURE_REFUSED else {}
    return {"order_id": event.order_id, **unpaid, **({"held": "yes"} if event.held else {})}


def order_refunded(event: orders.OrderRefunded) -> Particulars | None:
    if not event.held:
        return None  # payment tells of it
    return {"order_id": event.order_id, "amount": _amount(event.amount)}


def order_shipped(event: orders.OrderShipped) -> Particulars:
    return {"order_id": event.order_id, "tracking_reference": event.tracking_reference}


def order_delivered(event: orders.OrderDelivered) -> Particulars:
    return {"order_id": event.order_id}


def payment_amount(event: payments.PaymentDeclined | payments.PaymentRefunded) -> Particulars:
    return {"order_id": event.order_id, "amount": _amount(event.amount)}


def nothing_more(_event: Any) -> Particulars:
    """The fact says it all."""
    return {}


_SAID: Final[Mapping[Any, Callable[[Any], Particulars | None]]] = {
    orders.OrderConfirmed: order_confirmed,
    orders.OrderRejected: order_rejected,
    orders.OrderCancelled: order_cancelled,
    orders.OrderShipped: order_shipped,
    orders.OrderDelivered: order_delivered,
    orders.OrderRefunded: order_refunded,
    payments.PaymentDeclined: payment_amount,
    payments.PaymentRefunded: payment_amount,
    users.UserRegistered: nothing_more,
    users.UserActivated: nothing_more,
    users.UserSuspended: nothing_more,
    users.UserReinstated: nothing_more,
    users.UserDeactivated: nothing_more,
}


def _template(particulars_of: Callable[[Any], Particulars | None]) -> Template:
    def message(event: Any) -> Message | None:
        particulars = particulars_of(event)
        if particulars is None:
            return None
        said = wording.SHOP.says(event.DESCRIPTOR.name, particulars)
        assert said is not None, "the shop's language has words for every fact that is told"
        title, body = said
        order_id = particulars.get("order_id", "")
        return Message(event.user_id, title, body, order_id=order_id, particulars=particulars)

    return message


def _by_service() -> Mapping[str, Mapping[str, Template]]:
    templates: dict[str, dict[str, Template]] = {}
    for kind, particulars_of in _SAID.items():
        name = kind.DESCRIPTOR.full_name
        templates.setdefault(name.split(".")[1], {})[name] = _template(particulars_of)
    return templates


TEMPLATES: Final = _by_service()
"""By the service whose facts they are, then by the full name of the event."""

SOMETIMES: Final = frozenset({orders.OrderRefunded.DESCRIPTOR.full_name})
"""Those of which only some are told."""


def _amount(amount: MoneyMessage) -> str:
    return str(Money.of(amount.units, amount.nanos, amount.currency_code))
