"""A thousand browsers watch one order while it moves."""

import asyncio
import re
import resource
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper

WATCHERS = 1000
WATCH_MAX_S = 60.0
KIB_PER_WATCHER_MAX = (
    256  # of gateway and order service together; 65 were seen, so that only a runaway fails this
)
LISTENING = "0A"  # in /proc/net/tcp
ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


async def watched(
    gateway: str, order_id: str, bearer: str, last_version: int, connected: asyncio.Semaphore
) -> list[int]:
    """The ids of the server-sent events until this version."""
    host = urlsplit(gateway)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    try:
        request = (
            f"GET /api/v1/orders/{order_id}:watch HTTP/1.1\r\nHost: shop\r\nAccept: text/event-stream\r\n"
            f"Authorization: {bearer}\r\n\r\n"
        )
        writer.write(request.encode())
        seen = b""
        while not (ids := [int(found) for found in ID.findall(seen)]) or ids[-1] < last_version:
            piece = await reader.read(65536)
            assert piece, f"the stream ended after {ids}"
            assert seen or piece.startswith(b"HTTP/1.1 200"), piece
            if not seen:
                connected.release()
            seen += piece
        return ids
    finally:
        writer.close()


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def gateway_pid(shop: Endpoints) -> int:
    """Of the process that listens where the gateway does."""
    port = f":{urlsplit(shop.gateway).port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inode = next(
        line.split()[9] for line in lines if line.split()[1].endswith(port) and line.split()[3] == "0A"
    )
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().name == f"socket:[{inode}]":
                return int(link.parts[2])
        except OSError:
            continue
    raise AssertionError("nobody listens there")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="memory is read from /proc")
async def test_each_of_a_thousand_watchers_sees_every_version_once_and_in_order(
    shop: Endpoints, shopper: Shopper, record_property: Callable[[str, object], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < WATCHERS + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, WATCHERS + 200), hard))
    buyer = shopper.buyer()["userId"]
    card = shopper.payment_method(buyer)["paymentMethodId"]
    product = shopper.product("Lamp", cents=900, on_hand=3)["productId"]
    order_id = str(shopper.order(buyer, card, {product: 2})["orderId"])
    pids = [gateway_pid(shop), shop.services["order"].pid]
    before = sum(map(resident_kib, pids))
    connected = asyncio.Semaphore(0)
    bearer = shopper.signed_in.bearer(shop.gateway)
    last_version = 12  # six events to be confirmed, shipped, delivered, and four of a refund with its goods

    async with asyncio.timeout(WATCH_MAX_S), asyncio.TaskGroup() as watchers:
        watching = [
            watchers.create_task(watched(shop.gateway, order_id, bearer, last_version, connected))
            for _ in range(WATCHERS)
        ]
        for _ in range(WATCHERS):
            await connected.acquire()
        used_kib = sum(map(resident_kib, pids)) - before
        await asyncio.to_thread(shopper.ship, order_id, "T-1")
        await asyncio.to_thread(shopper.deliver, order_id)
        await asyncio.to_thread(
            lambda: shopper.refund(order_id, {product: 1}, return_stock=True, reason="too many")
        )

    versions = list(range(1, last_version + 1))
    assert {tuple(task.result()) for task in watching} == {tuple(versions)}
    record_property("kib_per_watcher", used_kib / WATCHERS)
    assert used_kib < WATCHERS * KIB_PER_WATCHER_MAX
