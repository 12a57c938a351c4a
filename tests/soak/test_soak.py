"""A few seconds of soak, deaths included; and that it finds what is broken."""

from collections import Counter
from pathlib import Path

import pytest

from services.order.domain import State
from tests.cheap_passwords import CHEAP_PASSWORDS
from tests.soak.promises import Ended, Promise, Promises
from tests.soak.report import Report
from tests.soak.soak import Soak, Wish

# What waits between attempts waits less, so that seconds are enough to settle.
IMPATIENT = {
    "order": {"BODEGA_ORDER__BACKOFF_BASE_S": "0.02", "BODEGA_ORDER__BACKOFF_MAX_S": "0.2"},
    "user": CHEAP_PASSWORDS,
    "payment": {"BODEGA_PAYMENT__SANDBOX_SLOW_S": "0.3"},
}


async def test_a_short_soak_holds(tmp_path: Path) -> None:
    wish = Wish(seconds=3.0, seed=1, shoppers=6, blow_every_s=1.0, environment=IMPATIENT)
    report = await Soak(tmp_path / "shop", wish).run()
    assert report.violations == []
    assert report.orders.total() > 0
    assert report.blows.total() > 0
    assert {"money.orders", "stock.sales", "told.received"} <= report.invariants.keys()
    assert list(report.lines())[-1] == "all holds"


@pytest.mark.parametrize(
    ("promise", "ended", "complaint"),
    [
        (
            Promise("o", "approve", {}, is_cancelled=True),
            Ended(State.CONFIRMED, False, True),
            "was cancelled",
        ),
        (Promise("o", "approve", {}, is_shipped=True), Ended(State.CANCELLED, True, True), "was shipped"),
        (Promise("o", "approve", {}, is_shipped=True), Ended(State.CONFIRMED, False, True), "was shipped"),
        (Promise("o", "decline", {}), Ended(State.CONFIRMED, False, True), "by a card of kind decline"),
        (
            Promise("o", "capture_refused", {}),
            Ended(State.CONFIRMED, False, True, waits_to_be_paid=False),
            "by a card of kind capture_refused",
        ),
        (Promise("o", "approve", {}), Ended(State.PENDING, False, False), "does not end"),
        (
            Promise("o", "approve", {"p": 2}, refunded=Counter(p=1)),
            Ended(State.CONFIRMED, False, True),
            "promised to refund",
        ),
        (
            Promise("o", "approve", {"p": 2}, is_refunded_whole=True),
            Ended(State.REFUNDED, True, True, refunded=Counter(p=1)),
            "promised to refund",
        ),
    ],
)
def test_broken_promises_are_found(promise: Promise, ended: Ended, complaint: str) -> None:
    told = Promises()
    told.add(promise)
    (line,) = told.broken({"o": ended})
    assert complaint in line


def test_a_card_that_is_refused_when_it_is_charged_may_wait_for_that() -> None:
    told = Promises()
    told.add(Promise("o", "capture_refused", {}))
    assert told.broken({"o": Ended(State.CONFIRMED, False, True, waits_to_be_paid=True)}) == []


def test_orders_that_one_side_does_not_know_of_are_found() -> None:
    told = Promises()
    told.add(Promise("lost", "approve", {}))
    assert told.broken({"made up": Ended(State.CONFIRMED, False, True)}) == [
        "order lost: accepted, and lost",
        "order made up: nobody was told of it",
    ]


def test_a_report_with_violations_says_so() -> None:
    report = Report(seed=1, shoppers=1, violations=["order o: lost"])
    assert list(report.lines())[-2:] == ["order o: lost", "VIOLATED: 1 promises"]
