"""A whole shop inside a test, as tests of faults use it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.cli import shopper as shopping
from services.cli.edge import new_id
from services.cli.endpoints import Endpoints
from services.cli.refusal import Refused
from services.cli.shop import Shop
from services.cli.shopper import Shopper
from tests.cheap_passwords import CHEAP_PASSWORDS

USER = {**CHEAP_PASSWORDS, "BODEGA_USER__LOG_LEVEL": "debug"}
DIES_BEFORE_CAPTURE = {"BODEGA_FAILPOINTS": "order.capture_payment.before=exit"}


def variables_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def visit(shop: Endpoints) -> Any:
    """An order as it is once it is settled, whoever dies meanwhile."""
    with Shopper(shop) as shopper:
        buyer = shopper.buyer()["userId"]
        card = shopper.payment_method(buyer)["paymentMethodId"]
        product = shopper.product("Mug", cents=900, on_hand=1)["productId"]
        body, key = shopping.order(buyer, card, {product: 1}, wait=False), new_id()
        return shopper.eventually(
            lambda: shopper.http.post("/api/v1/orders", json=body, headers={"Idempotency-Key": key}),
            lambda reply: reply.status_code == 201 and reply.json()["state"] == "STATE_CONFIRMED",
            "the order is confirmed",
            shopping.SETTLE_MAX_S,
        ).json()


async def test_a_shop_survives_what_tests_do_to_it(tmp_path: Path) -> None:
    async with Shop(tmp_path / "shop", environment={"user": USER}) as shop:
        assert b"BODEGA_USER__LOG_LEVEL=debug" in variables_of(shop.programs.pid("user"))

        await shop.programs.restart("order", DIES_BEFORE_CAPTURE)
        await shop.wait_ready()
        starts, exits = shop.programs.starts("order"), shop.programs.exits("order")
        order = await asyncio.to_thread(visit, shop.endpoints)
        assert order["state"] == "STATE_CONFIRMED"
        assert await shop.programs.wait_exit("order", exits=exits + 1) == 137
        await shop.programs.wait_ready("order", starts=starts + 1)
        written = json.loads((tmp_path / "shop" / "endpoints.json").read_text())
        assert written["services"]["order"]["pid"] == shop.programs.pid("order")

        shop.programs.kill_all()
        await shop.programs.stop()
        await shop.programs.start()
        await shop.wait_ready()
        assert (await asyncio.to_thread(visit, shop.endpoints))["state"] == "STATE_CONFIRMED"


async def test_a_shop_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    nonsense = {"payment": {"BODEGA_PAYMENT__NO_SUCH_SETTING": "1"}}
    shop = Shop(tmp_path / "shop", environment=nonsense)
    with pytest.raises(Refused, match=r"payment ended with code 2: .*NO_SUCH_SETTING"):
        await shop.start()
    for name in ("nats", "user", "order", "gateway"):
        with pytest.raises(ProcessLookupError):
            os.kill(shop.programs.pid(name), 0)
    assert not shop.folder.endpoints.exists()
