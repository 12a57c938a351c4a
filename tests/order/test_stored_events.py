"""Events that releases of the past have stored must be readable for ever.

`stored_events.json` is a frozen corpus: lines are only ever added, one for each shape of event a release has
written; `shape` tells apart those of one type. To add one, print
`base64.b64encode(convert.fact_to_proto(order, fact).SerializeToString())`.
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bodega.order.v1 import order_pb2 as pb

from services.kernel.money import Money
from services.order import convert, domain, facts
from services.order.facts import Step

CORPUS = json.loads((Path(__file__).parent / "stored_events.json").read_text(encoding="utf-8"))
LINE = facts.Line("p1", "SKU-1", "Coffee", 2, Money(450, "USD"))

FACTS: dict[str, facts.Fact] = {
    "placed": facts.Placed("u1", (LINE,), Money(900, "USD"), "m1"),
    "placed to be paid at shipment": facts.Placed(
        "u1", (LINE,), Money(900, "USD"), "m1", facts.Capture.SHIPMENT
    ),
    "step_done": facts.StepDone(Step.RESERVE_STOCK, 2, "r1"),
    "step_refused": facts.StepRefused(Step.AUTHORIZE_PAYMENT, 1, "PAYMENT_DECLINED"),
    "step_given_up": facts.StepGivenUp(Step.CAPTURE_PAYMENT, 9, "UNAVAILABLE"),
    "cancel_requested": facts.CancelRequested("changed my mind"),
    "compensation_forced": facts.CompensationForced("stuck"),
    "confirmed": facts.Confirmed(),
    "rejected": facts.Rejected(),
    "cancelled": facts.Cancelled(),
    "needs_attention": facts.NeedsAttention(Step.VOID_PAYMENT, 8),
    "capture_requested": facts.CaptureRequested(Money(450, "USD")),
    "shipped": facts.Shipped("T-1"),
    "delivered": facts.Delivered(),
    "refund_requested": facts.RefundRequested("r1", (("p1", 1),), Money(450, "USD"), True, "broken"),
    "refund_requested before capture": facts.RefundRequested(
        "r1", (("p1", 1),), Money(450, "USD"), True, "broken", before_capture=True
    ),
    "refunded": facts.Refunded("r1", Money(450, "USD"), full=False),
    "late_money_returned": facts.LateMoneyReturned("p1", Money(900, "USD")),
}


def shape(stored: dict[str, str]) -> str:
    return f"{stored['type']} {stored.get('shape', '')}".rstrip()


@pytest.mark.parametrize("stored", CORPUS, ids=lambda stored: f"{stored['since']}-{shape(stored)}")
def test_what_was_stored_is_still_read(stored: dict[str, str]) -> None:
    event = pb.OrderEvent.FromString(base64.b64decode(stored["body"]))
    assert event.WhichOneof("fact") == stored["type"]
    assert convert.fact_from_proto(event) == FACTS[shape(stored)]


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
def test_what_is_stored_is_read_again(fact: facts.Fact) -> None:
    order = domain.place(
        "o1", facts.Placed("u1", (LINE,), LINE.total, "m1"), at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    stored = convert.fact_to_proto(order, fact).SerializeToString()
    assert convert.fact_from_proto(pb.OrderEvent.FromString(stored)) == fact


def test_every_kind_of_event_has_its_place_in_the_corpus() -> None:
    kinds = {field.name for field in pb.OrderEvent.DESCRIPTOR.oneofs_by_name["fact"].fields}
    assert kinds == {stored["type"] for stored in CORPUS}
    assert {shape(stored) for stored in CORPUS} == set(FACTS)


def test_a_capture_of_a_newer_release_stops_this_one() -> None:
    event = pb.OrderEvent.FromString(base64.b64decode(CORPUS[0]["body"]))
    event.placed.capture = 99  # type: ignore[assignment]  # numbers that are not known are kept
    with pytest.raises(convert.UnknownFact):
        convert.fact_from_proto(event)


def test_an_event_of_a_newer_release_stops_this_one() -> None:
    with pytest.raises(convert.UnknownFact):
        convert.fact_from_proto(pb.OrderEvent())
