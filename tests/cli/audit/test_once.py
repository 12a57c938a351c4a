from typing import Any

import pytest
from bodega.order.v1 import order_pb2

from services.cli.audit import once
from services.order import tables

REQUESTS, MESSAGES = once.CHECKS
REFUNDED = "bodega.payment.v1.PaymentRefunded"
CONFIRMED, CANCELLED = "bodega.order.v1.OrderConfirmed", "bodega.order.v1.OrderCancelled"
SCOPE = "user:1 /bodega.order.v1.OrderService/CreateOrder"


def remembered(shop: Any, request_id: str, order_id: str, scope: str = SCOPE) -> None:
    reply = order_pb2.Order(order_id=order_id).SerializeToString()
    shop.write("order", tables.requests, scope=scope, request_id=request_id, reply=reply)


def test_one_request_is_one_order(shop: Any) -> None:
    shop.order("o", "PENDING")
    remembered(shop, "r", "o")
    found = shop.find(REQUESTS)
    assert (found.violations, found.figures) == ({}, {"requests": 1, "orders": 1})


def test_a_request_whose_order_is_lost_is_found(shop: Any) -> None:
    remembered(shop, "r", "o")
    assert shop.violations(REQUESTS) == ["request r: its order o does not exist"]


def test_an_order_of_two_requests_is_found(shop: Any) -> None:
    shop.order("o", "PENDING")
    remembered(shop, "a", "o")
    remembered(shop, "b", "o")
    assert shop.violations(REQUESTS) == ["requests a and b: both are order o"]


def test_requests_of_other_methods_are_not_orders(shop: Any) -> None:
    remembered(shop, "a", "o", "/bodega.order.v1.OrderService/CancelOrder")
    assert shop.find(REQUESTS).figures["requests"] == 0


def test_every_settled_order_was_told_once(shop: Any) -> None:
    shop.order("o", "CONFIRMED")
    shop.order("under way", "PENDING")
    shop.message("o", CONFIRMED, "e")
    found = shop.find(MESSAGES)
    assert (found.violations, found.figures) == ({}, {"messages": 1, "settled_orders": 1})


def test_a_cancelled_order_may_have_been_confirmed_before(shop: Any) -> None:
    shop.order("o", "CANCELLED")
    shop.message("o", CONFIRMED, "e1")
    shop.message("o", CANCELLED, "e2")
    assert shop.violations(MESSAGES) == []


def test_an_order_nobody_was_told_of_is_found(shop: Any) -> None:
    shop.order("o", "CANCELLED")
    shop.message("o", CONFIRMED, "e1")
    assert shop.violations(MESSAGES) == ["order o: CANCELLED, and nobody was told"]


def test_an_order_that_was_told_twice_is_found(shop: Any) -> None:
    shop.order("o", "CONFIRMED")
    shop.message("o", CONFIRMED, "e1")
    shop.message("o", CONFIRMED, "e2")
    assert shop.violations(MESSAGES) == [f"order o: 2 messages of {CONFIRMED}"]


@pytest.mark.parametrize("state", ["PARTIALLY_REFUNDED", "REFUNDED"])
def test_refunds_are_told_one_by_one(shop: Any, state: str) -> None:
    shop.order("o", state, refunded=1)
    assert shop.violations(MESSAGES) == [f"order o: {state}, and nobody was told"]
    shop.message("o", REFUNDED, "e1")
    shop.message("o", REFUNDED, "e2")
    assert shop.violations(MESSAGES) == []


@pytest.mark.parametrize(
    ("captured_minor", "refunded", "is_told"), [(0, 1, False), (1500, 1, False), (1500, 2, True)]
)
def test_of_what_was_refunded_before_it_was_paid_nobody_is_told(
    shop: Any, captured_minor: int, refunded: int, *, is_told: bool
) -> None:
    paid = {"capture": "shipment", "captured_minor": captured_minor}
    shop.order("o", "PARTIALLY_REFUNDED", quantity=4, refunded=refunded, **paid)
    assert bool(shop.violations(MESSAGES)) == is_told
