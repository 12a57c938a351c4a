from typing import Any

import pytest

from services.cli.audit import money
from services.payment import sandbox_books, tables

ORDERS, HELD, PROVIDER = money.CHECKS


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
    assert shop.violations(ORDERS) == [f"order o: {state}, worth 0.00 USD, taken 10.00 USD"]
    shop.moved("o", "given back", -1000)
    assert shop.violations(ORDERS) == []


@pytest.mark.parametrize(("refunded", "state"), [(1, "PARTIALLY_REFUNDED"), (2, "REFUNDED")])
def test_an_order_is_worth_what_was_not_refunded(shop: Any, refunded: int, state: str) -> None:
    shop.order("o", state, quantity=2, refunded=refunded)
    shop.moved("o", "taken", 1000)
    left = f"{10 - 5 * refunded}.00 USD"
    assert shop.violations(ORDERS) == [f"order o: {state}, worth {left}, taken 10.00 USD"]
    shop.moved("o", "given back", -500 * refunded)
    assert shop.violations(ORDERS) == []


def test_a_refund_under_way_may_have_given_back_or_not(shop: Any) -> None:
    shop.order("o", "DELIVERED", under_way=True)
    shop.moved("o", "taken", 1000)
    shop.moved("o", "given back", -500)
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


def test_what_is_paid_for_in_one_go_need_not_be_an_order(shop: Any) -> None:
    row = {"order_id": "o", "payment_id": "p", "state": "CAPTURED", "currency": "USD", "direct": True}
    shop.write("payment", tables.payments, **row)
    shop.moved("o", "e", 1000)
    found = shop.find(ORDERS)
    assert (found.violations, found.figures) == ({}, {"paid_without_order": 1})


@pytest.mark.parametrize(("state", "refunded"), [("CONFIRMED", 0), ("PARTIALLY_REFUNDED", 1)])
def test_an_order_that_is_paid_when_it_ships_has_paid_nothing_before(
    shop: Any, state: str, refunded: int
) -> None:
    shop.order("o", state, capture="shipment", refunded=refunded)
    assert shop.violations(ORDERS) == []
    shop.moved("o", "e", 1000)
    assert shop.violations(ORDERS) == [f"order o: {state}, worth 0.00 USD, taken 10.00 USD"]


def test_what_was_shipped_was_paid_whenever_that_is_due(shop: Any) -> None:
    shop.order("o", "SHIPPED", capture="shipment", is_shipped=True)
    assert shop.violations(ORDERS) == ["order o: SHIPPED, worth 10.00 USD, taken 0.00 USD"]


def test_of_what_was_refunded_before_it_was_paid_nothing_comes_back(shop: Any) -> None:
    shop.order(
        "o",
        "PARTIALLY_REFUNDED",
        capture="shipment",
        quantity=4,
        refunded=2,
        captured_minor=1500,
        is_shipped=True,
    )
    shop.moved("o", "taken", 1500)
    assert shop.violations(ORDERS) == ["order o: PARTIALLY_REFUNDED, worth 10.00 USD, taken 15.00 USD"]
    shop.moved("o", "given back", -500)
    assert shop.violations(ORDERS) == []


def held(shop: Any, *, amount_minor: int = 1000, state: str = "AUTHORIZED", direct: bool = False) -> None:
    row = {"order_id": "o", "payment_id": "p", "state": state, "currency": "USD", "direct": direct}
    shop.write("payment", tables.payments, amount_minor=amount_minor, **row)


def test_the_money_of_an_order_that_is_paid_when_it_ships_is_held_until_then(shop: Any) -> None:
    shop.order("o", "CONFIRMED", capture="shipment")
    held(shop)
    found = shop.find(HELD)
    assert (found.violations, found.figures) == ({}, {"waiting": 1})


@pytest.mark.parametrize("hold", [{"state": "VOIDED"}, {"state": "CAPTURED"}, {"amount_minor": 999}, None])
def test_an_order_that_waits_to_be_paid_and_nothing_is_held_for_it_is_found(shop: Any, hold: Any) -> None:
    shop.order("o", "CONFIRMED", capture="shipment")
    if hold is not None:
        held(shop, **hold)
    assert shop.violations(HELD) == ["order o: to be paid when it ships, and not held"]


