"""What one program of a running shop says of itself: health, age, how far it is behind, whom it turns away.

Whoever is asked may hang, or lie. So every answer has its time and its size, what is of the wrong shape is no
answer, and text from elsewhere is made plain before anybody sees it.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import httpx
import orjson
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis import tls
from services.chassis.health import State
from services.chassis.tls import Identity
from services.cli import figures
from services.cli.endpoints import Endpoints
from services.cli.figures import Circuit, Figures, Load, printable
from services.cli.instances import Place
from services.cli.probe import SERVING

ASK_MAX_S: Final = 3.0  # a service takes a second for its checks and another for its figures at most
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024  # ours have some hundred KiB
GREETING_BYTES_MAX: Final = 64 * 1024  # a broker's has less than one

DEGRADED: Final = "DEGRADED"
NO_ANSWER: Final = "NO ANSWER"
NOT_SERVING: Final = "NOT_SERVING"

_SERVING: Final = (SERVING, DEGRADED)
_PASSING: Final = tuple(state.value.upper() for state in (State.STARTING, State.DRAINING))


@dataclass(frozen=True, slots=True)
class Observation:
    """One program. None or NaN is what it did not say."""

    name: str
    health: str
    """SERVING, DEGRADED, or what else was the answer."""

    missing: tuple[str, ...] = ()
    """What it depends on and does not find, each with why."""

    address: str = ""
    instance: str = ""
    """What tells it from others of its name; empty if it does not say that it is there."""

    version: str = ""
    pid: int | None = None
    started_at: float | None = None
    """Unix time."""

    outbox_rows: float | None = None
    outbox_oldest_age_s: float | None = None
    consumer_lags: Mapping[str, float] = field(default_factory=dict)
    """Events that wait, by consumer."""

    writer_transactions: float | None = None
    """Taken and not yet answered."""

    load: Load | None = None
    left_alone: tuple[Circuit, ...] = ()
    """What others offer, and is not called for now."""

    @property
    def is_serving(self) -> bool:
        return self.health in _SERVING

    @property
    def answers(self) -> bool:
        return self.is_serving or self.health in (NOT_SERVING, *_PASSING)


@dataclass(frozen=True, slots=True)
class _Page:
    is_success: bool
    content: bytes


class Observer:
    """Asks programs side by side; each answer takes ASK_MAX_S at most.

    With an identity services are asked at their mesh ports, where they prove who they are; else as guests.
    """

    def __init__(self, http: httpx.AsyncClient, identity: Identity | None = None) -> None:
        self._http = http
        self._identity = identity

    async def service(self, at: Place) -> Observation:
        """Asks a service by its own health protocol, and its operations port for the rest."""
        health, ready, shown = await asyncio.gather(
            self._health(at), self._page(at.operations, "/health/ready"), self._figures(at.operations)
        )
        report = _report(ready)
        missing = tuple(_missing(report, at))
        told = at.announced
        began = shown.get("bodega_start_time_seconds")
        return Observation(
            at.program,
            _worded(health, missing, report, at),
            missing,
            address=at.address,
            instance=told.id if told else "",
            version=shown.version or (told.version if told else ""),
            pid=at.pid,
            started_at=told.started_at.timestamp() if told and began is None else began,
            outbox_rows=shown.get("outbox_rows"),
            outbox_oldest_age_s=shown.get("outbox_oldest_age_seconds"),
            consumer_lags=shown.consumer_lags,
            writer_transactions=shown.get("writer_transactions"),
            load=shown.load,
            left_alone=tuple(shown.left_alone),
        )

    async def gateway(self, shop: Endpoints) -> Observation:
        """Asks the edge whether it is ready, and its operations port for the rest."""
        address = urlsplit(shop.gateway).netloc
        ready, shown = await asyncio.gather(
            self._page(address, "/health/ready"), self._figures(shop.gateway_operations)
        )
        health = NO_ANSWER if ready is None else SERVING if ready.is_success else NOT_SERVING
        return Observation(
            "gateway",
            health,
            address=address,
            version=shown.version,
            pid=shop.gateway_pid,
            started_at=shown.get("bodega_start_time_seconds"),
            load=shown.load,
            left_alone=tuple(shown.left_alone),
        )

    async def _health(self, at: Place) -> str:
        """What it says of itself; the status code's name if it does not."""
        if not at.address:
            return NO_ANSWER
        async with self._channel(at) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # whose published types lack its methods
            try:
                reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ASK_MAX_S)
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    def _channel(self, at: Place) -> grpc.aio.Channel:
        if not self._identity or not at.mesh:
            return grpc.aio.insecure_channel(at.guests)
        shown = tls.channel_credentials(self._identity.present())
        return grpc.aio.secure_channel(at.mesh, shown, options=tls.channel_options(at.service))

    async def _figures(self, address: str) -> Figures:
        page = await self._page(address, "/metrics")
        return figures.read(page.content.decode(errors="replace") if page and page.is_success else "")

    async def _page(self, address: str, path: str) -> _Page | None:
        content = bytearray()
        try:
            async with (
                asyncio.timeout(ASK_MAX_S),
                self._http.stream(
                    "GET", f"http://{address}{path}", headers={"accept-encoding": "identity"}
                ) as answer,
            ):
                async for part in answer.aiter_raw():
                    content += part
                    if len(content) > PAGE_BYTES_MAX:
                        return None
                return _Page(answer.is_success, bytes(content))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None


async def nats(shop: Endpoints) -> Observation:
    """Reads what the broker greets clients with."""
    where = urlsplit(shop.nats)
    try:
        async with asyncio.timeout(ASK_MAX_S):
            greeting = await _greeting(where.hostname or "", where.port or 0)
    except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
        return Observation("nats", NO_ANSWER, address=where.netloc, pid=shop.nats_pid)
    return Observation(
        "nats",
        SERVING if greeting.get("jetstream") else "NO JETSTREAM",
        address=where.netloc,
        version=printable(str(greeting.get("version", ""))),
        pid=shop.nats_pid,
    )


async def _greeting(host: str, port: int) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(host, port, limit=GREETING_BYTES_MAX)
    try:
        line = await reader.readline()  # ValueError beyond the limit
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    greeting = orjson.loads(line.removeprefix(b"INFO "))
    return greeting if isinstance(greeting, dict) else {}


def _report(page: _Page | None) -> dict[str, Any] | None:
    """What the operations port says of health; None if it does not."""
    try:
        report = orjson.loads(page.content) if page else None
    except ValueError:
        return None
    return report if isinstance(report, dict) and isinstance(report.get("checks", {}), dict) else None


def _missing(report: Mapping[str, Any] | None, at: Place) -> Iterator[str]:
    if report is None:
        yield f"operations port: {NO_ANSWER.lower()}"
        if at.announced and at.announced.lacks:
            yield at.announced.lacks
        return
    for name, check in report.get("checks", {}).items():
        if not isinstance(check, dict) or not check.get("ok"):
            problem = check.get("problem", "") if isinstance(check, dict) else check
            yield printable(f"{name}: {problem}")


def _worded(health: str, missing: tuple[str, ...], report: Mapping[str, Any] | None, at: Place) -> str:
    """One word for a service's health: what it says to callers, and why it says no, if that passes."""
    if health == SERVING:
        return DEGRADED if missing else SERVING
    told = (report or {}).get("status") or (at.announced.state.value if at.announced else "")
    state = str(told).upper()
    return state if health == NOT_SERVING and state in _PASSING else health
