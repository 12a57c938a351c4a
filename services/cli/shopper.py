"""Someone who shops over REST, for `bodega demo` and for tests that need a buyer with a card.

Buyers do what is theirs to do, staff the rest: each asks with a token of their own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from services.cli.edge import Edge, Json, new_id
from services.cli.endpoints import Endpoints
from services.cli.signed_in import SignedIn
from services.cli.staff import Staff, hired
from services.cli.surprise import Surprise

SETTLE_MAX_S: Final = 60.0  # an order whose neighbours were away takes as long as they did

APPROVES: Final = "tok_approve"
DECLINES: Final = "tok_decline"
"""Tokens of the sandbox provider."""

CURRENCY: Final = "USD"
_UNDER_WAY: Final = ("STATE_PENDING", "STATE_REJECTING", "STATE_CANCELLING")


class Shopper(Edge):
    """A visitor of a running shop, and those who run it. Asks as the latest buyer unless told otherwise."""

    def __init__(self, shop: Endpoints, *, staff: Staff | None = None) -> None:
        """Without staff new ones are hired. Raises Refused, and Surprise."""
        super().__init__(shop.gateway)
        self.staff = staff or hired(shop)
        self.signed_in: SignedIn
        """The latest buyer."""

    def buyer(self, display_name: str = "Ada", password: str | None = None) -> Json:
        """A new account that may buy, signed in; nobody else knows its password unless one is given."""
        user, signed_in = self.register(display_name, password)
        user = self.ask("POST", f"/api/v1/users/{user['userId']}:activate", body={}, by=self.staff.manager)
        self.sign_in(signed_in)
        return user

    def sign_in(self, buyer: SignedIn) -> None:
        """What is asked from now on is asked by them."""
        self.signed_in = self.http.auth = buyer

    def payment_method(self, user_id: str, provider_token: str = APPROVES) -> Json:
        path = f"/api/v1/users/{user_id}/payment-methods"
        return self.ask("POST", path, body={"providerToken": provider_token})

    def product(self, name: str, *, cents: int, on_hand: int) -> Json:
        """A new product and how many of it there are."""
        price = {"currencyCode": CURRENCY, "units": str(cents // 100), "nanos": cents % 100 * 10_000_000}
        sku = f"{name.split(' ', maxsplit=1)[0].lower()}-{new_id()[:13]}"
        product = self.ask(
            "POST", "/api/v1/products", body={"sku": sku, "name": name, "price": price}, by=self.staff.keeper
        )
        self.set_stock(product["productId"], on_hand)
        return product

    def set_stock(self, product_id: str, on_hand: int) -> Json:
        return self.ask(
            "PUT", f"/api/v1/products/{product_id}/stock", body={"onHand": str(on_hand)}, by=self.staff.keeper
        )

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
        return self.ask("PUT", f"/api/v1/orders/{order_id}/status", body=body, by=self.staff.keeper)

    def deliver(self, order_id: str) -> Json:
        return self.ask(
            "PUT",
            f"/api/v1/orders/{order_id}/status",
            body={"state": "STATE_DELIVERED"},
            by=self.staff.keeper,
        )

    def refund(self, order_id: str, lines: dict[str, int], *, return_stock: bool, reason: str) -> Json:
        """The order as it is once the price of these pieces was given back."""
        body = {"lines": _lines(lines), "returnStock": return_stock, "reason": reason}
        asked = self.ask("POST", f"/api/v1/orders/{order_id}:refund", body=body, by=self.staff.helper)

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
