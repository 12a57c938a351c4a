"""Builds an edge and runs it: sockets, channels, start, drain."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import uvicorn
from google.protobuf import descriptor_pb2

from gateway import api_keys, openapi, site
from gateway.access import Access
from gateway.addresses import FORWARDED_FOR, Addresses
from gateway.api_keys import EXCHANGE_RPC, ApiKeys
from gateway.backends import Backends, BadBackend, Channels
from gateway.bodies import BODY_BYTES_MAX
from gateway.edge import Edge
from gateway.errors import Failure
from gateway.health import Health
from gateway.holdings import Bounds, Holdings
from gateway.http1 import Http1Protocol
from gateway.hygiene import BadOrigin, Hygiene
from gateway.isolation import CIRCUITS
from gateway.limits import BadLimit, Plan, RateLimits
from gateway.operations import Operations
from gateway.site import CannotServe
from gateway.streams import Limits
from services.chassis import collector, telemetry
from services.chassis.identity import trust
from services.chassis.identity.config import KEYS_RPC, IdentitySettings
from services.chassis.identity.tokens import Issuer, Tokens
from services.chassis.networks import BadNetwork, networks
from services.chassis.policy import circuit
from services.chassis.policy.limiter import Range
from services.chassis.tls import TlsFiles, TlsRefused
from services.chassis.tracing.config import TracingSettings
from services.chassis.tracing.sampling import Sampling
from services.kernel.clock import Clock, SystemClock

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
    identity: IdentitySettings | None = None
    """Whose tokens are believed: who may ask is then decided here, by the contract, and again by services.
    None: whatever a request gives as its authorization is handed on."""

    rates: Plan | None = None
    """How often one may ask; None: as often as one likes, whatever contracts say."""

    per_address: Bounds = field(default_factory=Bounds)
    """How much one address may hold at once, where `rates` are kept."""

    proxies: tuple[str, ...] = ()
    """Networks of proxies in front of us, whose word for their clients' addresses is taken."""

    forwarded_by: str = FORWARDED_FOR
    """The header in which they give it."""

    origins: tuple[str, ...] = ()
    """Whose pages may read answers, e.g. `https://shop.example`; `*`: everyone's."""

    https_only: bool = False
    """Tells browsers never to come without TLS: someone in front of us ends it."""

    mesh: TlsFiles | None = None
    """Who we are to our backends, which are then mesh ports. None: plaintext, on loopback."""

    backend_plaintext: bool = False
    """Plaintext may leave this machine: something else, a sidecar perhaps, makes it TLS."""

    at_once: Range = site.AT_ONCE
    """How many requests are worked on at once."""

    circuits: circuit.Limits = CIRCUITS
    """When a method that fails is left alone."""

    streams: Limits = field(default_factory=Limits)

    tracing: TracingSettings = field(default_factory=TracingSettings)
    """Of which requests there are spans. Where those go, a process is told once: `tracing.configure`."""


@dataclass(slots=True)
class Gateway:
    """An edge that is built and not yet running."""

    site: site.Site
    settings: Settings
    backends: Backends
    openapi: bytes
    hygiene: Hygiene
    addresses: Addresses
    rates: RateLimits | None
    connections: Holdings | None
    bodies: Holdings | None
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
        addresses = Addresses(settings.proxies, header=settings.forwarded_by)
        rates = None if settings.rates is None else RateLimits(settings.rates, SystemClock())
    except (BadBackend, BadOrigin, BadNetwork, BadLimit) as error:
        raise CannotServe(str(error)) from None
    built = site.build(
        files,
        targets,
        with_access=settings.identity is not None,
        at_once=settings.at_once,
        circuits=settings.circuits,
    )
    if settings.identity is not None and not settings.identity.oidc and KEYS_RPC not in built.methods:
        raise CannotServe(f"nobody's tokens could be believed: no {KEYS_RPC}, and no issuer outside")
    described = openapi.document(built.routes, files.file)
    gateway = Gateway(built, settings, targets, described, hygiene, addresses, rates, None, None)
    if settings.rates is not None:
        exempt, bounds = settings.rates.exempt, settings.per_address
        # A proxy's connections are those of all its clients.
        gateway.connections = Holdings(
            "connections", bounds.connections, networks((*exempt, *settings.proxies))
        )
        gateway.bodies = Holdings("bodies", bounds.bodies, networks(exempt))
    for counting in (rates, gateway.connections, gateway.bodies):
        if counting is not None:
            counting.on_refusal = built.metrics.rate_limited
    return gateway


