"""The operations port: health and metrics over HTTP, for those who run the process; never a public edge."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.chassis.health import READY, Health
from services.chassis.metrics import Metrics

_Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON: Final = "application/json"


class Operations:
    """An ASGI application of four pages."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._figures = metrics
        self._pages: dict[str, Callable[[], Awaitable[tuple[int, str, bytes]]]] = {
            "/health/live": self._live,
            "/health/ready": self._ready,
            "/health/startup": self._startup,
            "/metrics": self._metrics,
        }

    async def __call__(self, scope: dict[str, Any], _receive: Any, send: _Send) -> None:
        page = self._pages.get(scope["path"])
        if page is None:
            code, kind, body = 404, JSON, _json({"pages": sorted(self._pages)})
        elif scope["method"] not in ("GET", "HEAD"):
            code, kind, body = 405, JSON, _json({"methods": ["GET", "HEAD"]})
        else:
            code, kind, body = await page()
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _live(self) -> tuple[int, str, bytes]:
        return 200, JSON, _json({"status": "alive"})  # the loop turns, or nobody would answer

    async def _ready(self) -> tuple[int, str, bytes]:
        state = await self._health.refresh()
        return 200 if state in READY else 503, JSON, _json(self._health.report())

    async def _startup(self) -> tuple[int, str, bytes]:
        return 200 if self._health.started else 503, JSON, _json(self._health.report())

    async def _metrics(self) -> tuple[int, str, bytes]:
        await self._figures.refresh()
        return 200, CONTENT_TYPE_LATEST, generate_latest(self._figures.registry)


class _Server(uvicorn.Server):
    """uvicorn as a part of a program: signals are the program's, and it says when it is ready."""

    def __init__(self, configuration: uvicorn.Config) -> None:
        super().__init__(configuration)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def answering(application: Any, listener: socket.socket) -> AsyncIterator[None]:
    """Serves an ASGI application on a bound socket while inside."""
    server = _Server(
        uvicorn.Config(
            application,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name="operations-http")
    try:
        await server.ready.wait()
        yield
    finally:
        server.should_exit = True
        await task


def _json(content: Any) -> bytes:
    return orjson.dumps(content)
