from dataclasses import replace
from typing import Any

from services.cli.audit import told

PUBLISHED, RECEIVED = told.CHECKS
PLACED, CONFIRMED = "bodega.order.v1.OrderPlaced", "bodega.order.v1.OrderConfirmed"


def test_facts_that_are_in_the_stream_in_order_are_told(shop: Any) -> None:
    shop.fact("order", "e1", "o", PLACED, at=7)
    shop.fact("order", "e2", "o", CONFIRMED, at=9)
    found = shop.find(PUBLISHED)
    assert (found.violations, found.figures["facts"], found.figures["in_streams"]) == ({}, 2, 2)


def test_a_fact_that_was_never_published_is_found(shop: Any) -> None:
    shop.fact("order", "e", "o", PLACED, at=None)
    assert shop.violations(PUBLISHED) == [f"{PLACED} of o: not in the stream"]


def test_a_fact_that_the_stream_has_lost_is_found(shop: Any) -> None:
    shop.fact("order", "e", "o", PLACED, at=None, seq=4)
    assert shop.violations(PUBLISHED) == [f"{PLACED} of o: not in the stream"]


def test_a_fact_that_has_grown_old_in_the_stream_was_told(shop: Any) -> None:
    shop.fact("order", "e", "o", PLACED, at=None, seq=4)
    shop.told = replace(shop.told, first={**shop.told.first, "order": 5})
    assert shop.violations(PUBLISHED) == []


def test_facts_of_one_aggregate_that_were_told_out_of_order_are_found(shop: Any) -> None:
    shop.fact("order", "e1", "o", PLACED, at=9)
    shop.fact("order", "e2", "o", CONFIRMED, at=7)
    assert shop.violations(PUBLISHED) == [f"{CONFIRMED} of o: told out of order"]


def test_facts_of_different_aggregates_have_no_order(shop: Any) -> None:
    shop.fact("order", "e1", "a", PLACED, at=9)
    shop.fact("order", "e2", "b", PLACED, at=7)
    assert shop.violations(PUBLISHED) == []


def test_a_fact_that_people_are_told_of_is_received(shop: Any) -> None:
    shop.fact("order", "e", "o", CONFIRMED, at=1)
    assert shop.violations(RECEIVED) == [f"{CONFIRMED} e: not received by notification"]
    shop.received("notification-order", "e")
    assert shop.violations(RECEIVED) == []


def test_a_fact_that_nobody_is_told_of_need_not_be_received(shop: Any) -> None:
    shop.fact("order", "e", "o", PLACED, at=1)
    assert shop.violations(RECEIVED) == []


def test_a_fact_that_was_given_up_is_found_with_who_gave_it_up(shop: Any) -> None:
    shop.fact("order", "e", "o", CONFIRMED, at=1)
    shop.told = replace(shop.told, dead={"e": "notification-order"})
    assert shop.violations(RECEIVED) == [
        f"{CONFIRMED} e: not received by notification, given up by notification-order"
    ]
