"""`bodega demo` and `bodega verify` against a shop that has seen other customers."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from services.cli import shopper as shopping
from services.cli.edge import new_id
from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper

RUN_MAX_S = 110.0


def bodega(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "services.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_MAX_S, check=False)


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_demo_runs_green_any_number_of_times(data: Path, time: str) -> None:
    done = bodega("demo", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for shown in (
        *("CONFIRMED", "PAYMENT_DECLINED", "OUT_OF_STOCK", "CANCELLED", "SHIPPED", "DELIVERED"),
        *("PARTIALLY_REFUNDED", "everything as promised"),
    ):
        assert shown in done.stdout


def test_faults_are_played_in_a_running_shop_and_cleared(data: Path) -> None:
    place = "server.call.before[CheckAvailability]"
    done = bodega("failpoints", "set", f"{place}=delay(0.001)*3", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"{place}=delay(0.001)*3  0 of 0 visits") == 5
    done = bodega("failpoints", "set", "order.append.before=delay(0)", "--data", str(data))
    assert done.stdout == "order         order.append.before=delay(0)  0 of 0 visits\n"
    bodega("failpoints", "clear", "--data", str(data))
    done = bodega("failpoints", "list", "--data", str(data))
    assert (done.returncode, done.stdout) == (0, "no failpoints are set\n")


def test_verify_finds_that_all_holds_and_shows_what_it_counted(data: Path) -> None:
    bodega("demo", "--data", str(data))
    done = bodega("verify", "--data", str(data), "--settle", "10s")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "all holds" in done.stdout
    assert "skipped" not in done.stdout
    for check in (
        "money.orders",
        "stock.ledger",
        "orders.end",
        "once.requests",
        "told.published",
        "orders.replay",
    ):
        assert check in done.stdout


async def test_verify_of_a_shop_that_is_busy_takes_no_movement_for_a_violation(
    data: Path, shop: Endpoints, shopper: Shopper
) -> None:
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Mug", cents=900, on_hand=1000)["productId"]
    stop = asyncio.Event()

    async def keep_buying(client: httpx.AsyncClient) -> int:
        bought = 0
        while not stop.is_set():
            body = shopping.order(buyer, card, {product: 1})
            reply = await client.post("/api/v1/orders", json=body, headers={"Idempotency-Key": new_id()})
            assert reply.status_code == 201
            bought += 1
        return bought

    async with httpx.AsyncClient(base_url=shop.gateway, timeout=30.0, auth=shopper.signed_in) as client:
        buyers = [asyncio.create_task(keep_buying(client)) for _ in range(4)]
        done = await asyncio.to_thread(bodega, "verify", "--data", str(data), "--settle", "3s")
        stop.set()
        assert sum(await asyncio.gather(*buyers)) > 0
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
