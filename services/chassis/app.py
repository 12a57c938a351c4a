"""The life of a server process: bind, start, announce healthy, serve, drain, leave.

Services are put together by `service.opened`; a server that is none does it by hand:

    async def run(settings: ServiceSettings) -> None:
        server = app.App(settings, access=Access(tokens, workload_of))
        server.serve(add_EchoServicer_to_server, Echo(), echo_pb2.DESCRIPTOR)
        server.check("database", store.ready)
        server.background("sweeper", sweeper.run)
        await server.run()

    app.main(run(app.begin(ServiceSettings, "echo")))
"""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

from services.chassis import collector, config, event_loop, failpoints, telemetry, tracing
from services.chassis.background import Background, Work
from services.chassis.client import MESSAGE_BYTES_MAX
from services.chassis.client.balancing import PING_AGAIN_AFTER_MS
from services.chassis.config import ServiceSettings
from services.chassis.contract import STREAM_DEADLINE_MAX_S
from services.chassis.fault import FailpointsRefused
from services.chassis.flags import SHEDDING, Flags
from services.chassis.health import CheckFn, Health
from services.chassis.identity.workload import workload_of
from services.chassis.metrics import LimiterFigures, Metrics
from services.chassis.operations import Operations, answering
from services.chassis.server import AddToServer, Denied, Onion
from services.chassis.server.gate import Gate
from services.chassis.server.rates import Rates
from services.chassis.tls import Identity, TlsRefused
from services.chassis.tracing.sampling import Sampling
from services.kernel.clock import Clock, SystemClock
from services.kernel.ids import TimeOrderedIds

_log = telemetry.logger("app")

EXIT_REFUSED: Final = 2
CLEANUP_MAX_S: Final = 5.0  # for the `finally` of handlers that were cancelled when their grace ended

METADATA_BYTES_MAX: Final = 8 * 1024  # a token and the ids of a call are two
STREAMS_MAX: Final = 8192  # per connection: the edge's five thousand streams, and calls, come by one
CONNECTION_AGE_S: Final = 1800  # give or take a tenth, says grpc: so long may callers miss a new replica
CONNECTION_GRACE_S: Final = int(STREAM_DEADLINE_MAX_S)  # what was begun on an old connection ends there

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # else two servers share a port in silence
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),  # else what is in between passes by chance
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1000),
    ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_S * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_AGAIN_AFTER_MS),
)

S = TypeVar("S", bound=ServiceSettings)


class StartRefused(Exception):
    """The program cannot start here; the message is the one line that says why."""


