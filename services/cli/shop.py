"""A whole shop out of one data folder: broker, five services, edge. What `bodega up` runs, and fault tests.

    async with Shop(tmp_path) as shop:                              # free ports; ready
        await client.post(f"{shop.endpoints.gateway}/api/v1/orders", …)
        shop.programs.kill("payment")                               # see Supervisor for more of this
        await shop.programs.wait_ready()
        await shop.programs.restart("order", {"BODEGA_FAILPOINTS": "order.append.before=exit@2"})

Stopped and started again on the same folder it is the same shop.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.cli import ports, process
from services.cli.certificates import Certificates, NotOurs
from services.cli.data_folder import GATEWAY, NATS, PROVIDER, SERVICES, DataFolder, write_whole
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.plan import PYTHON, Plan, instances
from services.cli.ports import HOST
from services.cli.readiness import edge_with_backends
from services.cli.refusal import Refused
from services.cli.restarts import RestartPolicy
from services.cli.supervisor import READY_EVERY_S, START_MAX_S, DidNotStart, Notice, NotInTime, Supervisor

MIGRATE_MAX_S: Final = 120.0  # a large database on a slow disk
RENEW_EVERY_S: Final = 60.0  # a look takes some milliseconds; a leaf lives for a day


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
        self._instances = {name: instances(name, (replicas or {}).get(name, 1)) for name in SERVICES}
        self._environment = environment or {}
        self._backends = backends or {}
        self._tracing = {"otlp_endpoint": otlp, "sample_ratio": sample_ratio} if otlp else {}
        self._restarts = restarts
        self._on_notice = on_notice
        self._certificates = Certificates(self.folder.certificates)
        self._open = AsyncExitStack()
        self._ports: ports.ShopPorts
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
        self._ports = ports.of_shop(self._gateway_port, self._grpc_port_base, self._instances)
        self.programs = Supervisor(
            self._plan().programs(), logs=self.folder.logs, restarts=self._restarts, on_notice=self._noticed
        )
        await self._open.enter_async_context(self.programs)
        self._open.callback(self.folder.endpoints.unlink, missing_ok=True)  # before anything is stopped
        await self._prepare()
        self._keep_certificates_fresh()
        await self.programs.start(*chain.from_iterable(self._instances.values()), GATEWAY)
        await self.wait_ready()
        self._is_open = True
        self.endpoints.write(self.folder.endpoints)

    def _plan(self) -> Plan:
        return Plan(
            self.folder,
            self._certificates,
            self._ports,
            self._instances,
            environment=self._environment,
            backends=self._backends,
            tracing=self._tracing,
        )

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
        command = (*PYTHON, "-m", "services.cli", "migrate", "--data", str(self.folder.path))
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
