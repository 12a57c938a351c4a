"""People are told everything that can happen to an order."""

import base64
import json
from pathlib import Path

import pytest
from bodega.order.v1 import order_pb2
from google.protobuf.json_format import MessageToDict

from services.cli import timeline

EVENTS = json.loads((Path(__file__).parents[1] / "order" / "stored_events.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stored", EVENTS, ids=lambda stored: f"{stored['type']} {stored.get('shape', '')}")
def test_whatever_a_release_has_stored_has_its_words(stored: dict[str, str]) -> None:
    event = MessageToDict(order_pb2.OrderEvent.FromString(base64.b64decode(stored["body"])))
    assert timeline.describe(event) != timeline.describe({})


def test_that_an_order_is_to_be_paid_before_it_ships_is_told() -> None:
    amount = {"currencyCode": "USD", "units": "4", "nanos": 500_000_000}
    event = {"captureRequested": {"amount": amount}}
    assert timeline.describe(event) == "to be shipped: 4.50 USD to be taken first"
