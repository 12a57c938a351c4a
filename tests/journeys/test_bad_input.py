"""Bad input is refused by name, changes nothing, and is never answered with an exception's text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.cli import shopper as shopping
from services.cli.edge import new_id
from services.cli.shopper import Shopper

# What only the inside of a program says: names of Python, of gRPC's C core and of databases.
_INSIDES = re.compile(
    r"Traceback|\b\w+Error\b|Exception|\.py\b|File \"|<class|sqlite|sqlalchemy|grpc_|nats|0x[0-9a-f]{6,}"
)


@dataclass
class Counter:
    """A buyer with a card in front of a shelf."""

    shopper: Shopper
    buyer: str
    card: str
    product: str

    def post(self, path: str = "/api/v1/orders", **content: Any) -> httpx.Response:
        headers = {"Idempotency-Key": new_id(), **content.pop("headers", {})}
        return self.shopper.http.post(path, headers=headers, **content)

    def order(self, **changes: Any) -> Any:
        return shopping.order(self.buyer, self.card, {self.product: 1}) | changes

    def lines(self, *lines: Any) -> Any:
        return self.order(lines=list(lines))


@pytest.fixture
def counter(shopper: Shopper) -> Iterator[Counter]:
    """Afterwards nothing has changed: no order, no stock missing."""
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=3)["productId"]
    yield Counter(shopper, buyer, card, product)
    assert shopper.ask("GET", f"/api/v1/users/{buyer}/orders").get("orders", []) == []
    assert shopper.available(product) == 3


def refused(reply: httpx.Response, code: int, status: str, *reasons: str) -> Any:
    """The error of a refusal, which says nothing of our insides."""
    assert reply.status_code == code, reply.text
    error = reply.json()["error"]
    assert sorted(error) == ["code", "details", "message", "status"]
    assert (error["code"], error["status"]) == (code, status)
    assert [info["reason"] for info in _of_type(error, "ErrorInfo")] == list(reasons), reply.text
    assert [info["domain"] for info in _of_type(error, "ErrorInfo")] == ["bodega"] * len(reasons)
    assert not _INSIDES.search(reply.text), reply.text
    return error


def fields(error: Any) -> list[str]:
    """The request's fields that are at fault."""
    (bad,) = _of_type(error, "BadRequest")
    return sorted(violation["field"] for violation in bad["fieldViolations"])


def _of_type(error: Any, name: str) -> list[Any]:
    return [detail for detail in error["details"] if detail["@type"].endswith(f"google.rpc.{name}")]


def test_an_unknown_product(counter: Counter) -> None:
    reply = counter.post(json=counter.lines({"productId": new_id(), "quantity": "1"}))
    refused(reply, 404, "NOT_FOUND", "PRODUCT_NOT_FOUND")


def test_a_buyer_who_is_somebody_else_is_as_good_as_nobody(counter: Counter) -> None:
    other, _ = counter.shopper.register("Eve")
    for user_id in (other["userId"], new_id(), "me"):
        refused(counter.post(json=counter.order(userId=user_id)), 404, "NOT_FOUND", "NOT_FOUND")


