"""What is refused of an order, and in which words. Pure values."""

from services.kernel import errors


class OrderNotFound(errors.NotFound):
    """There is no order {order_id}."""


class OrderNotCancellable(errors.WrongState):
    """Order {order_id} is {state}; only a pending or confirmed order not yet shipped can be cancelled."""


class OrderNotCompensatable(errors.WrongState):
    """Order {order_id} is {state}; only an order under way can be given up."""


class OrderSettled(errors.WrongState):
    """Order {order_id} is {state}; there is nothing to resume."""


class OrderNotShippable(errors.WrongState):
    """Order {order_id} is {state}; only a confirmed order can be shipped."""


class ShipmentNotPaid(errors.Stale):
    """The money of order {order_id} is being taken; the parcel stays until the same request says SHIPPED."""


class OrderNotDeliverable(errors.WrongState):
    """Order {order_id} is {state}; only a shipped order can be delivered."""


class OrderNotRefundable(errors.WrongState):
    """Order {order_id} is {state}; nothing of it can be refunded."""


class RefundExceedsOrder(errors.WrongState):
    """Of product {product_id} {left} pieces are left to refund, not {asked}."""


class BuyerNotFound(errors.NotFound):
    """There is no user {user_id}."""


class UserNotActive(errors.WrongState):
    """User {user_id} may not buy: the account is {state}."""


class ProductNotFound(errors.NotFound):
    """There is no product {product_id}."""


class PriceChanged(errors.WrongState):
    """The order costs {total}, not {expected_total} as expected."""


class CurrencyMismatch(errors.Invalid):
    """Product {product_id} is priced in {product_currency}, not in {currency}."""

    field = "currency"


class OrderTooLarge(errors.Invalid):
    """An order of {total} is more than this shop can count."""

    field = "lines"
