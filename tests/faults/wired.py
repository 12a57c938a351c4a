"""A scene whose programs reach each other by ways that can be troubled."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.cli.data_folder import SERVICES
from services.order.config import OrderSettings
from tests.faults.proxy import Proxy
from tests.faults.scene import Scene, shop_in
from tests.faults.witness import Witness

PATIENCE: Final = ("backoff_base_s", "backoff_max_s")

Way = tuple[str, str]
"""Who calls, and whom."""

NATS: Final = "nats"
GATEWAY: Final = "gateway"
DATABASE: Final = "database"
EVERYONE: Final = "everyone"  # the broker and a database server have one way for all

WAYS: Final[tuple[Way, ...]] = (
    (GATEWAY, "order"),
    ("order", "user"),
    ("order", "inventory"),
    ("order", "payment"),
    (EVERYONE, NATS),
)


@dataclass
class Wired:
    """A scene and its ways."""

    scene: Scene
    ways: Mapping[Way, Proxy]

    @asynccontextmanager
    async def witnessed(self, way: Way) -> AsyncIterator[Witness]:
        """Every call on that way is seen until the block is left."""
        caller, callee = way
        shop = self.scene.shop.endpoints
        service = shop.identity(callee)
        mine = shop.identity(caller)
        assert service is not None
        assert mine is not None

        def target() -> str:
            return self.scene.shop.endpoints.services[callee].mesh

        async with Witness(callee, mine, service, target) as witness:
            self.ways[way].lead_to(witness.address)
            try:
                yield witness
            finally:
                self.ways[way].lead_to(target)

    def pid(self, program: str) -> int:
        """Raises AssertionError if it does not run."""
        shop = self.scene.shop.endpoints
        pid = shop.gateway_pid if program == GATEWAY else shop.services[program].pid
        assert pid is not None
        return pid

    async def figures(self, service: str) -> "Figures":
        """What the service says on its page of metrics."""
        shop = self.scene.shop.endpoints
        at = shop.gateway_operations if service == GATEWAY else shop.services[service].http
        async with httpx.AsyncClient() as client:
            page = await client.get(f"http://{at}/metrics", timeout=5.0)
        return Figures(page.text)


class Figures:
    """A page of metrics."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def of(self, name: str, **labels: str) -> list[float]:
        """Values of those samples that have all these labels."""
        return [
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


@asynccontextmanager
async def wired(home: Path, *, server: str = "", is_hasty: bool = True) -> AsyncIterator[Wired]:
    """A new shop with a buyer and something to buy, every way open.

    `server` is the address of a PostgreSQL server that is to have its databases. Unless it is hasty, orders
    that have to wait do so for as long as they do in real shops.
    """
    scenes: list[Scene] = []

    def target(callee: str) -> str:
        if callee == DATABASE:
            return urlsplit(server).netloc.rpartition("@")[2]
        shop = scenes[0].shop.endpoints
        return shop.nats.removeprefix("nats://") if callee == NATS else shop.services[callee].mesh

    async with AsyncExitStack() as open_ways:
        ways = {
            way: await open_ways.enter_async_context(Proxy(partial(target, way[1])))
            for way in (*WAYS, *([(EVERYONE, DATABASE)] if server else []))
        }
        told = _told(ways, server)
        if not is_hasty:
            told["order"] |= {f"BODEGA_ORDER__{name}".upper(): _default(name) for name in PATIENCE}
        scenes.append(Scene(shop_in(home, environment=told, backends=_backends(ways), database=server), home))
        (scene,) = scenes
        try:
            await scene.open()
            await scene.furnish()
            yield Wired(scene, ways)
        finally:
            await scene.close()


def _told(ways: Mapping[Way, Proxy], server: str) -> dict[str, dict[str, str]]:
    """What services are told of their ways, by name of the service."""
    told: dict[str, dict[str, str]] = {name: {} for name in SERVICES}

    def tell(name: str, setting: str, value: str) -> None:
        told[name][f"BODEGA_{name}__{setting}".upper()] = value

    for (caller, callee), way in ways.items():
        for name in SERVICES:
            if callee == NATS:
                tell(name, "nats_url", f"nats://{way.address}")
            elif callee == DATABASE:
                tell(name, "database_url", _by(way, server, database=f"bodega_{name}"))
            elif caller == name:
                tell(name, f"{callee}_target", way.address)
    return told


def _default(setting: str) -> str:
    return str(OrderSettings.model_fields[setting].default)


def _by(way: Proxy, server: str, *, database: str) -> str:
    """The address of a database, reached by that way."""
    parts = urlsplit(server)
    who, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{who}{at}{way.address}", path=f"/{database}").geturl()


def _backends(ways: Mapping[Way, Proxy]) -> dict[str, str]:
    return {callee: way.address for (caller, callee), way in ways.items() if caller == GATEWAY}