@pytest.mark.parametrize(
    ("state", "paid"),
    [("CONFIRMED", {}), ("CANCELLED", {"capture": "shipment"}), ("REJECTED", {})],
)
def test_money_that_is_held_for_nothing_is_found(shop: Any, state: str, paid: Any) -> None:
    shop.order("o", state, **paid)
    held(shop)
    assert shop.violations(HELD) == [f"order o: {state}, and its money is still held"]


def test_money_that_is_held_for_no_order_is_found_unless_it_is_paid_in_one_go(shop: Any) -> None:
    held(shop)
    assert shop.violations(HELD) == ["order o: money is held for no order"]


def test_what_is_paid_in_one_go_is_held_for_a_moment(shop: Any) -> None:
    held(shop, direct=True)
    assert shop.violations(HELD) == []


def test_an_order_under_way_may_hold_money_or_not(shop: Any) -> None:
    shop.order("o", "CANCELLING", capture="shipment")
    held(shop)
    shop.order("p", "CONFIRMED", capture="shipment", under_way=True)
    found = shop.find(HELD)
    assert (found.violations, found.figures) == ({}, {"under_way": 2})


def ours(shop: Any, state: str, captured_minor: int = 0, refunded_minor: int = 0) -> None:
    shop.write(
        "payment",
        tables.payments,
        order_id="o",
        payment_id="p",
        state=state,
        currency="USD",
        captured_minor=captured_minor,
        refunded_minor=refunded_minor,
    )


def theirs(
    shop: Any, reference: str, captured_minor: int = 0, refunded_minor: int = 0, *, held: bool
) -> None:
    shop.write(
        "provider",
        sandbox_books.authorizations,
        reference=reference,
        payment_id="p",
        amount_minor=1000,
        held=held,
        captured_minor=captured_minor,
        refunded_minor=refunded_minor,
        change=len(reference),
    )


def test_books_that_agree_are_as_they_should_be(shop: Any) -> None:
    ours(shop, "REFUNDED", 1000, 1000)
    theirs(shop, "a", 1000, 1000, held=False)
    found = shop.find(PROVIDER)
    assert found.violations == {}
    assert found.figures == {"payments": 1, "captured_USD": 1000, "refunded_USD": 1000}


@pytest.mark.parametrize(
    ("state", "captured", "refunded", "held"),
    [
        ("CAPTURED", 1000, 500, 0),
        ("CAPTURED", 0, 0, 1),
        ("VOIDED", 0, 0, 1),
        ("AUTHORIZED", 0, 0, 0),
    ],
)
def test_books_that_differ_are_found(shop: Any, state: str, captured: int, refunded: int, held: int) -> None:
    ours(shop, state, 1000 if state == "CAPTURED" else 0)
    theirs(shop, "a", captured, refunded, held=bool(held))
    (line,) = shop.violations(PROVIDER)
    assert line.startswith(f"payment p ({state}): captured")


def test_a_payment_that_the_provider_was_charged_for_twice_is_found(shop: Any) -> None:
    ours(shop, "CAPTURED", 1000)
    theirs(shop, "a", 1000, held=False)
    theirs(shop, "bb", 1000, held=False)
    (line,) = shop.violations(PROVIDER)
    assert line.endswith("0 held here, captured 2000, refunded 0, 0 held at the provider")


def test_money_that_only_the_provider_knows_of_is_found(shop: Any) -> None:
    theirs(shop, "a", 1000, held=False)
    (line,) = shop.violations(PROVIDER)
    assert line == "payment p: captured 1000, refunded 0, 0 held at the provider, unknown here"


def test_a_payment_that_the_provider_has_not_answered_is_counted_apart(shop: Any) -> None:
    ours(shop, "UNKNOWN")
    theirs(shop, "a", 1000, held=False)
    found = shop.find(PROVIDER)
    assert (found.violations, found.figures) == ({}, {"under_way": 1})
