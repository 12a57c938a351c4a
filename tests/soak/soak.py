"""A shop that is shopped in at random while its programs die, and then looked at: does everything hold?

In rounds. Each ends with the shop left in peace until it has settled, and with every invariant of `bodega
verify` and everything that customers were told checked against the books.
"""

import asyncio
import contextlib
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from services.chassis import audit
from services.chassis.policy.backoff import Backoff
from services.cli import verify
from services.cli.audit import reading
from services.cli.data_folder import sqlite_url, write_whole
from services.cli.refusal import Refused
from services.cli.restarts import RestartPolicy
from services.cli.shop import Shop
from services.cli.signed_in import SignedIn
from services.cli.staff import Staff, hired
from services.order.flags import CAPTURE
from tests.soak import promises
from tests.soak.customer import Customer
from tests.soak.promises import CARDS, Promises
from tests.soak.report import Report
from tests.soak.shopper import Buyer, Premises, Shopper, Tally
from tests.soak.weather import Weather

PRODUCTS: Final = 12
WAREHOUSES: Final = ("north", "south")  # besides the one that every shop has
FIRST_ON_HAND: Final = 200
SETTLE_MAX_S: Final = 180.0  # a step is given up after a minute, and then everything is undone
LOOK_EVERY_S: Final = 0.5
TELL_EVERY_S: Final = 1.0

_RESTARTS: Final = RestartPolicy(Backoff(first_s=0.2, max_s=2.0), healthy_after_s=5.0)

# Every second order is paid when it ships. Whatever is bought before that is heeded is not.
BOTH_CAPTURES: Final = json.dumps(
    {
        "flags": {
            CAPTURE.name: {
                "state": "ENABLED",
                "variants": CAPTURE.variants,
                "defaultVariant": CAPTURE.default,
                "targeting": {"fractional": [{"var": "order_id"}, *([name, 1] for name in CAPTURE.variants)]},
            }
        }
    }
)

Tell = Callable[[str], None]
"""Takes a line for people."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What kind of soak it shall be."""

    seconds: float
    seed: int
    shoppers: int = 8
    blow_every_s: float = 10.0
    verify_every_s: float = 120.0
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Further variables for programs, by name."""


class Soak:
    """One soak, in a folder of its own."""

    def __init__(
        self, folder: Path, wish: Wish, *, progress: Tell = lambda _: None, tell: Tell = lambda _: None
    ) -> None:
        self.report = Report(wish.seed, wish.shoppers)
        self._wish = wish
        self._progress = progress
        self._tell = tell
        self._folder = folder
        self._promises = Promises()
        self._tally = Tally()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ends the shopping soon; what was begun is still ended and checked."""
        self._stop.set()

    async def run(self) -> Report:
        """The report of it all. Raises services.cli.refusal.Refused if the shop cannot be started."""
        shopping = Shop(self._folder, restarts=_RESTARTS, environment=self._wish.environment)
        async with shopping as shop, _customer(shop) as customer:
            write_whole(shop.folder.flags, BOTH_CAPTURES.encode())
            weather = Weather(shop, self._random("weather"), every_s=self._wish.blow_every_s)
            premises = await _furnished(customer, await asyncio.to_thread(hired, shop.endpoints))
            began = time.monotonic()
            minds = [self._random(f"shopper {number}") for number in range(self._wish.shoppers)]
            shoppers = [
                Shopper(customer, premises, self._promises, self._tally, random=mind, stop=self._stop)
                for mind in minds
            ]
            for number in itertools.count(1):
                ends = min(began + self._wish.seconds, time.monotonic() + self._wish.verify_every_s)
                await self._round(number, shoppers, weather, ends, began)
                await self._check(shop)
                last = self._stop.is_set() or time.monotonic() >= began + self._wish.seconds
                self._note(customer, weather, time.monotonic() - began)
                self._tell(f"round {number}: {self.report.figures}: {self.report.verdict}")
                if last or not self.report.holds:
                    return self.report
        raise AssertionError("rounds end by themselves")

    def _random(self, whose: str) -> Random:
        return Random(f"{self._wish.seed} {whose}")  # noqa: S311 (to be repeated, not to be unguessable)

    async def _round(
        self, number: int, shoppers: list[Shopper], weather: Weather, ends: float, began: float
    ) -> None:
        raging = asyncio.create_task(weather.rage())
        shopping = asyncio.create_task(_shopped(shoppers, ends))
        try:
            while not shopping.done():
                await asyncio.wait({shopping}, timeout=TELL_EVERY_S)
                if raging.done():
                    break  # it never ends by itself
                if time.monotonic() > ends:
                    raging.cancel()
                    break
                self._progress(
                    f"round {number}, {time.monotonic() - began:.0f} of {self._wish.seconds:.0f} s: "
                    f"{len(self._promises.by_order):,} orders, {weather.blows.total():,} blows, "
                    f"{len(self._tally.complaints)} complaints"
                )
        finally:
            raging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await raging
            await shopping

    async def _check(self, shop: Shop) -> None:
        """Waits until nothing moves any more, or too long, and notes whatever does not hold then."""
        began = time.monotonic()
        await shop.wait_ready()
        while True:
            self._progress("verifying")
            found = await asyncio.to_thread(self._found, shop)
            if not found or time.monotonic() > began + SETTLE_MAX_S:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        self.report.verifications += 1
        self.report.slowest_settling_s = max(self.report.slowest_settling_s, time.monotonic() - began)
        self.report.violations = [*self._tally.complaints, *found]

    def _found(self, shop: Shop) -> list[str]:
        with audit.reading(sqlite_url(shop.folder.databases["order"])) as books:
            ended = promises.ended(books)
        self.report.orders.clear()
        self.report.orders.update(str(order.state) for order in ended.values())
        broken = self._promises.broken(ended)
        if broken:
            return broken  # what is under way first: only then is it worth asking for all the rest
        try:
            verdicts = reading.verify(verify.places(shop.folder), wait=lambda: None)
        except Refused as refused:  # the broker is on its way
            return [str(refused)]
        self.report.invariants = {
            verdict.name: verdict.finding.figures for verdict in verdicts if verdict.finding
        }
        skipped = [f"{verdict.name}: skipped, {verdict.skipped}" for verdict in verdicts if verdict.skipped]
        return skipped + [
            f"{verdict.name}: {example}"
            for verdict in verdicts
            if verdict.finding and not verdict.finding.holds
            for example in verdict.finding.examples
        ]

    def _note(self, customer: Customer, weather: Weather, seconds: float) -> None:
        self.report.seconds = seconds
        self.report.deeds, self.report.refusals = self._tally.deeds, self._tally.refusals
        self.report.answers, self.report.blows = customer.answers, weather.blows