class App:
    """One server: servicers behind the onion, background work, checks, and their common life."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        access: Gate,
        denied: Denied | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`access` decides who is let in; `denied` is told who was not."""
        self.settings = settings
        clock = clock or SystemClock()
        self.instance = TimeOrderedIds(clock).new()
        """Tells this process from others of its service: at the broker, and to who collects spans."""

        self.metrics = metrics or Metrics()
        self.health = Health()
        self.mesh_address = ""
        """Where workloads call, by certificate; empty without one of ours."""

        self.grpc_address = ""
        """Where guests call."""

        self.operations_address = ""
        sampling = Sampling(settings.tracing.ratio, is_neighbour=workload_of)
        self._onion = Onion(
            self.metrics,
            clock,
            access,
            denied=denied,
            rates=Rates(clock.monotonic, settings.rates_exempt),
            sampling=sampling,
        )
        self.metrics.registry.register(LimiterFigures("grpc_server", self._onion.limiter))
        self._background = Background(clock)
        self._background.add("health", self.health.run)
        self._servicers: list[tuple[AddToServer[Any], Any, tuple[FileDescriptor, ...]]] = []
        self._stop = asyncio.Event()
        self._on_drain: list[Callable[[], None]] = []

    def serve(self, add_to_server: AddToServer[Any], servicer: Any, *files: FileDescriptor) -> None:
        """Serves a servicer of services declared in these files; before running."""
        self._servicers.append((add_to_server, servicer, files))

    def background(self, name: str, work: Work) -> None:
        """Runs beside the requests: restarted when it crashes, cancelled after the last request's answer."""
        self._background.add(name, work)

    def on_drain(self, act: Callable[[], None]) -> None:
        """Has `act` called when draining begins: to end streams, which else hold it up for all its grace."""
        self._on_drain.append(act)

    def check(self, name: str, fn: CheckFn, *, required: bool = True) -> None:
        """A dependency: see `Health.check`."""
        self.health.check(name, fn, required=required)

    def heed(self, flags: Flags) -> None:
        """Has flags followed, ours too, while it runs."""
        flags.follow(SHEDDING, self._onion.limiter.enforce)
        if flags.has_file:
            self.check("flags", flags.ready, required=False)
            self.background("flags", flags.run)

    async def run(self) -> None:
        """Serves until SIGTERM, SIGINT or `stop`, then drains; a second signal leaves at once.

        Raises StartRefused if a port is taken.
        """
        told = self.settings
        tracing.configure(told.tracing, service=told.service, instance=self.instance)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            async with self.running():
                collector.spare()
                await self._stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Makes `run` drain and return."""
        self._stop.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["App"]:
        """Serves while inside; leaving drains. Inside, addresses are known and the checks have run once."""
        with _listener(self.settings) as listener:
            server = grpc.aio.server(options=OPTIONS)
            services = await self._register(server)
            self._bind(server)
            self.operations_address = _address(self.settings.operations_host, listener.getsockname()[1])
            async with answering(Operations(self.health, self.metrics), listener), self._background:
                self.health.announce(services)
                await server.start()
                try:
                    await self.health.refresh()
                    _log.info(
                        "started",
                        mesh=self.mesh_address,
                        grpc=self.grpc_address,
                        operations=self.operations_address,
                    )
                    yield self
                finally:
                    await self._drain(server)
        _log.info("stopped")

    def _bind(self, server: grpc.aio.Server) -> None:
        """Two doors to the same onion, since grpc cannot ask for a certificate without insisting on one."""
        told = self.settings
        identity = Identity(told.tls) if told.tls else None
        if identity:
            credentials = identity.for_server(asks_who_calls=True)
            self.mesh_address = _bind(server, told.mesh_host, told.mesh_port, credentials)
            self.metrics.gauge(
                "tls_certificate_ends_timestamp_seconds",
                "When our certificate ends; it should be replaced long before.",
                identity.ends_at,
            )
        guests = None if told.guests_plaintext or not identity else identity.for_server(asks_who_calls=False)
        self.grpc_address = _bind(server, told.grpc_host, told.grpc_port, guests)

    async def _register(self, server: grpc.aio.Server) -> list[str]:
        services = [
            service
            for add_to_server, servicer, files in self._servicers
            for service in self._onion.serve(server, add_to_server, servicer, *files)
        ]
        # These two stay outside the onion: probes every second are noise in its logs and figures.
        health_pb2_grpc.add_HealthServicer_to_server(self.health.grpc, server)
        if self.settings.serves_reflection:
            names = [*services, HEALTH_SERVICE, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server)
        return services

    async def _drain(self, server: grpc.aio.Server) -> None:
        _log.info("draining", in_flight=self._onion.in_flight.count)
        self.health.drain()
        await asyncio.sleep(self.settings.drain_delay_s)
        self.health.grpc.end_watches()
        for act in self._on_drain:
            act()
        await server.stop(self.settings.drain_grace_s)
        try:
            async with asyncio.timeout(CLEANUP_MAX_S):
                await self._onion.in_flight.idle()
        except TimeoutError:
            _log.error("handlers do not end", in_flight=self._onion.in_flight.count)

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            _log.warning("leaving at once", signal=signal.Signals(number).name)
            telemetry.flush_logs()
            os._exit(128 + number)
        _log.info("asked to stop", signal=signal.Signals(number).name)
        self._stop.set()


def begin(kind: type[S], service: str) -> S:
    """What every program does first: settings, log, failpoints. Mistakes end it with code 2."""
    settings = config.load_or_exit(kind, service)
    telemetry.configure_logging(service, settings.log_level)
    try:
        failpoints.configure_from_environment(production=settings.production)
    except FailpointsRefused as refused:
        _refuse(service, str(refused))
    return settings


def main(program: Coroutine[Any, Any, None]) -> None:
    """Runs a program's coroutine to its end; what keeps it from starting is told in one line, exit code 2."""
    try:
        event_loop.run(program)
    except (StartRefused, TlsRefused) as refused:
        _refuse("cannot start", str(refused))
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        tracing.close()
        telemetry.flush_logs()


def _refuse(who: str, why: str) -> None:
    print(f"{who}: {why}", file=sys.stderr)  # noqa: T201 (for the person at the terminal)
    raise SystemExit(EXIT_REFUSED)


def _listener(settings: ServiceSettings) -> socket.socket:
    return _bound(settings.operations_host, settings.operations_port)


def _bind(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> str:
    """Listens there, in plaintext without credentials; the address it became. Raises StartRefused."""
    address = _address(host, port)
    if port:
        # grpc tells of a port in use with a page of C++; ours is one line.
        _bound(host, port).close()
    try:
        bound = (
            server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        )
    except RuntimeError:
        raise StartRefused(f"cannot listen on {address}") from None
    return _address(host, bound)


def _bound(host: str, port: int) -> socket.socket:
    """A TCP socket on this address; raises StartRefused."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen()  # bound alone, a second one might bind beside it
        except OSError:
            bound.close()
            raise
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise StartRefused(f"{_address(host, port)} {why}") from None
    return bound


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
