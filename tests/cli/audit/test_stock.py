from typing import Any

import pytest

from services.cli.audit import stock

HOLDS, SALES = stock.CHECKS


def test_holds_of_orders_under_way_are_as_they_should_be(shop: Any) -> None:
    shop.order("o", "PENDING")
    shop.hold("o", "reserved")
    found = shop.find(HOLDS)
    assert (found.violations, found.figures) == ({}, {"holds": 1, "pieces_held": 2})


@pytest.mark.parametrize("state", ["CONFIRMED", "REJECTED", "CANCELLED"])
def test_a_settled_order_holds_nothing(shop: Any, state: str) -> None:
    shop.order("o", state)
    shop.hold("o", "reserved")
    assert shop.violations(HOLDS) == [f"order o: {state}, and stock is still held"]


def test_nothing_is_held_for_nobody(shop: Any) -> None:
    shop.hold("o", "reserved")
    assert shop.violations(HOLDS) == ["order o: stock is held for no order"]


def test_confirmed_orders_were_sold_what_they_bought(shop: Any) -> None:
    shop.order("o", "CONFIRMED")
    shop.hold("o", "committed")
    found = shop.find(SALES)
    assert found.violations == {}
    assert found.figures == {"orders": 1, "sales": 1, "standing": 1, "pieces_due": 2}


def test_a_confirmed_order_that_was_sold_nothing_is_found(shop: Any) -> None:
    shop.order("o", "CONFIRMED")
    shop.hold("o", "released")
    assert shop.violations(SALES) == ["order o: CONFIRMED, and nothing was sold"]


def test_a_confirmed_order_that_was_sold_something_else_is_found(shop: Any) -> None:
    shop.order("o", "CONFIRMED", quantity=2)
    shop.hold("o", "committed", quantity=3)
    assert shop.violations(SALES) == ["order o: should have {'beans': 2}, was sold {'beans': 3}"]


@pytest.mark.parametrize("state", ["REJECTED", "CANCELLED"])
def test_goods_of_an_order_that_ended_come_back(shop: Any, state: str) -> None:
    shop.order("o", state)
    shop.hold("o", "committed")
    assert shop.violations(SALES) == [f"order o: {state}, and its goods never came back"]


def test_an_order_under_way_may_have_its_goods_already(shop: Any) -> None:
    shop.order("o", "PENDING")
    shop.hold("o", "committed")
    found = shop.find(SALES)
    assert (found.violations, found.figures["under_way"]) == ({}, 1)


def test_nothing_is_sold_to_nobody(shop: Any) -> None:
    shop.hold("o", "committed")
    assert shop.violations(SALES) == ["order o: goods were sold to no order"]


def test_pieces_that_a_refund_put_back_on_sale_are_nobodys(shop: Any) -> None:
    shop.order("o", "PARTIALLY_REFUNDED", quantity=3, refunded=1)
    shop.refund_requested("o", 1, return_stock=True)
    shop.hold("o", "committed", quantity=3)
    assert shop.violations(SALES) == ["order o: should have {'beans': 2}, was sold {'beans': 3}"]


def test_pieces_that_were_refunded_and_stay_with_the_buyer_are_sold(shop: Any) -> None:
    shop.order("o", "REFUNDED", quantity=3, refunded=3)
    shop.refund_requested("o", 3, return_stock=False)
    shop.hold("o", "committed", quantity=3)
    assert shop.violations(SALES) == []


def test_an_order_of_which_everything_came_back_has_nothing(shop: Any) -> None:
    shop.order("o", "REFUNDED", quantity=3, refunded=3)
    shop.refund_requested("o", 3, return_stock=True)
    assert shop.violations(SALES) == []


def test_a_refund_under_way_may_have_put_its_pieces_back_or_not(shop: Any) -> None:
    shop.order("o", "SHIPPED", quantity=3, under_way=True)
    shop.refund_requested("o", 1, return_stock=True)
    shop.hold("o", "committed", quantity=3)
    assert shop.violations(SALES) == []


def test_what_the_warehouse_took_back_by_itself_is_nobodys(shop: Any) -> None:
    shop.order("o", "DELIVERED", quantity=3)
    shop.hold("o", "committed", quantity=3, returned=1)
    assert shop.violations(SALES) == ["order o: should have {'beans': 3}, was sold {'beans': 2}"]
    shop.returned("o", "by hand", 1)
    assert shop.violations(SALES) == []


def test_what_a_refund_and_what_the_warehouse_took_back_add_up(shop: Any) -> None:
    shop.order("o", "PARTIALLY_REFUNDED", quantity=3, refunded=1)
    shop.refund_requested("o", 1, return_stock=True)
    shop.hold("o", "committed", quantity=3, returned=2)
    shop.returned("o", "r", 1)
    assert shop.violations(SALES) == ["order o: should have {'beans': 2}, was sold {'beans': 1}"]
    shop.returned("o", "by hand", 1)
    assert shop.violations(SALES) == []


def test_what_was_back_before_a_refund_asked_for_it_comes_back_once(shop: Any) -> None:
    shop.order("o", "REFUNDED", quantity=3, refunded=3)
    shop.refund_requested("o", 3, return_stock=True)
    shop.hold("o", "committed", quantity=3, returned=1)
    shop.returned("o", "by hand", 1)
    assert shop.violations(SALES) == ["order o: should have {}, was sold {'beans': 2}"]
    shop.returned("o", "r", 0)  # refused
    assert shop.violations(SALES) == []
