"""Someone who does in a shop whatever comes to mind, by seed."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from services.cli.signed_in import SignedIn
from services.cli.staff import Staff
from tests.soak.customer import Complaint, Customer, Json, Refusal
from tests.soak.promises import CARDS, Promise, Promises

THINK_S: Final = 0.4  # on average between two deeds: what bounds the load
LINES_MAX: Final = 3
PIECES_MAX: Final = 4
ON_HAND_MAX: Final = 400

# Whatever may be refused, by what comes to mind. Anything else is a complaint.
_NOT_REFUNDABLE: Final = frozenset({"ORDER_NOT_REFUNDABLE", "REFUND_EXCEEDS_ORDER"})
EXPECTED: Final[dict[str, frozenset[str]]] = {
    "cancel": frozenset({"ORDER_NOT_CANCELLABLE"}),
    "ship": frozenset({"ORDER_NOT_SHIPPABLE"}),
    "deliver": frozenset({"ORDER_NOT_DELIVERABLE"}),
    "refund": _NOT_REFUNDABLE,
    "refund all": _NOT_REFUNDABLE,
    "count stock": frozenset({"STOCK_BELOW_RESERVED"}),
    "take stock": frozenset({"STOCK_BELOW_RESERVED", "OUT_OF_STOCK"}),
}


@dataclass(frozen=True, slots=True)
class Buyer:
    """Someone with a card."""

    user_id: str
    method_id: str
    signed_in: SignedIn


@dataclass(slots=True)
class Premises:
    """What there is to be shopped with."""

    products: list[str]
    warehouses: list[str]
    """Ids; empty: the default one."""

    buyers: dict[str, Buyer]
    """By kind of card."""

    staff: Staff


@dataclass(slots=True)
class Tally:
    """What was done, and what came of it."""

    deeds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


class Shopper:
    """One of several, each with a mind of its own."""

    def __init__(
        self,
        customer: Customer,
        premises: Premises,
        promises: Promises,
        tally: Tally,
        *,
        random: Random,
        stop: asyncio.Event,
    ) -> None:
        self._customer = customer
        self._premises = premises
        self._promises = promises
        self._tally = tally
        self._random = random
        self._stop = stop
        self._deeds: dict[str, tuple[int, Callable[[], Awaitable[object]]]] = {
            "buy": (40, self._buy),
            "buy twice with one key": (5, self._buy_twice),
            "cancel": (12, self._cancel),
            "ship": (12, self._ship),
            "deliver": (6, self._deliver),
            "refund": (10, self._refund),
            "refund all": (3, self._refund_all),
            "count stock": (4, self._count_stock),
            "take stock": (4, self._take_stock),
            "price": (2, self._price),
            "look": (10, self._look),
        }

    async def shop(self, until: float) -> None:
        """Does one thing after the other until that second of `time.monotonic()`, or told to stop.

        Ends what it has begun.
        """
        names = list(self._deeds)
        weights = [weight for weight, _ in self._deeds.values()]
        while time.monotonic() < until and not self._stop.is_set():
            [name] = self._random.choices(names, weights)
            await self._do(name)
            await asyncio.sleep(self._random.uniform(0, 2 * THINK_S))

    async def _do(self, name: str) -> None:
        try:
            await self._deeds[name][1]()
        except Refusal as refusal:
            reason = str(refusal)
            self._tally.refusals[reason] += 1
            if reason not in EXPECTED.get(name, ()):
                self._tally.complaints.append(f"{name}: refused, {reason}")
        except Complaint as complaint:
            self._tally.complaints.append(f"{name}: {complaint}")
        self._tally.deeds[name] += 1

    async def _buy(self) -> None:
        body, promise = self._wish()
        await self._order(body, promise, str(uuid.UUID(int=self._random.getrandbits(128), version=4)))

    async def _buy_twice(self) -> None:
        body, promise = self._wish()
        key = str(uuid.uuid4())
        one, other = await asyncio.gather(
            self._order(body, promise, key), self._order(body, promise, key), return_exceptions=True
        )
        for failed in (one, other):
            if isinstance(failed, BaseException):
                raise failed
        if one != other:
            raise Complaint(f"one key, two orders: {one} and {other}")

    async def _order(self, body: Json, promise: Promise, key: str) -> str:
        order = await self._customer.ask("POST", "/orders", body, key=key, by=self._buyer(promise))
        order_id = str(order["orderId"])
        self._promises.add(Promise(order_id, promise.card, promise.pieces))
        return order_id

    def _wish(self) -> tuple[Json, Promise]:
        card = self._random.choices(CARDS, [8, 2, 2, *[1] * (len(CARDS) - 3)])[0]
        buyer = self._premises.buyers[card]
        products = self._random.sample(self._premises.products, self._random.randint(1, LINES_MAX))
        pieces = {product: self._random.randint(1, PIECES_MAX) for product in products}
        body = {
            "userId": buyer.user_id,
            "paymentMethodId": buyer.method_id,
            "currency": "USD",
            "lines": [{"productId": product, "quantity": str(count)} for product, count in pieces.items()],
            "waitUntilSettled": self._random.random() < 0.5,
        }
        return body, Promise("", card, pieces)

    async def _cancel(self) -> None:
        if promise := self._some_order():
            await self._customer.ask(
                "POST",
                f"/orders/{promise.order_id}:cancel",
                {"reason": "soak"},
                by=self._buyer(promise),
            )
            promise.is_cancelled = True

    async def _ship(self) -> None:
        if promise := self._some_order():
            body = {"state": "STATE_SHIPPED", "trackingReference": "parcel"}
            await self._keeper("PUT", f"/orders/{promise.order_id}/status", body)
            promise.is_shipped = True

    async def _deliver(self) -> None:
        if promise := self._some_order():
            await self._keeper("PUT", f"/orders/{promise.order_id}/status", {"state": "STATE_DELIVERED"})

    async def _refund(self) -> None:
        if promise := self._some_order():
            product, bought = self._random.choice(sorted(promise.pieces.items()))
            await self._give_back(promise, {product: self._random.randint(1, bought)})

    async def _refund_all(self) -> None:
        if promise := self._some_order():
            await self._give_back(promise, {})

    async def _give_back(self, promise: Promise, pieces: dict[str, int]) -> None:
        body = {
            "lines": [{"productId": product, "quantity": str(count)} for product, count in pieces.items()],
            "returnStock": self._random.random() < 0.5,
            "reason": "soak",
        }
        order = await self._customer.ask(
            "POST", f"/orders/{promise.order_id}:refund", body, by=self._premises.staff.helper
        )
        if order["state"] in ("STATE_CANCELLING", "STATE_CANCELLED"):
            promise.is_cancelled = True  # all that was left of an order that was not shipped
        elif pieces:
            promise.refunded.update(pieces)
        else:
            promise.is_refunded_whole = True

    async def _count_stock(self) -> None:
        body = {"onHand": str(self._random.randint(0, ON_HAND_MAX)), **self._somewhere()}
        await self._keeper("PUT", f"/products/{self._some_product()}/stock", body)

    async def _take_stock(self) -> None:
        delta = self._random.choice([-1, 1]) * self._random.randint(1, 50)
        body = {"delta": str(delta), "reason": "soak", **self._somewhere()}
        await self._keeper("POST", f"/products/{self._some_product()}/stock:adjust", body)

    async def _price(self) -> None:
        price = {"currencyCode": "USD", "units": str(self._random.randint(0, 99)), "nanos": 990_000_000}
        await self._keeper("PUT", f"/products/{self._some_product()}/price", {"price": price})

    async def _look(self) -> None:
        if promise := self._some_order():
            part = self._random.choice(["", "/events", "/details"])
            await self._customer.ask("GET", f"/orders/{promise.order_id}{part}", by=self._buyer(promise))

    async def _keeper(self, verb: str, path: str, body: Json) -> None:
        """What the warehouse does."""
        await self._customer.ask(verb, path, body, by=self._premises.staff.keeper)

    def _buyer(self, promise: Promise) -> SignedIn:
        return self._premises.buyers[promise.card].signed_in

    def _some_order(self) -> Promise | None:
        recent = self._promises.recent
        return recent[self._random.randrange(len(recent))] if recent else None

    def _some_product(self) -> str:
        return self._random.choice(self._premises.products)

    def _somewhere(self) -> Json:
        warehouse = self._random.choice(self._premises.warehouses)
        return {"warehouseId": warehouse} if warehouse else {}
