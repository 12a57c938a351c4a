"""A whole shop out of one data folder: broker, five services, edge. What `bodega up` runs, and fault tests.

    async with Shop(tmp_path) as shop:                              # free ports; ready
        await client.post(f"{shop.endpoints.gateway}/api/v1/orders", …)
        shop.programs.kill("payment")                               # see Supervisor for more of this
        await shop.programs.wait_ready()
        await shop.programs.restart("order", {"BODEGA_FAILPOINTS": "order.append.before=exit@2"})

Stopped and started again on the same folder it is the same shop.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.cli import ports, process
from services.cli.certificates import Certificates, NotOurs, papers
from services.cli.data_folder import OPERATOR, PROVIDER, SERVICES, DataFolder, sqlite_url, write_whole
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.ports import HOST
from services.cli.readiness import edge_with_backends, http_ok, nats_with_jetstream
from services.cli.refusal import Refused
from services.cli.restarts import RestartPolicy
from services.cli.supervisor import (
    READY_EVERY_S,
    START_MAX_S,
    DidNotStart,
    Notice,
    NotInTime,
    Program,
    Supervisor,
)

NATS: Final = "nats"
GATEWAY: Final = "gateway"
PROGRAMS: Final = (NATS, *SERVICES, GATEWAY)

_THIS_MACHINE: Final = ("127.0.0.0/8", "::1/128")  # shoppers at random, load tests: none of them an attack

MIGRATE_MAX_S: Final = 120.0  # a large database on a slow disk
RENEW_EVERY_S: Final = 60.0  # a look takes some milliseconds; a leaf lives for a day
DRAIN_GRACE_S: Final = 10.0  # what a service may take to answer what it has begun
DRAIN_DELAY_S: Final = 0.5  # of replicas: callers hear within milliseconds that one is about to go

# Stopped from the edge inwards: whoever calls goes before whoever is called; the broker is last, so that
# what was committed in the end is still published.
_STAGES: Final = {GATEWAY: 3, "order": 2, NATS: 0}
_STAGE_OF_OTHERS: Final = 1

# -P: a folder named `services` in the directory of whoever runs the shop is not taken for ours.
_PYTHON: Final = (sys.executable, "-P")


@dataclass(frozen=True, slots=True)
class _Ports:
    nats: int
    gateway: int
    gateway_operations: int

    # By program.
    grpc: dict[str, int]
    mesh: dict[str, int]
    operations: dict[str, int]


class Shop:
    """Everything that runs for one shop; a context manager that starts and stops it.

    Port 0 takes any free one; `grpc_port_base` is the first of five in a row. `environment` has further
    variables for programs by name, `database` the address of a PostgreSQL server for a folder that is
    new or had its databases there before, `backends` where the edge finds services by name, if there is
    something in between. `replicas` says of which services there are several: they are the programs
    `order-1`, `order-2` then, and what is meant for `order` is for each of them. Spans, of so many
    requests, go to the collector at `otlp`. Starting raises Refused if it cannot be done here, and then
    leaves nothing running.
    """

    def __init__(
        self,
        data: Path,
        *,
        gateway_port: int = 0,
        grpc_port_base: int = 0,
        database: str = "",
        replicas: Mapping[str, int] | None = None,
        environment: Mapping[str, Mapping[str, str]] | None = None,
        backends: Mapping[str, str] | None = None,
        otlp: str = "",
        sample_ratio: float = 1.0,
        restarts: RestartPolicy | None = None,
        on_notice: Callable[[Notice], None] = lambda _notice: None,
    ) -> None:
        self.folder = DataFolder(data)
        self.programs: Supervisor
        """What runs; there once the shop was started."""

        self._gateway_port = gateway_port
        self._grpc_port_base = grpc_port_base
        self._database = database
        self._instances = {name: _instances(name, (replicas or {}).get(name, 1)) for name in SERVICES}
        self._environment = environment or {}
        self._backends = backends or {}
        self._tracing = {"otlp_endpoint": otlp, "sample_ratio": sample_ratio} if otlp else {}
        self._restarts = restarts
        self._on_notice = on_notice
        self._certificates = Certificates(self.folder.certificates)
        self._open = AsyncExitStack()
        self._ports: _Ports
        self._is_open = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts everything; returns when all of it is ready and `endpoints.json` says so."""
        try:
            await self._start()
        except (DidNotStart, NotInTime, NotOurs, OSError) as failure:
            await self.stop()
            raise Refused(str(failure)) from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops everything, edge first, broker last; no process stays behind."""
        self._is_open = False
        await self._open.aclose()

    async def wait_ready(self) -> None:
        """Waits until every program is ready and the edge is connected to every service.

        For those who had programs killed: an edge whose service was away looks for it only now and then.
        Raises NotInTime.
        """
        await self.programs.wait_ready()
        connected = edge_with_backends(HOST, self._ports.gateway_operations)
        try:
            async with asyncio.timeout(START_MAX_S):
                while not await connected():  # noqa: ASYNC110 (nobody tells us; we have to ask)
                    await asyncio.sleep(READY_EVERY_S)
        except TimeoutError:
            raise NotInTime(f"{GATEWAY} has no connection to every service") from None

    @property
    def endpoints(self) -> Endpoints:
        """Where everything is at this moment."""
        return Endpoints(
            gateway=f"http://{HOST}:{self._ports.gateway}",
            nats=f"nats://{HOST}:{self._ports.nats}",
            services={name: self._endpoint(name) for name in SERVICES},
            certificates=str(self.folder.certificates),
            gateway_operations=self.gateway_operations,
            gateway_pid=self.programs.pid(GATEWAY),
            nats_pid=self.programs.pid(NATS),
        )

    @property
    def gateway_operations(self) -> str:
        """`host:port` of the edge's own health and metrics."""
        return f"{HOST}:{self._ports.gateway_operations}"

    def instances(self, service: str) -> tuple[str, ...]:
        """The programs that are this service."""
        return self._instances[service]

    def _endpoint(self, service: str) -> ServiceEndpoint:
        replicas = {program: self._replica(service, program) for program in self._instances[service]}
        first = next(iter(replicas.values()))
        return replace(first, replicas=replicas) if len(replicas) > 1 else first

    def _replica(self, service: str, program: str) -> ServiceEndpoint:
        return ServiceEndpoint(
            grpc=f"{HOST}:{self._ports.grpc[program]}",
            http=f"{HOST}:{self._ports.operations[program]}",
            pid=self.programs.pid(program),
            database=self.folder.address(service),
            mesh=f"{HOST}:{self._ports.mesh[program]}",
            provider_database=self.folder.address(PROVIDER) if service == "payment" else "",
        )

    async def _start(self) -> None:
        self.folder.create()
        self._open.enter_context(self.folder.locked())
        if self._database:
            self.folder.keep_on(self._database)
        several = [name for name, programs in self._instances.items() if len(programs) > 1]
        if several and not self.folder.server:
            raise Refused(
                f"several of {', '.join(several)} want --database postgresql://…:"
                " a SQLite file has one process that writes"
            )
        self.folder.endpoints.unlink(missing_ok=True)  # of a shop that was killed
        self._ports = _chosen_ports(self._gateway_port, self._grpc_port_base, self._instances)
        self.programs = Supervisor(
            self._programs(), logs=self.folder.logs, restarts=self._restarts, on_notice=self._noticed
        )
        await self._open.enter_async_context(self.programs)
        self._open.callback(self.folder.endpoints.unlink, missing_ok=True)  # before anything is stopped
        await self._prepare()
        self._keep_certificates_fresh()
        await self.programs.start(*chain.from_iterable(self._instances.values()), GATEWAY)
        await self.wait_ready()
        self._is_open = True
        self.endpoints.write(self.folder.endpoints)

    async def _prepare(self) -> None:
        """What the services need, side by side."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._start_nats())
                tasks.create_task(self._migrate())
                tasks.create_task(asyncio.to_thread(self._describe))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def _noticed(self, notice: Notice) -> None:
        if notice.event == "ready" and self._is_open:
            try:
                self.endpoints.write(self.folder.endpoints)  # it has a new pid
            except OSError as error:
                self._on_notice(Notice(notice.name, "hidden", f"{self.folder.endpoints}: {error.strerror}"))
        self._on_notice(notice)

    async def _start_nats(self) -> None:
        await asyncio.to_thread(self._certificates.renew)  # the broker is the first to need one
        await self.programs.start(NATS)

    def _keep_certificates_fresh(self) -> None:
        renewing = asyncio.create_task(self._renew_certificates(), name="certificates")

        async def end() -> None:
            renewing.cancel()
            await asyncio.wait({renewing})

        self._open.push_async_callback(end)

    async def _renew_certificates(self) -> None:
        """Programs look at their files themselves; the broker looks when it is told to."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                renewed = await asyncio.to_thread(self._certificates.renew)
            except (NotOurs, OSError) as problem:
                self._on_notice(Notice("certificates", "stale", str(problem)))
                continue
            if NATS in renewed:
                self.programs.kill(NATS, signal.SIGHUP)

    async def _migrate(self) -> None:
        """In a process of its own: what it takes to know about schemas would stay in this one's memory."""
        log = self.folder.log("migrate")
        command = (*_PYTHON, "-m", "services.cli", "migrate", "--data", str(self.folder.path))
        running = await process.Process.start(command, environment=os.environ, log=log)
        try:
            code = await asyncio.wait_for(running.wait(), MIGRATE_MAX_S)
        except TimeoutError:
            raise DidNotStart(f"migrations are not done after {MIGRATE_MAX_S:g} s; see {log}") from None
        finally:
            await running.end(0)
        if code:
            raise DidNotStart(f"migrations failed: {process.last_line(log)}")

    def _describe(self) -> None:
        from services.chassis.flags import file_of  # noqa: PLC0415 (protobuf; while others start)
        from services.cli import contracts, flags  # noqa: PLC0415

        write_whole(self.folder.descriptor_set, contracts.descriptor_set())
        if not self.folder.flags.exists():
            write_whole(self.folder.flags, file_of(flags.ALL).encode())

    def _programs(self) -> list[Program]:
        return [
            self._program(NATS, self._nats_command()),
            *(self._service(name, program) for name in SERVICES for program in self._instances[name]),
            self._program(GATEWAY, self._gateway_command()),
        ]

    def _program(self, name: str, argv: tuple[str, ...]) -> Program:
        ready = (
            nats_with_jetstream(HOST, self._ports.nats)
            if name == NATS
            else http_ok(HOST, self._ports.gateway, "/health/ready")
        )
        return Program(
            name, argv, ready=ready, environment=self._environment.get(name, {}), stage=_STAGES[name]
        )

    def _service(self, name: str, program: str) -> Program:
        return Program(
            program,
            (*_PYTHON, "-m", f"services.{name}"),
            ready=http_ok(HOST, self._ports.operations[program], "/health/ready"),
            environment={
                **self._settings(name, program),
                **self._environment.get(name, {}),
                **self._environment.get(program, {}),
            },
            stage=_STAGES.get(name, _STAGE_OF_OTHERS),
        )

    def _nats_command(self) -> tuple[str, ...]:
        from services.chassis.events.permissions import users  # noqa: PLC0415
        from services.chassis.events.server import MissingBinary, NatsServer  # noqa: PLC0415

        broker = NatsServer(
            self.folder.nats,
            host=HOST,
            port=self._ports.nats,
            tls=papers(self._certificates.folder / NATS),
            users=users(SERVICES, operator=OPERATOR),
        )
        try:
            command = broker.command()
        except MissingBinary as missing:
            raise Refused(str(missing)) from None
        return (str(Path(command[0]).absolute()), *command[1:], "-l", str(self.folder.log(NATS)))

    def _gateway_command(self) -> tuple[str, ...]:
        from services.cli import contracts  # noqa: PLC0415 (protobuf)

        backends = [
            f"--backend={service}={self._backends.get(name, self._mesh(name))}"
            for name in SERVICES
            for service in contracts.service_names(name)
        ]
        return (
            *(*_PYTHON, "-m", "gateway", f"--descriptor-set={self.folder.descriptor_set}", *backends),
            *(f"--host={HOST}", f"--port={self._ports.gateway}"),
            f"--operations-port={self._ports.gateway_operations}",
            "--access",
            f"--mesh-certificate={self._certificates.of(GATEWAY)}",
            f"--mesh-authorities={self._certificates.authorities(GATEWAY)}",
            *(f"--limit-exempt={network}" for network in _THIS_MACHINE),
            *(f"--{key.replace('_', '-')}={value}" for key, value in self._tracing.items()),
        )

    def _mesh(self, service: str) -> str:
        """Where workloads find it: a gRPC target with every instance."""
        addresses = [f"{HOST}:{self._ports.mesh[program]}" for program in self._instances[service]]
        return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"

    def _settings(self, name: str, program: str) -> dict[str, str]:
        """What an instance of a service is told; secrets come as files, whose folder is named."""
        mesh = {other: self._mesh(other) for other in SERVICES}
        settings: dict[str, object] = {
            "tls__certificate": self._certificates.of(name),
            "tls__authorities": self._certificates.authorities(name),
            "mesh_port": self._ports.mesh[program],
            "grpc_port": self._ports.grpc[program],
            "guests_plaintext": True,
            "operations_port": self._ports.operations[program],
            "database_url": sqlite_url(self.folder.address(name)),
            "nats_url": f"nats://{HOST}:{self._ports.nats}",
            "flags_file": self.folder.flags,
            "drain_grace_s": DRAIN_GRACE_S,
            "rates_exempt": json.dumps(_THIS_MACHINE),
        }
        settings |= {f"tracing__{key}": value for key, value in self._tracing.items()}
        if name != "user":  # which signs, and reads its own table
            settings["identity__keys_target"] = mesh["user"]
        if name == "order":
            settings |= {f"{other}_target": mesh[other] for other in ("user", "inventory", "payment")}
        if name == "notification":
            settings["user_target"] = mesh["user"]
        if name == "payment":
            settings["provider_database_url"] = sqlite_url(self.folder.address(PROVIDER))
        if program != name:
            settings["drain_delay_s"] = DRAIN_DELAY_S
            if name in ("order", "payment"):
                settings["driver"] = program  # whose leases are whose
        variables = {f"BODEGA_{name}__{key}".upper(): str(value) for key, value in settings.items()}
        return {**variables, "BODEGA_SECRETS_DIR": str(self.folder.secrets)}


