"""Which programs a shop is: the command line of each, and what it is told."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.cli.certificates import Certificates, papers
from services.cli.data_folder import GATEWAY, NATS, OPERATOR, PROVIDER, SERVICES, DataFolder, sqlite_url
from services.cli.ports import HOST, ShopPorts
from services.cli.readiness import http_ok, nats_with_jetstream
from services.cli.refusal import Refused
from services.cli.supervisor import Program

DRAIN_GRACE_S: Final = 10.0  # what a service may take to answer what it has begun
DRAIN_DELAY_S: Final = 0.5  # of replicas: callers hear within milliseconds that one is about to go

# -P: a folder named `services` in the directory of whoever runs the shop is not taken for ours.
PYTHON: Final = (sys.executable, "-P")

_THIS_MACHINE: Final = ("127.0.0.0/8", "::1/128")  # shoppers at random, load tests: none of them an attack

# Stopped from the edge inwards: whoever calls goes before whoever is called; the broker is last, so that
# what was committed in the end is still published.
_STAGES: Final = {GATEWAY: 3, "order": 2, NATS: 0}
_STAGE_OF_OTHERS: Final = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs for a shop; `Shop` says what the fields mean that have its arguments' names."""

    folder: DataFolder
    certificates: Certificates
    ports: ShopPorts
    instances: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, Mapping[str, str]]
    backends: Mapping[str, str]
    tracing: Mapping[str, object]

    def programs(self) -> list[Program]:
        return [
            self._program(NATS, self._nats_command()),
            *(self._service(name, program) for name in SERVICES for program in self.instances[name]),
            self._program(GATEWAY, self._gateway_command()),
        ]

    def _program(self, name: str, argv: tuple[str, ...]) -> Program:
        ready = (
            nats_with_jetstream(HOST, self.ports.nats)
            if name == NATS
            else http_ok(HOST, self.ports.gateway, "/health/ready")
        )
        return Program(
            name, argv, ready=ready, environment=self.environment.get(name, {}), stage=_STAGES[name]
        )

    def _service(self, name: str, program: str) -> Program:
        return Program(
            program,
            (*PYTHON, "-m", f"services.{name}"),
            ready=http_ok(HOST, self.ports.operations[program], "/health/ready"),
            environment={
                **self._settings(name, program),
                **self.environment.get(name, {}),
                **self.environment.get(program, {}),
            },
            stage=_STAGES.get(name, _STAGE_OF_OTHERS),
        )

    def _nats_command(self) -> tuple[str, ...]:
        from services.chassis.events.permissions import users  # noqa: PLC0415
        from services.chassis.events.server import MissingBinary, NatsServer  # noqa: PLC0415

        broker = NatsServer(
            self.folder.nats,
            host=HOST,
            port=self.ports.nats,
            tls=papers(self.certificates.folder / NATS),
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
            f"--backend={service}={self.backends.get(name, self._mesh(name))}"
            for name in SERVICES
            for service in contracts.service_names(name)
        ]
        return (
            *(*PYTHON, "-m", "gateway", f"--descriptor-set={self.folder.descriptor_set}", *backends),
            *(f"--host={HOST}", f"--port={self.ports.gateway}"),
            f"--operations-port={self.ports.gateway_operations}",
            "--access",
            f"--mesh-certificate={self.certificates.of(GATEWAY)}",
            f"--mesh-authorities={self.certificates.authorities(GATEWAY)}",
            *(f"--limit-exempt={network}" for network in _THIS_MACHINE),
            *(f"--{key.replace('_', '-')}={value}" for key, value in self.tracing.items()),
        )

    def _mesh(self, service: str) -> str:
        """Where workloads find it: a gRPC target with every instance."""
        addresses = [f"{HOST}:{self.ports.mesh[program]}" for program in self.instances[service]]
        return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"

    def _settings(self, name: str, program: str) -> dict[str, str]:
        """What an instance of a service is told; secrets come as files, whose folder is named."""
        mesh = {other: self._mesh(other) for other in SERVICES}
        settings: dict[str, object] = {
            "tls__certificate": self.certificates.of(name),
            "tls__authorities": self.certificates.authorities(name),
            "mesh_port": self.ports.mesh[program],
            "grpc_port": self.ports.grpc[program],
            "guests_plaintext": True,
            "operations_port": self.ports.operations[program],
            "database_url": sqlite_url(self.folder.address(name)),
            "nats_url": f"nats://{HOST}:{self.ports.nats}",
            "flags_file": self.folder.flags,
            "drain_grace_s": DRAIN_GRACE_S,
            "rates_exempt": json.dumps(_THIS_MACHINE),
        }
        settings |= {f"tracing__{key}": value for key, value in self.tracing.items()}
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


def instances(service: str, count: int) -> tuple[str, ...]:
    """The names of so many programs of a service."""
    return (service,) if count == 1 else tuple(f"{service}-{number}" for number in range(1, count + 1))
