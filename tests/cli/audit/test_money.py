from typing import Any

import pytest

from services.cli.audit import money
from services.payment import tables

ORDERS, ONCE = money.CHECKS[:2]


def test_a_confirmed_order_was_paid_in_full(shop: Any) -> None:
    shop.order("o", "CONFIRMED")
    shop.moved("o", "e", 1000)
    found = shop.find(ORDERS)
    assert found.violations == {}
    assert found.figures == {"orders_standing": 1, "taken_USD": 1000, "worth_USD": 1000}


@pytest.mark.parametrize("taken", [999, 1001])
def test_a_confirmed_order_that_paid_anything_else_is_found(shop: Any, taken: int) -> None:
    shop.order("o", "CONFIRMED")
    shop.moved("o", "e", taken)
    assert shop.violations(ORDERS) == [f"order o: CONFIRMED, worth 10.00 USD, taken {taken / 100:.2f} USD"]


def test_a_confirmed_order_that_paid_nothing_is_found(shop: Any) -> None:
    shop.order("o", "CONFIRMED")
    assert shop.violations(ORDERS) == ["order o: CONFIRMED, worth 10.00 USD, taken 0.00 USD"]


@pytest.mark.parametrize("state", ["REJECTED", "CANCELLED"])
def test_nobody_pays_for_an_order_that_ended(shop: Any, state: str) -> None:
    shop.order("o", state)
    shop.moved("o", "taken", 1000)
    assert shop.violations(ORDERS) == [f"order o: {state}, worth 10.00 USD, taken 10.00 USD"]
    shop.moved("o", "given back", -1000)
    assert shop.violations(ORDERS) == []


def test_an_order_under_way_may_have_paid_or_not(shop: Any) -> None:
    shop.order("paid", "PENDING")
    shop.order("unpaid", "CANCELLING")
    shop.moved("paid", "e", 1000)
    found = shop.find(ORDERS)
    assert (found.violations, found.figures) == ({}, {"under_way": 2})


def test_nobody_pays_for_no_order(shop: Any) -> None:
    shop.moved("o", "e", 1000)
    assert shop.violations(ORDERS) == ["order o: 10.00 USD taken for no order"]


def test_an_order_that_was_charged_twice_is_found_whatever_was_given_back(shop: Any) -> None:
    shop.write("payment", tables.payments, order_id="o", state="CAPTURED")
    for number in (1, 2):
        shop.write(
            "payment",
            tables.operations,
            order_id="o",
            number=number,
            kind="CAPTURE",
            provider_key=f"k{number}",
            amount_minor=1000,
            outcome="SUCCEEDED",
            settle_time=1,
        )
    assert shop.violations(ONCE) == ["order o: charged 2 times"]
