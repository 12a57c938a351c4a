"""The inventory service as a process: it starts, tells what happened, stops cleanly, and survives kill -9."""

import asyncio
import signal
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from bodega.inventory.v1 import inventory_pb2 as pb
from bodega.inventory.v1.inventory_pb2_grpc import CatalogServiceStub, InventoryServiceStub
from google.type.money_pb2 import Money

from services.chassis import audit as chassis_audit
from services.chassis import client, failpoints
from services.inventory import tables
from services.inventory.__main__ import assembled
from services.inventory.config import Settings
from tests import service_process
from tests.chassis.events.waiting import eventually
from tests.chassis.proofs import Proofs, proving

WAIT_S = 60.0  # for what takes a second on a machine that has nothing else to do
KEEPER = str(uuid.uuid4())

Figures = Callable[[], dict[str, dict[str, int]]]


@pytest.fixture
async def proofs(tmp_path: Path) -> AsyncIterator[Proofs]:
    async with proving(tmp_path) as made:
        yield made


@asynccontextmanager
async def program(
    proofs: Proofs, url: str, *, failpoint: str = ""
) -> AsyncIterator[tuple[client.Channel, Process]]:
    async with (
        service_process.running(proofs, "inventory", failpoint=failpoint, database_url=url) as (at, process),
        proofs.connect(at, pb.DESCRIPTOR, workload="order") as channel,
    ):
        yield channel, process


async def beans(proofs: Proofs, channel: client.Channel, on_hand: int) -> str:
    beans = pb.Product(sku="B-1", name="Beans", price=Money(currency_code="EUR", units=5))
    with proofs.asking(KEEPER, "warehouse"):
        product = await CatalogServiceStub(channel).CreateProduct(pb.CreateProductRequest(product=beans))
        await InventoryServiceStub(channel).SetStock(
            pb.SetStockRequest(product_id=product.product_id, on_hand=on_hand)
        )
    return product.product_id


async def test_what_happens_is_told_to_the_broker(
    proofs: Proofs, url: str, tmp_path: Path, check_invariants: Figures
) -> None:
    async with proofs.broker(tmp_path / "nats") as broker:
        settings = Settings(**proofs.settings("inventory"), database_url=url, nats_url=broker.url)
        async with assembled(settings) as server, server.running():
            async with proofs.connect(server.mesh_address, pb.DESCRIPTOR, workload="order") as channel:
                await beans(proofs, channel, 5)
            await eventually(lambda: _all_published(url))
    assert check_invariants()["stock.told"] == {"facts": 1, "unpublished": 0, "violations": 0}


async def _all_published(url: str) -> bool:
    with chassis_audit.reading(url) as connection:
        rows = connection.execute(sa.select(tables.outbox_rows.c.stream_seq)).scalars().all()
    return len(rows) == 2 and None not in rows


async def test_it_stops_cleanly_when_asked_to(proofs: Proofs, url: str) -> None:
    async with program(proofs, url) as (channel, process):
        await beans(proofs, channel, 5)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 0


async def test_a_watcher_does_not_hold_up_the_stop_and_is_let_go_in_peace(proofs: Proofs, url: str) -> None:
    async with program(proofs, url) as (channel, process):
        request = pb.WatchStockRequest(product_id=await beans(proofs, channel, 5))
        call = InventoryServiceStub(channel).WatchStock(request)
        replies = aiter(call)
        async with asyncio.timeout(WAIT_S):
            assert (await anext(replies)).available == 5
            process.send_signal(signal.SIGTERM)
            with pytest.raises(StopAsyncIteration):
                await anext(replies)
            assert await process.wait() == 0
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_return_killed_around_its_commit_brings_the_goods_back_once(
    proofs: Proofs, url: str, check_invariants: Figures, when: str
) -> None:
    order_id, return_id = str(uuid.uuid4()), str(uuid.uuid4())
    async with program(proofs, url, failpoint=f"inventory.return.commit.{when}=exit") as (channel, process):
        inventory = InventoryServiceStub(channel)
        line = pb.ReserveLine(product_id=await beans(proofs, channel, 5), quantity=2)
        await inventory.ReserveStock(pb.ReserveStockRequest(order_id=order_id, lines=[line]))
        await inventory.CommitStock(pb.CommitStockRequest(order_id=order_id))
        request = pb.ReturnStockRequest(order_id=order_id, return_id=return_id, lines=[line])
        with pytest.raises(grpc.aio.AioRpcError):
            await inventory.ReturnStock(request)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == failpoints.EXIT_CODE
    assert check_invariants()["stock.returns"]["returned"] == (0 if when == "before" else 2)
    async with program(proofs, url) as (channel, _):
        inventory = InventoryServiceStub(channel)
        for request_id in ("", "again"):
            request.request_id = request_id
            await inventory.ReturnStock(request)
    assert check_invariants()["stock.possible"]["on_hand"] == 5


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_reserve_killed_around_its_commit_is_made_once(
    proofs: Proofs, url: str, check_invariants: Figures, when: str
) -> None:
    order_id = str(uuid.uuid4())
    async with program(proofs, url, failpoint=f"inventory.reserve.commit.{when}=exit") as (channel, process):
        line = pb.ReserveLine(product_id=await beans(proofs, channel, 5), quantity=2)
        request = pb.ReserveStockRequest(order_id=order_id, lines=[line], request_id="step-1")
        with pytest.raises(grpc.aio.AioRpcError):
            await InventoryServiceStub(channel).ReserveStock(request)
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == failpoints.EXIT_CODE
    assert check_invariants()["stock.orders"]["reserved"] == (0 if when == "before" else 1)
    async with program(proofs, url) as (channel, _):
        inventory = InventoryServiceStub(channel)
        first = await inventory.ReserveStock(request)
        assert await inventory.ReserveStock(request) == first
    assert check_invariants()["stock.possible"]["reserved"] == 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_release_killed_around_its_commit_undoes_once(
    proofs: Proofs, url: str, check_invariants: Figures, when: str
) -> None:
    order_id = str(uuid.uuid4())
    async with program(proofs, url, failpoint=f"inventory.release.commit.{when}=exit") as (channel, process):
        inventory = InventoryServiceStub(channel)
        line = pb.ReserveLine(product_id=await beans(proofs, channel, 5), quantity=2)
        await inventory.ReserveStock(pb.ReserveStockRequest(order_id=order_id, lines=[line]))
        await inventory.CommitStock(pb.CommitStockRequest(order_id=order_id))
        with pytest.raises(grpc.aio.AioRpcError):
            await inventory.ReleaseStock(pb.ReleaseStockRequest(order_id=order_id, request_id="undo"))
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == failpoints.EXIT_CODE
    check_invariants()
    async with program(proofs, url) as (channel, _):
        inventory = InventoryServiceStub(channel)
        await inventory.ReleaseStock(pb.ReleaseStockRequest(order_id=order_id, request_id="undo"))
        await inventory.ReleaseStock(pb.ReleaseStockRequest(order_id=order_id, request_id="undo again"))
    figures = check_invariants()
    assert figures["stock.possible"]["on_hand"] == 5
    assert figures["stock.orders"]["released"] == 1