def settle() -> None:
    """For programs, once they serve: the collector is spared what start made, and looks less often, too.

    Requests leave next to nothing for it. Together 1 to 4 % of the CPU per request.
    """
    collector.spare()
    gc.set_threshold(20_000, 50, 100)


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
        addresses=gateway.addresses,
        rates=gateway.rates,
        body_bytes_max=settings.body_bytes_max,
        bodies=gateway.bodies,
        sampling=Sampling(settings.tracing.ratio),
    )
    listeners = [_listen(settings.host, settings.port)]
    servers = [_server(edge, settings, gateway.connections)]
    if settings.operations_port is not None:
        try:
            listeners.append(_listen(settings.host, settings.operations_port))
        except CannotServe:
            listeners[0].close()
            raise
        servers.append(_server(Operations(gateway.site.metrics.registry, gateway.health), settings))
    ports = [listener.getsockname()[1] for listener in listeners]
    async with (
        _open_channels(gateway) as channels,
        _guarding(gateway, channels) as edge.access,
        _keeping(gateway.site.isolation.keep_time(), "time"),
        nullcontext() if gateway.rates is None else aclosing(gateway.rates),
        _serving(servers, listeners) as tasks,
    ):
        gateway.health.started = True
        try:
            yield Running(ports[0], ports[1] if len(ports) > 1 else None, tasks)
        finally:
            gateway.health.draining = True
            edge.drain()


@asynccontextmanager
async def _keeping(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    keeper = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])


@asynccontextmanager
async def _open_channels(gateway: Gateway) -> AsyncIterator[Channels]:
    channels = Channels(gateway.settings.mesh, plaintext=gateway.settings.backend_plaintext)
    try:
        for route in gateway.site.routes:
            if not route.takes_stream:
                open_method = channels.unary if route.stream is None else channels.stream
                route.call = open_method(route.target, route.method.path)
        channels.connect()
        gateway.health.backends = channels.states
        yield channels
    except TlsRefused as refused:
        raise CannotServe(str(refused)) from None
    finally:
        for route in gateway.site.routes:
            route.call = None
        await channels.close()


@asynccontextmanager
async def _guarding(gateway: Gateway, channels: Channels) -> AsyncIterator[Access | None]:
    """Knows whose tokens to believe, and keeps their keys fresh, while inside."""
    settings = gateway.settings.identity
    if settings is None:
        yield None
        return
    clock = SystemClock()
    tokens = Tokens(clock)
    keepers = []
    for issuer in _issuers(gateway, settings, channels, clock):
        tokens.trust(issuer)
        keepers.append(asyncio.create_task(issuer.keys.run(), name=f"keys of {issuer.name}"))
    try:
        yield Access(tokens, _api_keys(gateway, channels, clock))
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.wait(keepers)


def _issuers(
    gateway: Gateway, settings: IdentitySettings, channels: Channels, clock: Clock
) -> Iterator[Issuer]:
    for outside in settings.oidc:
        yield trust.external(outside, clock=clock)
    own = gateway.site.methods.get(KEYS_RPC)
    if own is not None:
        target = gateway.backends.target(own.service)
        yield trust.own(settings, trust.from_rpc(channels.unary(target, KEYS_RPC)), clock=clock)


def _api_keys(gateway: Gateway, channels: Channels, clock: Clock) -> ApiKeys | None:
    exchange = gateway.site.methods.get(EXCHANGE_RPC)
    if exchange is None:
        return None
    target = gateway.backends.target(exchange.service)
    call = gateway.site.isolation.guarded(target, exchange, channels.unary(target, EXCHANGE_RPC))
    return ApiKeys(api_keys.by_rpc(call, clock), clock)


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


def _server(app: Edge | Operations, settings: Settings, connections: Holdings | None = None) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=partial(Http1Protocol, holdings=connections),  # type: ignore[arg-type]  # makes one
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