def _instances(service: str, count: int) -> tuple[str, ...]:
    return (service,) if count == 1 else tuple(f"{service}-{number}" for number in range(1, count + 1))


def _chosen_ports(gateway: int, grpc_base: int, instances: Mapping[str, Sequence[str]]) -> _Ports:
    """The ports asked for, which first instances get, and free ones for the rest.

    Raises Refused for one that is in use.
    """
    programs = [program for name in SERVICES for program in instances[name]]
    grpc = (
        {instances[name][0]: grpc_base + offset for offset, name in enumerate(SERVICES)} if grpc_base else {}
    )
    wanted = {GATEWAY: (gateway, "--gateway-port")} if gateway else {}
    wanted |= {name: (port, "--grpc-port-base") for name, port in grpc.items()}
    for name, (port, option) in wanted.items():
        if port > ports.PORT_MAX:
            raise Refused(f"there is no port {port} for {name}; choose a lower one with {option}")
        if not ports.is_free(port):
            raise Refused(f"port {port}, wanted for {name}, is in use; choose another with {option}")
    ports.reserve(port for port, _ in wanted.values())
    count = 2 + 3 * len(programs) - len(grpc) + (0 if gateway else 1)
    chosen = iter(ports.free(count))
    return _Ports(
        nats=next(chosen),
        gateway_operations=next(chosen),
        operations={program: next(chosen) for program in programs},
        mesh={program: next(chosen) for program in programs},
        grpc={program: grpc[program] if program in grpc else next(chosen) for program in programs},
        gateway=gateway or next(chosen),
    )
