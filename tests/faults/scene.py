"""A shop of real processes for tests that kill them: patient customers, and deaths by appointment."""

import asyncio
import itertools
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx

from services.chassis import failpoints
from services.chassis.policy.backoff import Backoff
from services.cli.data_folder import SERVICES, write_whole
from services.cli.restarts import RestartPolicy
from services.cli.shop import Shop
from services.cli.signed_in import SignedIn
from services.cli.staff import Staff, hired
from services.order.flags import CAPTURE
from tests.cheap_passwords import CHEAP_PASSWORDS
from tests.faults import books

WAIT_S: Final = 45.0  # for what takes a second or two on a machine that has nothing else to do
ASK_AGAIN_S: Final = 0.1
PRICE_UNITS: Final = 10
SETTLED: Final = frozenset({"STATE_CONFIRMED", "STATE_REJECTED", "STATE_CANCELLED"})
CARDS: Final = ("approve", "decline", "slow", "lost_reply", "capture_refused")

# What a customer's program tries again with the same key. INTERNAL is not among it: nothing here is a bug.
NOT_NOW: Final = frozenset({"ABORTED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})

Json = dict[str, Any]

QUICK: Final[Mapping[str, str]] = {
    # A participant that restarts is found again within a second; waiting longer would only make tests slow.
    "BODEGA_ORDER__BACKOFF_BASE_S": "0.02",
    "BODEGA_ORDER__BACKOFF_MAX_S": "0.2",
    "BODEGA_PAYMENT__SANDBOX_SLOW_S": "0.3",
}


@dataclass
class Buyer:
    """Someone with a card of each kind."""

    user_id: str
    signed_in: SignedIn
    methods: dict[str, str]


@dataclass
class Scene:
    """One running shop, and people who use it."""

    shop: Shop
    home: Path
    http: httpx.AsyncClient = field(init=False)
    staff: Staff = field(init=False)
    signed_in: SignedIn = field(init=False)
    """The buyer."""

    user_id: str = ""
    methods: dict[str, str] = field(default_factory=dict)
    product_id: str = ""
    later: "Buyer | None" = None
    """Who pays when the parcel leaves; there once somebody asked for them."""

    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @classmethod
    async def opened(cls, home: Path) -> Self:
        """A new shop with one buyer, a card of each kind and one product of which there is plenty."""
        scene = cls(shop_in(home), home)
        try:
            await scene.open()
            await scene.furnish()
        except BaseException:
            await scene.close()
            raise
        return scene

    async def open(self) -> None:
        await self.shop.start()
        self.http = httpx.AsyncClient(base_url=f"{self.shop.endpoints.gateway}/api/v1", timeout=15.0)

    async def close(self) -> None:
        if hasattr(self, "http"):
            await self.http.aclose()
        await self.shop.stop()

    async def furnish(self) -> None:
        self.staff = await asyncio.to_thread(hired, self.shop.endpoints)
        self.user_id, self.signed_in = await self.user()
        for card in CARDS:
            self.methods[card] = await self.card(card)
        self.product_id = await self.product(stock=100_000)

    # What people do

    async def user(self) -> tuple[str, SignedIn]:
        """A new account that may buy: its id, and its owner."""
        number = next(self._numbers)
        name = f"buyer-{number}-{uuid.uuid4().hex[:8]}"
        email, password = f"{name}@example.com", "correct horse battery"
        user = await self.ask("POST", "/users", {"email": email, "username": name, "password": password})
        await self.ask("POST", f"/users/{user['userId']}:activate", {}, by=self.staff.manager)
        return str(user["userId"]), SignedIn(email, password)

    async def card(self, kind: str) -> str:
        body = {"providerToken": f"tok_{kind}"}
        method = await self.ask("POST", f"/users/{self.user_id}/payment-methods", body)
        return str(method["paymentMethodId"])

    async def product(self, *, stock: int) -> str:
        sku = f"SKU-{next(self._numbers)}-{uuid.uuid4().hex[:8]}"
        price = {"currencyCode": "USD", "units": str(PRICE_UNITS)}
        body = {"sku": sku, "name": "A thing", "price": price}
        product = await self.ask("POST", "/products", body, by=self.staff.keeper)
        product_id = str(product["productId"])
        body = {"onHand": str(stock)}
        await self.ask("PUT", f"/products/{product_id}/stock", body, by=self.staff.keeper)
        return product_id

    async def buy(
        self, *, card: str = "approve", product_id: str = "", key: str = "", within_s: float = WAIT_S
    ) -> Json:
        """Orders, and asks again with the same key until the order is settled; that order."""
        key = key or str(uuid.uuid4())
        body = self.order_body(card=card, product_id=product_id, wait=True)
        async with asyncio.timeout(within_s):
            while True:
                order = await self.ask("POST", "/orders", body, key=key)
                if order["state"] in SETTLED:
                    break
        again = await self.ask("POST", "/orders", body, key=key)
        assert again["orderId"] == order["orderId"], "the same key gave another order"
        return order

    async def begin(self, *, card: str = "approve", key: str = "") -> str:
        """Orders and does not wait; the order's id."""
        order = await self.ask("POST", "/orders", self.order_body(card=card, wait=False), key=key)
        return str(order["orderId"])

    def order_body(self, *, card: str = "approve", product_id: str = "", wait: bool) -> Json:
        return {
            "userId": self.user_id,
            "paymentMethodId": self.methods[card],
            "currency": "USD",
            "lines": [{"productId": product_id or self.product_id, "quantity": "1"}],
            "waitUntilSettled": wait,
        }

    async def call_off(self, order_id: str) -> Json:
        """With the same key until that is answered; the order as it then stands."""
        return await self.ask("POST", f"/orders/{order_id}:cancel", {"reason": "changed my mind"})

    async def cancel(self, order_id: str) -> Json:
        """The same; the order once it is settled."""
        await self.call_off(order_id)
        return await self.settled(order_id)

    async def ship(self, order_id: str) -> Json:
        """With the same key until that is answered; the order as it then stands, or {} if it never ships."""
        return await self.ask(
            "PUT",
            f"/orders/{order_id}/status",
            {"state": "STATE_SHIPPED"},
            by=self.staff.keeper,
            unless="ORDER_NOT_SHIPPABLE",
        )

    @asynccontextmanager
    async def paying_later(self) -> AsyncIterator[None]:
        """Inside, it is another one who buys, and pays when the parcel leaves."""
        first = Buyer(self.user_id, self.signed_in, self.methods)
        try:
            if self.later is None:
                self.later = await self._who_pays_later()
            self._be(self.later)
            yield
        finally:
            self._be(first)

    def _be(self, buyer: Buyer) -> None:
        self.user_id, self.signed_in, self.methods = buyer.user_id, buyer.signed_in, buyer.methods

    async def _who_pays_later(self) -> Buyer:
        """Another buyer, by a rule in the flags of the shop; waits until that is heeded."""
        self.user_id, self.signed_in = await self.user()
        self.methods = {card: await self.card(card) for card in CARDS}
        flags = json.loads(self.shop.folder.flags.read_text())
        is_later = {"==": [{"var": "targetingKey"}, self.user_id]}
        flags["flags"][CAPTURE.name]["targeting"] = {"if": [is_later, "shipment", "confirm"]}
        write_whole(self.shop.folder.flags, json.dumps(flags).encode())

        async def bought() -> Json:
            return await self.order(await self.begin())

        await self.until(bought, lambda order: order["capture"] == "CAPTURE_ON_SHIPMENT")
        return Buyer(self.user_id, self.signed_in, self.methods)

    async def settled(self, order_id: str) -> Json:
        """The order, once nothing is under way for it."""
        order: Json = await self.until(lambda: self.order(order_id), lambda seen: seen["state"] in SETTLED)
        return order

    async def order(self, order_id: str) -> Json:
        return await self.ask("GET", f"/orders/{order_id}")

    async def orders(self) -> set[str]:
        """Every order there is, as the database has it."""
        return await books.orders(self.shop)

    def orders_since(self, before: set[str]) -> Callable[[], Awaitable[set[str]]]:
        async def new() -> set[str]:
            return await self.orders() - before

        return new

    async def attempts(self, order_id: str) -> int:
        """How often the order's next step was tried in vain."""
        return await books.attempts(self.shop, order_id)

    async def done_at_provider(self, order: Json) -> list[str]:
        return await books.done_at_provider(self.shop, order["orderId"])

    # What must have come of it

    async def assert_paid(self, order: Json) -> None:
        """Confirmed, charged once, told once."""
        assert order["state"] == "STATE_CONFIRMED", order
        assert await self.done_at_provider(order) == ["AUTHORIZE", "CAPTURE"]
        await self.assert_told(order, ["Order confirmed"])

    async def assert_given_back(self, order: Json, done: list[str]) -> None:
        """Cancelled; the money went this way and is back; told once."""
        assert order["state"] == "STATE_CANCELLED", order
        assert await self.done_at_provider(order) == done
        titles = ["Order cancelled"]
        if "CAPTURE" in done:
            titles += ["Order confirmed", "Payment refunded"]
        await self.assert_told(order, titles)

    async def assert_held(self, order: Json) -> None:
        """Confirmed, and not charged yet; told once."""
        assert (order["state"], order.get("capturedTotal")) == ("STATE_CONFIRMED", None), order
        assert await self.done_at_provider(order) == ["AUTHORIZE"]
        await self.assert_told(order, ["Order confirmed"])

    async def assert_shipped(self, order: Json) -> None:
        """Charged once, and told once of each."""
        assert order["state"] == "STATE_SHIPPED", order
        assert await self.done_at_provider(order) == ["AUTHORIZE", "CAPTURE"]
        await self.assert_told(order, ["Order confirmed", "Order shipped"])

    async def assert_called_off(self, order: Json, done: list[str]) -> None:
        """It was confirmed, and came to nothing before the parcel left."""
        assert order["state"] == "STATE_CANCELLED", order
        assert await self.done_at_provider(order) == done
        refunded = ["Payment refunded"] if "REFUND" in done else []
        await self.assert_told(order, ["Order cancelled", "Order confirmed", *refunded])

    async def assert_declined(self, order: Json) -> None:
        assert (order["state"], order["rejectionReason"]) == ("STATE_REJECTED", "PAYMENT_DECLINED")
        await self.assert_told(order, ["Order rejected", "Payment declined"])

    async def assert_capture_refused(self, order: Json) -> None:
        """Authorized, and the provider did not honour it: nothing is held or sold."""
        assert (order["state"], order["rejectionReason"]) == ("STATE_REJECTED", "CAPTURE_REFUSED")
        assert await self.done_at_provider(order) == ["AUTHORIZE", "VOID"]
        await self.assert_told(order, ["Order rejected"])

    async def assert_told(self, order: Json, titles: list[str]) -> None:
        """The buyer was sent these messages about the order, each once."""
        await self.until(lambda: books.told(self.shop, order["orderId"]), lambda told: told == titles)

    async def ask(
        self,
        verb: str,
        path: str,
        body: Json | None = None,
        *,
        key: str = "",
        by: SignedIn | None = None,
        unless: str = "",
    ) -> Json:
        """What a patient client gets: tries again, with the same Idempotency-Key, whatever is "not now".

        Asks as the buyer, once there is one, unless told otherwise. Empty for a refusal that is `unless`.
        """
        headers = {"Idempotency-Key": key or str(uuid.uuid4())} if verb != "GET" else {}
        auth = by or (self.signed_in if hasattr(self, "signed_in") else None)
        problem: object = None
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    try:
                        answer = await self.http.request(verb, path, json=body, headers=headers, auth=auth)
                    except httpx.TransportError as error:
                        problem = repr(error)
                    else:
                        if answer.is_success:
                            return dict(answer.json()) if answer.content else {}
                        problem = f"{answer.status_code} {answer.text}"
                        if unless and unless in answer.text:
                            return {}
                        assert answer.json()["error"]["status"] in NOT_NOW, f"{verb} {path}: {problem}"
                    await asyncio.sleep(ASK_AGAIN_S)
        except TimeoutError:
            raise AssertionError(
                f"{verb} {path} got no answer in {WAIT_S:g} s; the last was {problem}"
            ) from None

    async def until(self, look: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> Any:
        """Looks until it holds; what was seen then."""
        seen: Any = None
        try:
            async with asyncio.timeout(WAIT_S):
                while not holds(seen := await look()):  # noqa: ASYNC110 (other processes have no event)
                    await asyncio.sleep(ASK_AGAIN_S)
        except TimeoutError:
            raise AssertionError(f"did not come about in {WAIT_S:g} s; last seen: {seen}") from None
        return seen

    # What goes wrong

    @asynccontextmanager
    async def down(self, program: str, place: str) -> AsyncIterator[asyncio.Task[None]]:
        """The program is to die at the place (`site[RPC]=exit@n`) and stays down until the block is left.

        Gives a task that ends when it is dead.
        """
        programs = self.shop.programs
        programs.hold(program)
        exits = programs.exits(program)
        self._arm(program, place)

        async def dead() -> None:
            code = await programs.wait_exit(program, exits=exits + 1, timeout_s=WAIT_S)
            assert code == failpoints.EXIT_CODE, (
                f"{program} ended with {code}: {programs.last_words(program)}"
            )
            self.disarm(program)

        death = asyncio.create_task(dead())
        try:
            yield death
            await death
        finally:
            death.cancel()
            self.disarm(program)
            programs.release(program)
            if not programs.is_ready(program):
                await programs.start(program)

    async def survives(self, program: str, place: str, *deeds: Awaitable[Json]) -> list[Json]:
        """What the deeds came to, though the program was killed at that place while they were done."""
        async with asyncio.TaskGroup() as tasks, self.down(program, place) as death:
            doing = [tasks.create_task(_coroutine(deed)) for deed in deeds]
            await death
        return [done.result() for done in doing]

    def slow(self, program: str, place: str) -> None:
        """The program waits at that place from now on (`site[RPC]=delay(s)`), until `disarm`."""
        self._arm(program, place)

    def _arm(self, program: str, text: str) -> None:
        file = failpoint_file(self.home, program)
        draft = file.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(file)

    def disarm(self, program: str) -> None:
        failpoint_file(self.home, program).unlink(missing_ok=True)

    async def kill(self, program: str) -> None:
        """Kill -9, from outside; it stays down until `revive`."""
        programs = self.shop.programs
        exits = programs.exits(program)
        programs.hold(program)
        programs.kill(program)
        await programs.wait_exit(program, exits=exits + 1, timeout_s=WAIT_S)

    async def revive(self, *programs: str) -> None:
        for program in programs:
            self.shop.programs.release(program)
        await self.shop.programs.start(*programs)

    async def power_cut(self) -> None:
        """Kills every process at once, and opens a new shop on what is left in the folder."""
        self.shop.programs.kill_all()
        await self.shop.stop()
        before = self.http  # those who wait for an answer find the new one when they ask again
        self.shop = shop_in(self.home)
        await self.open()
        await before.aclose()

    async def verify(self) -> str:
        """What the command itself says, in two words."""
        command = (sys.executable, "-m", "services.cli", "verify", "--data", str(self.shop.folder.path))
        running = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(WAIT_S):
            said, _ = await running.communicate()
        assert running.returncode == 0, said.decode()
        return said.decode().splitlines()[-1].partition(":")[0]

    async def everything_holds(self) -> None:
        """Waits until every invariant holds on the databases, the provider's books and the streams."""
        await self.until(lambda: books.violations(self.shop), lambda violations: not violations)


def shop_in(
    home: Path,
    *,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    backends: Mapping[str, str] | None = None,
    database: str = "",
    replicas: Mapping[str, int] | None = None,
    otlp: str = "",
) -> Shop:
    """A shop for impatient tests. What it takes is as in Shop."""
    told = {
        name: {
            **QUICK,
            **CHEAP_PASSWORDS,
            failpoints.FILE_VARIABLE: str(failpoint_file(home, name)),
            **(environment or {}).get(name, {}),
        }
        for name in SERVICES
    }
    at_once = RestartPolicy(Backoff(first_s=0.01, max_s=0.01), healthy_after_s=0.0)
    return Shop(
        home / "data",
        environment=told,
        backends=backends,
        database=database,
        replicas=replicas,
        otlp=otlp,
        restarts=at_once,
    )


def failpoint_file(home: Path, program: str) -> Path:
    return home / f"{program}.failpoints"


async def _coroutine(deed: Awaitable[Json]) -> Json:
    return await deed
