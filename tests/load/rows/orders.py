"""What a placed order costs, everything on: our shop against the naive one, the same order sent to both.

Ours is charged for all of its programs, broker and notification included, until the last event has reached
the last consumer; the naive one has none of these.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from services.cli.data_folder import PROGRAMS
from services.cli.edge import Json
from services.cli.endpoints import Endpoints
from services.cli.shop import Shop
from services.cli.shopper import Shopper, order
from services.cli.signed_in import SignedIn
from tests.load import children, load, messages, procfs
from tests.load.figures import (
    OURS,
    YARDSTICK,
    Figure,
    Pace,
    Rounds,
    Run,
    Target,
    alternate,
    compared,
    per_second,
    typical,
)
from tests.load.load import IN_FLIGHT, OwnClient
from tests.load.naive import shop as naive_shop

ORDERS: Final = {OURS: 1_600, YARDSTICK: 320}
SETTLED: Final = '"STATE_CONFIRMED"'
STOCK: Final = 1_000_000
QUIET_MAX_S: Final = 60.0
QUIET_LOOK_S: Final = 0.5
QUIET_CPU_S: Final = 0.05  # of all programs together between two looks: what an idle shop uses
MISSING: Final = "the naive build needs the bench group: `pip install --group bench`"

PER_ORDER: Final = Target(3.5)
AGAINST_NAIVE: Final = Target(0.2)


@dataclass(frozen=True, slots=True)
class Side:
    """A running shop."""

    client: OwnClient
    pids: Mapping[str, int]
    bearer: Callable[[], str] = str
    """What goes with each order, as `authorization`: good for longer than any run."""

    def cpu_s(self) -> float:
        return procfs.cpu_s(*self.pids.values())


async def orders(folder: Path, pace: Pace) -> AsyncIterator[Figure]:
    """CPU per placed order, as it is and ÷ the naive build's."""
    async with AsyncExitStack() as stack:
        sides = {OURS: await _ours(stack, folder)}
        if find_spec("fastapi") and find_spec("opentelemetry.sdk"):
            sides[YARDSTICK] = await _naive(stack, folder)
        for side, shop in sides.items():
            await _run(shop, pace.count(ORDERS[side] // 4))
        before = {name: procfs.cpu_s(pid) for name, pid in sides[OURS].pids.items()}

        async def measure(side: str) -> Run:
            return await _run(sides[side], pace.count(ORDERS[side]))

        rounds = await alternate(pace.rounds, sides, measure)
        used = {name: procfs.cpu_s(pid) - before[name] for name, pid in sides[OURS].pids.items()}
    placed = sum(measured[OURS].requests for measured in rounds)
    parts = ", ".join(f"{name} {seconds / placed * 1000:.2f}" for name, seconds in used.items())
    conditions = f"{IN_FLIGHT} in flight, waiting until settled; ms by program: {parts}"
    found = [_ms(measured[OURS]) for measured in rounds]
    yield Figure(
        "CPU per placed order, everything on",
        PER_ORDER,
        typical(rounds, OURS, _ms),
        unit="ms",
        spread=(min(found), max(found)),
        ours=f"{typical(rounds, OURS, per_second):,.0f} orders/s",
        conditions=conditions,
    )
    yield _against_naive(rounds) if YARDSTICK in sides else Figure(NAME, AGAINST_NAIVE, None, note=MISSING)


NAME: Final = "the same ÷ the naive build"


def _against_naive(rounds: Rounds) -> Figure:
    rate = " against ".join(f"{typical(rounds, side, per_second):,.0f}" for side in (OURS, YARDSTICK))
    show: Callable[[float], str] = "{:.1f} ms".format
    conditions = f"{IN_FLIGHT} in flight; orders/s {rate}"
    return compared(NAME, AGAINST_NAIVE, rounds, _ms, show=show, conditions=conditions)


def _ms(run: Run) -> float:
    return run.cpu_us / 1000


async def _run(shop: Side, count: int) -> Run:
    bearer = await asyncio.to_thread(shop.bearer)
    meter = procfs.Meter(*shop.pids.values())
    elapsed_s = await shop.client.send(count, authorization=bearer)
    await _quiet(shop)
    return Run(count, elapsed_s, meter.used_s)


async def _quiet(shop: Side) -> None:
    """Returns when nothing is under way any more: every event told, heard and acted upon."""
    give_up = time.monotonic() + QUIET_MAX_S
    used_s = shop.cpu_s()
    while True:
        await asyncio.sleep(QUIET_LOOK_S)
        before, used_s = used_s, shop.cpu_s()
        if used_s - before <= QUIET_CPU_S:
            return
        if time.monotonic() > give_up:
            raise load.LoadFailed(f"still busy {QUIET_MAX_S:g} s after the last order")


async def _ours(stack: AsyncExitStack, folder: Path) -> Side:
    shop = await stack.enter_async_context(Shop(folder / "ours"))
    gateway = shop.endpoints.gateway
    body = folder / "ours.json"
    buyer, wish = await asyncio.to_thread(_prepared, shop.endpoints)
    body.write_text(json.dumps(wish))
    pids = {name: shop.programs.pid(name) for name in PROGRAMS}
    client = await _client(stack, folder, int(gateway.rpartition(":")[2]), body)
    return Side(client, pids, lambda: buyer.bearer(gateway))


def _prepared(shop: Endpoints) -> tuple[SignedIn, Json]:
    """A buyer and their order of two products, with stock for it."""
    with Shopper(shop) as shopper:
        user = str(shopper.buyer()["userId"])
        method = str(shopper.payment_method(user)["paymentMethodId"])
        products = [
            str(shopper.product(f"Coffee {number}", cents=1850, on_hand=STOCK)["productId"])
            for number in (1, 2)
        ]
        return shopper.signed_in, order(user, method, dict.fromkeys(products, 1))


async def _naive(stack: AsyncExitStack, folder: Path) -> Side:
    home = folder / "naive"
    home.mkdir()
    shop = await stack.enter_async_context(naive_shop.running(home))
    body = folder / "naive.json"
    lines = {messages.product_id(number): 1 for number in (1, 2)}
    body.write_text(json.dumps(order(messages.USER_ID, messages.PAYMENT_METHOD_ID, lines)))
    return Side(await _client(stack, folder, shop.port, body), shop.pids)


async def _client(stack: AsyncExitStack, folder: Path, port: int, body: Path) -> OwnClient:
    program = "tests.load.programs.http_calls"
    return OwnClient(
        await stack.enter_async_context(
            children.running(folder, program, port, body, SETTLED, name=f"orders-{port}")
        )
    )
