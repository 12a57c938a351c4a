"""What the provider tells over HTTP, through the edge: signed, doubled, late, forged."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.data_folder import DataFolder
from services.cli.edge import new_id
from services.cli.shopper import Shopper
from services.payment.config import LAPTOP_WEBHOOK_SECRET
from services.payment.webhook import key, sign

KEY = key(LAPTOP_WEBHOOK_SECRET)
TOLD_MAX_S = 20.0


def given_up(shopper: Shopper) -> dict[str, Any]:
    """An order whose hold was given back, because the provider would not capture it."""
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer, "tok_capture_refused")["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=1)["productId"]
    order = shopper.order(buyer, card, {product: 1})
    assert order["state"] == "STATE_REJECTED"
    return order


def captured_all_the_same(data: Path, payment_id: str) -> str:
    """The provider takes the money after all, and only a webhook will tell; the authorization's name.

    Its books are not ours, hence by hand. A movement that its list of changes knew of would be found by
    comparing books as well.
    """
    with closing(sqlite3.connect(DataFolder(data).provider_database, isolation_level=None)) as books:
        [(reference,)] = books.execute(
            "UPDATE authorizations SET captured_minor = amount_minor WHERE payment_id = ?"
            " RETURNING reference",
            (payment_id,),
        ).fetchall()
    return str(reference)


def event(authorization: str) -> bytes:
    return json.dumps({"type": "payment.captured", "data": {"authorization": authorization}}).encode()


def headers(
    body: bytes, *, webhook_id: str = "", with_key: bytes = KEY, age: timedelta = timedelta()
) -> dict[str, str]:
    return dict(
        sign(with_key, id=webhook_id or new_id(), at=datetime.now(UTC) - age, body=body).as_metadata()
    )


def send(shopper: Shopper, body: bytes, signed: dict[str, str], provider: str = "sandbox") -> httpx.Response:
    return shopper.http.post(
        f"/api/v1/payment-providers/{provider}:webhook",
        content=body,
        headers={"content-type": "application/json", **signed},
    )


def movements(shopper: Shopper, payment_id: str) -> list[str]:
    """What the provider did, oldest first."""
    found = shopper.ask("GET", f"/api/v1/payments/{payment_id}/transactions")["transactions"]
    return [one["kind"] for one in found if one["outcome"] == "OUTCOME_SUCCEEDED"]


def late_money(shopper: Shopper, order_id: str) -> list[dict[str, Any]]:
    return [entry for entry in shopper.timeline(order_id) if "lateMoneyReturned" in entry]


def test_late_money_goes_back_once_however_often_the_provider_tells_of_it(
    shopper: Shopper, data: Path
) -> None:
    order = given_up(shopper)
    body = event(captured_all_the_same(data, order["paymentId"]))
    signed = headers(body)
    assert [send(shopper, body, signed).status_code for _ in range(3)] == [204] * 3
    told = shopper.eventually(
        lambda: late_money(shopper, order["orderId"]), bool, "the order says so", TOLD_MAX_S
    )
    assert send(shopper, body, headers(body)).status_code == 204  # told anew, of what is long over
    assert movements(shopper, order["paymentId"]) == [
        "KIND_AUTHORIZE",
        "KIND_VOID",
        "KIND_CAPTURE",
        "KIND_REFUND",
    ]
    assert late_money(shopper, order["orderId"]) == told
    assert len(told) == 1
    assert shopper.ask("GET", f"/api/v1/orders/{order['orderId']}")["state"] == "STATE_REJECTED"


def test_what_the_provider_did_not_sign_or_signed_long_ago_has_no_effect(
    shopper: Shopper, data: Path
) -> None:
    order = given_up(shopper)
    body = event(captured_all_the_same(data, order["paymentId"]))
    right = headers(body)
    refused = [
        send(shopper, body, {}),
        send(shopper, body, headers(body, with_key=b"somebody else's")),
        send(shopper, body, headers(body, age=timedelta(seconds=301))),
        send(shopper, body + b" ", right),
        send(shopper, body, right | {"webhook-id": "another"}),
        send(shopper, body, right, provider="stripe"),
    ]
    for reply in refused:
        assert (reply.status_code, reason(reply)) == (403, "WEBHOOK_SIGNATURE_INVALID")
    assert "KIND_CAPTURE" not in movements(shopper, order["paymentId"])

    assert send(shopper, body, right).status_code == 204  # for verify: both books shall agree
    shopper.eventually(lambda: late_money(shopper, order["orderId"]), bool, "the order says so", TOLD_MAX_S)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"data": {}}'])
def test_what_is_none_of_the_provider_s_events_is_named_malformed(shopper: Shopper, body: bytes) -> None:
    reply = send(shopper, body, headers(body))
    assert (reply.status_code, reason(reply)) == (400, "WEBHOOK_MALFORMED")


def test_what_is_too_long_is_refused(shopper: Shopper) -> None:
    body = b" " * 65_537
    assert send(shopper, body, headers(body)).status_code == 400


def reason(reply: httpx.Response) -> str:
    details = reply.json()["error"]["details"]
    return next((str(detail["reason"]) for detail in details if "reason" in detail), "")