async def _shopped(shoppers: list[Shopper], ends: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        for shopper in shoppers:
            tasks.create_task(shopper.shop(ends))


@asynccontextmanager
async def _customer(shop: Shop) -> AsyncIterator[Customer]:
    customer = Customer(shop.endpoints.gateway)
    try:
        yield customer
    finally:
        await customer.close()


async def _furnished(customer: Customer, staff: Staff) -> Premises:
    warehouses = [""]
    for name in WAREHOUSES:
        made = await customer.ask("POST", "/warehouses", {"name": name}, by=staff.keeper)
        warehouses.append(str(made["warehouseId"]))
    products = [await _product(customer, staff, number, warehouses) for number in range(PRODUCTS)]
    buyers = {card: await _buyer(customer, staff, card) for card in CARDS}
    return Premises(products, warehouses, buyers, staff)


async def _product(customer: Customer, staff: Staff, number: int, warehouses: list[str]) -> str:
    price = {"currencyCode": "USD", "units": str(number + 1), "nanos": 950_000_000}
    body = {"sku": f"SOAK-{number}", "name": f"Thing {number}", "price": price}
    product = str((await customer.ask("POST", "/products", body, by=staff.keeper))["productId"])
    for warehouse in warehouses:
        stock = {"onHand": str(FIRST_ON_HAND), **({"warehouseId": warehouse} if warehouse else {})}
        await customer.ask("PUT", f"/products/{product}/stock", stock, by=staff.keeper)
    return product


async def _buyer(customer: Customer, staff: Staff, card: str) -> Buyer:
    name, password = f"buyer-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    signed_in = SignedIn(f"{name}@example.com", password)
    body = {"email": f"{name}@example.com", "username": name, "password": password}
    user = str((await customer.ask("POST", "/users", body))["userId"])
    await customer.ask("POST", f"/users/{user}:activate", {}, by=staff.manager)
    path, body = f"/users/{user}/payment-methods", {"providerToken": f"tok_{card}"}
    method = await customer.ask("POST", path, body, by=signed_in)
    return Buyer(user, str(method["paymentMethodId"]), signed_in)
