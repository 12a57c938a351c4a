"""Builds an edge and runs it: sockets, channels, start, drain."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import uvicorn
from google.protobuf import descriptor_pb2

from gateway import openapi, site
from gateway.backends import Backends, BadBackend, Channels
from gateway.edge import BODY_BYTES_MAX, Edge
from gateway.errors import Failure
from gateway.health import Health
from gateway.http1 import Http1Protocol
from gateway.hygiene import BadOrigin, Hygiene
from gateway.operations import Operations
from gateway.site import CannotServe
from gateway.streams import Limits
from services.chassis import telemetry
from services.chassis.tls import TlsFiles, TlsRefused

# As long as the longest deadline would keep an orchestrator waiting; most answers take milliseconds.
DRAIN_MAX_S: Final = 15.0
_START_MAX_S: Final = 10.0  # the sockets are open by then; what is left takes milliseconds
_BACKLOG: Final = 2048
_CONNECTIONS_MAX: Final = 10_000  # each may hold a body; beyond it 503, before memory decides
_KEEP_ALIVE_S: Final = 75  # above what load balancers in front keep idle connections (60 s by habit)

_TCP_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

_MAY_BE_KEPT: Final = (b"cache-control", b"public, max-age=300")  # it changes with releases only

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an edge is served."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""

    operations_port: int | None = None
    """None: no operations port; 0: any free one."""

    body_bytes_max: int = BODY_BYTES_MAX
    drain_max_s: float = DRAIN_MAX_S
    origins: tuple[str, ...] = ()
    """Whose pages may read answers, e.g. `https://shop.example`; `*`: everyone's."""

    https_only: bool = False
    """Tells browsers never to come without TLS: someone in front of us ends it."""

    mesh: TlsFiles | None = None
    """Who we are to our backends, which are then mesh ports. None: plaintext, on loopback."""

    backend_plaintext: bool = False
    """Plaintext may leave this machine: something else, a sidecar perhaps, makes it TLS."""

    streams: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Gateway:
    """An edge that is built and not yet running."""

    site: site.Site
    settings: Settings
    openapi: bytes
    hygiene: Hygiene
    health: Health = field(default_factory=Health)


@dataclass(frozen=True, slots=True)
class Running:
    """Where a running edge is reached."""

    port: int
    operations_port: int | None
    servers: tuple[asyncio.Task[None], ...]

    async def until(self, stop: asyncio.Event) -> None:
        """Waits for `stop`. Raises CannotServe if a server gives up by itself meanwhile."""
        asked = asyncio.create_task(stop.wait(), name="until stopped")
        await asyncio.wait({asked, *self.servers}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            raise CannotServe("the HTTP server ended by itself")


def build(
    files: descriptor_pb2.FileDescriptorSet,
    backends: Sequence[str],
    settings: Settings | None = None,
) -> Gateway:
    """An edge for these descriptors; `backends` as on the command line, `[pkg.Service=]host:port`.

    Raises CannotServe with one clear line.
    """
    settings = settings or Settings()
    try:
        targets = Backends.parse(backends)
        hygiene = Hygiene(settings.origins, https_only=settings.https_only)
    except (BadBackend, BadOrigin) as error:
        raise CannotServe(str(error)) from None
    built = site.build(files, targets)
    return Gateway(built, settings, openapi.document(built.routes, files.file), hygiene)


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Running]:
    """Serves while inside; on leaving, turns not ready, lets what is in flight finish, then stops.

    Raises CannotServe if a port is taken.
    """
    settings = gateway.settings
    edge = Edge(
        gateway.site,
        gateway.health,
        settings.streams,
        documents={openapi.PATH: Failure(200, gateway.openapi, [_MAY_BE_KEPT])},
        hygiene=gateway.hygiene,
        body_bytes_max=settings.body_bytes_max,
    )
    listeners = [_listen(settings.host, settings.port)]
    servers = [_server(edge, settings)]
    if settings.operations_port is not None:
        try:
            listeners.append(_listen(settings.host, settings.operations_port))
        except CannotServe:
            listeners[0].close()
            raise
        servers.append(_server(Operations(gateway.site.metrics.registry, gateway.health), settings))
    ports = [listener.getsockname()[1] for listener in listeners]
    async with _open_channels(gateway), _serving(servers, listeners) as tasks:
        gateway.health.started = True
        try:
            yield Running(ports[0], ports[1] if len(ports) > 1 else None, tasks)
        finally:
            gateway.health.draining = True
            edge.drain()


@asynccontextmanager
async def _open_channels(gateway: Gateway) -> AsyncIterator[None]:
    channels = Channels(gateway.settings.mesh, plaintext=gateway.settings.backend_plaintext)
    try:
        for route in gateway.site.routes:
            if not route.takes_stream:
                open_method = channels.unary if route.stream is None else channels.stream
                route.call = open_method(route.target, route.method.path)
        channels.connect()
        gateway.health.backends = channels.states
        yield
    except TlsRefused as refused:
        raise CannotServe(str(refused)) from None
    finally:
        for route in gateway.site.routes:
            route.call = None
        await channels.close()


@asynccontextmanager
async def _serving(
    servers: "list[_Server]", listeners: list[socket.socket]
) -> AsyncIterator[tuple[asyncio.Task[None], ...]]:
    tasks = tuple(
        asyncio.create_task(server.serve(sockets=[listener]), name="http")
        for server, listener in zip(servers, listeners, strict=True)
    )
    try:
        for server in servers:
            await asyncio.wait_for(server.up.wait(), _START_MAX_S)
        yield tasks
    finally:
        # The public port first: while it drains, the operations port still tells that it does.
        for server, task in zip(servers, tasks, strict=True):
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """uvicorn as a guest in our loop: signals are the program's business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: Edge | Operations, settings: Settings) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=Http1Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_max_s),
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it: a client that vanished without a word is found out, even on a silent stream.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _TCP_KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, seconds)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