@pytest.mark.parametrize("quantity", ["-1", "0", "1000001", "9223372036854775807"])
def test_a_quantity_nobody_can_buy(counter: Counter, quantity: str) -> None:
    reply = counter.post(json=counter.lines({"productId": counter.product, "quantity": quantity}))
    error = refused(reply, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")
    assert fields(error) == ["lines[0].quantity"]


@pytest.mark.parametrize("quantity", ["9223372036854775808", "1.5", "many", "", None, [], {}, True])
def test_a_quantity_that_is_no_number(counter: Counter, quantity: Any) -> None:
    reply = counter.post(json=counter.lines({"productId": counter.product, "quantity": quantity}))
    assert refused_somehow(reply)["status"] == "INVALID_ARGUMENT"


def test_another_currency(counter: Counter) -> None:
    reply = counter.post(json=counter.order(currency="EUR"))
    error = refused(reply, 400, "INVALID_ARGUMENT", "CURRENCY_MISMATCH")
    assert fields(error) == ["currency"]


def test_every_violation_is_named_at_once(counter: Counter) -> None:
    body = counter.lines(
        {"productId": "mug", "quantity": "1"}, {"productId": counter.product, "quantity": "-5"}
    ) | {"currency": "dollars", "paymentMethodId": "card"}
    error = refused(counter.post(json=body), 400, "INVALID_ARGUMENT", "INVALID_REQUEST")
    assert fields(error) == ["currency", "lines[0].product_id", "lines[1].quantity", "payment_method_id"]


MALFORMED = {
    "not JSON": b"{",
    "two values": b"{} {}",
    "not an object": b"[]",
    "a string": b'"order"',
    "invalid UTF-8": b'{"currency": "\xff\xfe"}',
    "half a surrogate": b'{"currency": "\\ud800"}',
    "deeply nested": b"[" * 100_000,
    "a number too large": b'{"lines": 1e999999}',
    "not a number": b'{"lines": NaN}',
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_body_that_is_not_what_it_should_be(counter: Counter, content: bytes) -> None:
    reply = counter.post(content=content, headers={"content-type": "application/json"})
    assert refused_somehow(reply)["status"] == "INVALID_ARGUMENT"


def test_no_body_names_no_buyer(counter: Counter) -> None:
    reply = counter.post(content=b"", headers={"content-type": "application/json"})
    refused(reply, 403, "PERMISSION_DENIED", "NOT_ALLOWED")


WRONG_TYPES: dict[str, list[Any]] = {
    "lines": ["one mug", 1, {"productId": "x"}, [1], ["x"], [None]],
    "userId": [1, [], {}, True],
    "waitUntilSettled": ["yes", 1, []],
    "expectedTotal": ["9 dollars", 9, []],
    "noSuchField": [1],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG_TYPES.items() for value in values]
)
def test_a_field_that_is_not_what_it_should_be(counter: Counter, field: str, value: Any) -> None:
    assert refused_somehow(counter.post(json=counter.order(**{field: value})))["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("path", ["orders/42", "orders/42/events", "products/-", "users/me", "payments/%00"])
def test_an_id_of_the_wrong_shape(counter: Counter, path: str) -> None:
    reply = counter.shopper.http.get(f"/api/v1/{path}", auth=counter.shopper.staff.helper)
    refused(reply, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")


@pytest.mark.parametrize("path", ["orders", "products", "users"])
@pytest.mark.parametrize("token", ["made-up", "AAAA", "%F0%9F%98%80", "a" * 1000])
def test_a_page_token_that_nobody_gave_out(counter: Counter, path: str, token: str) -> None:
    reply = counter.shopper.http.get(
        f"/api/v1/{path}", params={"pageToken": token}, auth=counter.shopper.staff.helper
    )
    refused(reply, 400, "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")


def test_a_page_token_of_another_search(counter: Counter) -> None:
    for name in ("Cup", "Bowl"):
        counter.shopper.product(name, cents=100, on_hand=0)
    page = counter.shopper.ask("GET", "/api/v1/products?pageSize=1")
    query = {"pageSize": "1", "pageToken": page["nextPageToken"], "query": "cup"}
    reply = counter.shopper.http.get("/api/v1/products", params=query)
    refused(reply, 400, "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("key", ["k" * 256, "tab\there", ""])
def test_an_idempotency_key_that_cannot_be_one(counter: Counter, key: str) -> None:
    reply = counter.post(json=counter.order(), headers={"Idempotency-Key": key})
    assert refused_somehow(reply)["status"] == "INVALID_ARGUMENT"


def test_a_path_that_leads_nowhere(counter: Counter) -> None:
    assert refused_somehow(counter.shopper.http.get("/api/v1/nowhere"))["code"] == 404


def test_a_method_that_a_path_does_not_know(counter: Counter) -> None:
    assert refused_somehow(counter.shopper.http.delete("/api/v1/products"))["code"] == 405


def refused_somehow(reply: httpx.Response) -> Any:
    """The error of a refusal with whatever reason it has."""
    (info,) = _of_type(reply.json()["error"], "ErrorInfo")
    error = reply.json()["error"]
    return refused(reply, error["code"], error["status"], info["reason"])
