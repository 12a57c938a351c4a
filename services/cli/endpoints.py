"""`endpoints.json`: where everything of a running shop is. Written by `up`, read by the other commands."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.data_folder import OPERATOR, DataFolder, write_whole
from services.cli.refusal import Refused

if TYPE_CHECKING:
    from services.chassis.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """One service."""

    grpc: str
    """`host:port` for guests, in plaintext."""

    http: str
    """`host:port` of its health and metrics."""

    pid: int
    database: str
    """Path of its SQLite file, or the address of another database."""

    mesh: str = ""
    """`host:port` for workloads, which show their certificates."""

    provider_database: str = ""
    """Payment only: the sandbox provider's books."""

    replicas: "dict[str, ServiceEndpoint]" = field(default_factory=dict)
    """By program, where there are several; what else is said here is of the first one."""

    def programs(self, name: str) -> "dict[str, ServiceEndpoint]":
        """Every process of the service of this name."""
        return self.replicas or {name: self}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A whole shop."""

    gateway: str
    """`http://host:port`."""

    nats: str
    """`nats://host:port`."""

    services: dict[str, ServiceEndpoint]

    certificates: str = ""
    """The folder they are in."""

    gateway_operations: str = ""
    """`host:port` of the edge's health and metrics."""

    gateway_pid: int | None = None
    nats_pid: int | None = None

    @property
    def programs(self) -> dict[str, ServiceEndpoint]:
        """Every process of every service: `order`, or `order-1` and `order-2`."""
        return {
            program: at
            for name, service in self.services.items()
            for program, at in service.programs(name).items()
        }

    def identity(self, workload: str = OPERATOR) -> "TlsFiles | None":
        """With which a workload of this shop connects to mesh ports and the broker; None if it has no TLS."""
        from services.cli.certificates import papers  # noqa: PLC0415 (heavy)

        return papers(Path(self.certificates) / workload) if self.certificates else None

    def write(self, path: Path) -> None:
        """The file appears whole or not at all."""
        content = asdict(self)
        content["services"] = {name: _shown(service) for name, service in content["services"].items()}
        write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def read(folder: DataFolder) -> Endpoints:
    """Where the shop of this folder is. Raises Refused if none is running or ready."""
    none = f"no shop is running on {folder.path}; start one with `bodega up`"
    try:
        content = folder.endpoints.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(none) from None
    except OSError as error:
        raise Refused(f"{folder.endpoints} cannot be read: {error.strerror}") from None
    if not folder.is_in_use:
        raise Refused(none)  # a shop that was killed could not take its file along
    try:
        return _parsed(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(f"{folder.endpoints} is not what `bodega up` writes") from None


def _shown(service: dict[str, Any]) -> dict[str, Any]:
    """Without what most services do not have."""
    replicas = {name: _shown(replica) for name, replica in service["replicas"].items()}
    rare = {"provider_database": service["provider_database"], "replicas": replicas}
    return {
        **{key: said for key, said in service.items() if key not in rare},
        **{key: said for key, said in rare.items() if said},
    }


def _parsed(content: dict[str, Any]) -> Endpoints:
    services = {name: _service(service) for name, service in content["services"].items()}
    return Endpoints(**{**content, "services": services})


def _service(content: dict[str, Any]) -> ServiceEndpoint:
    replicas = {name: _service(replica) for name, replica in content.get("replicas", {}).items()}
    return ServiceEndpoint(**{**content, "replicas": replicas})
