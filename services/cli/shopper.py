"""Someone who shops over REST: a small client for `bodega demo`, and for tests that need a buyer with a card.

What it sends is what a browser would send; what it returns is the JSON it got.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import httpx

Json = dict[str, Any]

ANSWER_MAX_S: Final = 15.0  # longer than any deadline in the contracts
SETTLE_MAX_S: Final = 60.0  # an order whose neighbours were away takes as long as they did
ASK_EVERY_S: Final = 0.1

APPROVES: Final = "tok_approve"
DECLINES: Final = "tok_decline"
"""Tokens of the sandbox provider."""

CURRENCY: Final = "USD"
_UNDER_WAY: Final = ("STATE_PENDING", "STATE_REJECTING", "STATE_CANCELLING")


class Surprise(Exception):
    """The shop did not do as it promises; the message says in one line what it did."""


def new_id() -> str:
    """For Idempotency-Key, and to make names that nobody else has."""
    return str(uuid.uuid4())


class Shopper:
    """A connection to the REST edge."""

    def __init__(self, gateway: str) -> None:
        self.http = httpx.Client(base_url=gateway, timeout=ANSWER_MAX_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def ask(self, method: str, path: str, *, body: Json | None = None, key: str | None = None) -> Json:
        """The answer to a request that should succeed. Raises Surprise if it does not."""
        headers = {"Idempotency-Key": key or new_id()} if method != "GET" else {}
        try:
            reply = self.http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Surprise(f"{method} {path}: no answer ({type(error).__name__})") from None
        if reply.is_error:
            raise Surprise(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        found: Json = reply.json() if reply.content else {}
        return found

    def buyer(self, display_name: str = "Ada", password: str | None = None) -> Json:
        """A new account that may buy; nobody knows its password unless one is given."""
        name = f"{display_name.lower()}-{new_id()[:13]}"
        account = {
            "email": f"{name}@example.com",
            "username": name,
            "password": password or new_id(),
            "profile": {"displayName": display_name},
        }
        user = self.ask("POST", "/api/v1/users", body=account)
        return self.ask("POST", f"/api/v1/users/{user['userId']}:activate", body={})

    def payment_method(self, user_id: str, provider_token: str = APPROVES) -> Json:
        path = f"/api/v1/users/{user_id}/payment-methods"
        return self.ask("POST", path, body={"providerToken": provider_token})

    def product(self, name: str, *, cents: int, on_hand: int) -> Json:
        """A new product and how many of it there are."""
        price = {"currencyCode": CURRENCY, "units": str(cents // 100), "nanos": cents % 100 * 10_000_000}
        sku = f"{name.split(' ', maxsplit=1)[0].lower()}-{new_id()[:13]}"
        product = self.ask("POST", "/api/v1/products", body={"sku": sku, "name": name, "price": price})
        self.set_stock(product["productId"], on_hand)
        return product

    def set_stock(self, product_id: str, on_hand: int) -> Json:
        return self.ask("PUT", f"/api/v1/products/{product_id}/stock", body={"onHand": str(on_hand)})

    def available(self, product_id: str) -> int:
        found = self.ask("GET", f"/api/v1/products/{product_id}/availability")
        return int(found.get("availableQuantity", 0))

    def order(
        self, user_id: str, payment_method_id: str, lines: dict[str, int], *, key: str | None = None
    ) -> Json:
        """An order as it is once it is settled; `lines` has quantities by product."""
        placed = self.ask("POST", "/api/v1/orders", body=order(user_id, payment_method_id, lines), key=key)
        return self.settled(placed["orderId"])

    def cancel(self, order_id: str, reason: str) -> Json:
        """The order as it is once everything was given back."""
        self.ask("POST", f"/api/v1/orders/{order_id}:cancel", body={"reason": reason})
        return self.settled(order_id)

    def ship(self, order_id: str, tracking_reference: str) -> Json:
        body = {"state": "STATE_SHIPPED", "trackingReference": tracking_reference}
        return self.ask("PUT", f"/api/v1/orders/{order_id}/status", body=body)

    def deliver(self, order_id: str) -> Json:
        return self.ask("PUT", f"/api/v1/orders/{order_id}/status", body={"state": "STATE_DELIVERED"})

    def refund(self, order_id: str, lines: dict[str, int], *, return_stock: bool, reason: str) -> Json:
        """The order as it is once the price of these pieces was given back."""
        body = {"lines": _lines(lines), "returnStock": return_stock, "reason": reason}
        asked = self.ask("POST", f"/api/v1/orders/{order_id}:refund", body=body)

        def refunds_done(events: list[Json]) -> bool:
            return sum("refunded" in event for event in events) == sum(
                "refundRequested" in event for event in events
            )

        self.eventually(
            lambda: self.timeline(order_id), refunds_done, f"order {order_id} is refunded", SETTLE_MAX_S
        )
        return self.ask("GET", f"/api/v1/orders/{asked['orderId']}")

    @contextmanager
    def watch(self, order_id: str, *, after_version: int = 0) -> Iterator[Iterator[Json]]:
        """Everything that happens to an order behind a version, as it happens (server-sent events).

        Leaving the block ends the stream. Iterating raises Surprise if the shop ends it or falls silent.
        """
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after_version)}
        path = f"/api/v1/orders/{order_id}:watch"
        try:
            with self.http.stream("GET", path, headers=headers, timeout=SETTLE_MAX_S) as reply:
                if reply.is_error:
                    raise Surprise(f"GET {path}: {reply.status_code}")
                yield _server_sent(reply.iter_lines(), path)
        except httpx.HTTPError as error:
            raise Surprise(f"GET {path}: the stream broke ({type(error).__name__})") from None

    def settled(self, order_id: str) -> Json:
        found: Json = self.eventually(
            lambda: self.ask("GET", f"/api/v1/orders/{order_id}"),
            lambda found: found["state"] not in _UNDER_WAY,
            f"order {order_id} is settled",
            SETTLE_MAX_S,
        )
        return found

    def timeline(self, order_id: str) -> list[Json]:
        """Everything that happened to an order, oldest first."""
        found: list[Json] = self.ask("GET", f"/api/v1/orders/{order_id}/events?pageSize=200")["events"]
        return found

    def payment(self, payment_id: str) -> Json:
        return self.ask("GET", f"/api/v1/payments/{payment_id}")

    def notifications(self, user_id: str) -> list[Json]:
        found = self.ask("GET", f"/api/v1/users/{user_id}/notifications?pageSize=200")
        return list(found.get("notifications", []))

    def eventually(
        self, ask: Callable[[], Any], enough: Callable[[Any], bool], what: str, within_s: float
    ) -> Any:
        """Asks until the answer is enough. Raises Surprise if it is not in time."""
        give_up = time.monotonic() + within_s
        while not enough(answer := ask()):
            if time.monotonic() > give_up:
                raise Surprise(f"not within {within_s:g} s: {what}")
            time.sleep(ASK_EVERY_S)
        return answer


def order(user_id: str, payment_method_id: str, lines: dict[str, int], *, wait: bool = True) -> Json:
    """The body of a `POST /api/v1/orders`."""
    return {
        "userId": user_id,
        "paymentMethodId": payment_method_id,
        "currency": CURRENCY,
        "lines": _lines(lines),
        "waitUntilSettled": wait,
    }


def _lines(quantities: dict[str, int]) -> list[Json]:
    return [{"productId": product, "quantity": str(quantity)} for product, quantity in quantities.items()]


def _server_sent(lines: Iterator[str], path: str) -> Iterator[Json]:
    """The messages of a stream; its comments and hints are for browsers."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
            continue
        if "event" in event:
            raise Surprise(f"GET {path}: {event['event']} {event.get('data', '')}")
        if "data" in event:
            message: Json = json.loads(event["data"])
            if event.get("id") != message["version"]:
                raise Surprise(f"GET {path}: event {event.get('id')} is version {message['version']}")
            yield message
        event = {}
