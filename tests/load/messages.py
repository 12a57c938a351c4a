"""The messages that are sent about: a real order request and a real order, some 390 bytes each."""

from typing import Final

from bodega.order.v1 import order_pb2
from google.protobuf import json_format
from google.type import money_pb2

USER_ID: Final = "0199a1b2-0000-7000-8000-000000000001"
PAYMENT_METHOD_ID: Final = "0199a1b2-0000-7000-8000-000000000002"
CREATE_ORDER: Final = "/bodega.order.v1.OrderService/CreateOrder"
TRACEPARENT: Final = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")


def product_id(number: int) -> str:
    return f"0199a1b2-0000-7000-8000-0000000001{number:02d}"


def request(request_id: str = "0199a1b2-0000-7000-8000-00000000ffff") -> order_pb2.CreateOrderRequest:
    """Asks for six products, with the total that the buyer was shown."""
    return order_pb2.CreateOrderRequest(
        user_id=USER_ID,
        payment_method_id=PAYMENT_METHOD_ID,
        currency="USD",
        expected_total=money_pb2.Money(currency_code="USD", units=123, nanos=450_000_000),
        lines=[
            order_pb2.CreateOrderLine(product_id=product_id(number), quantity=number)
            for number in range(1, 7)
        ],
        request_id=request_id,
    )


def reply() -> order_pb2.Order:
    """A settled order of two lines."""
    order = order_pb2.Order(
        order_id="0199a1b2-0000-7000-8000-000000000003",
        user_id=USER_ID,
        state=order_pb2.Order.STATE_CONFIRMED,
        total=money_pb2.Money(currency_code="USD", units=37),
        payment_method_id=PAYMENT_METHOD_ID,
        reservation_id="0199a1b2-0000-7000-8000-000000000004",
        payment_id="0199a1b2-0000-7000-8000-000000000005",
        version=6,
        lines=[
            order_pb2.OrderLine(
                product_id=product_id(number),
                sku=f"COFFEE-{number}",
                name="Coffee, 1 kg",
                quantity=1,
                unit_price=money_pb2.Money(currency_code="USD", units=18, nanos=500_000_000),
            )
            for number in (1, 2)
        ],
    )
    order.create_time.FromMicroseconds(1_790_000_000_123_456)
    order.update_time.FromMicroseconds(1_790_000_000_234_567)
    return order


def request_json() -> str:
    """The same request as a browser sends it; its id travels as Idempotency-Key."""
    return json_format.MessageToJson(request(request_id=""), indent=None)
