"""Where each service's calls go: one channel per backend, one callable per method."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from services.chassis.client import balancing
from services.chassis.client.line import Line
from services.chassis.identity.workload import workload_serving
from services.chassis.tls import TlsFiles

Call = Callable[..., Any]

# A bare reply, as many bytes as a bare request may have.
_MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
_ADDRESSES: Final = ("ipv4:", "ipv6:")
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),  # retries belong to one layer, and the edge is not it
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
)


class BadBackend(ValueError):
    """The backends given cannot serve the services given."""


@dataclass(slots=True)
class Backends:
    """Targets by full service name, and the one for all others."""

    by_service: dict[str, str] = field(default_factory=dict)
    others: str | None = None

    @classmethod
    def parse(cls, arguments: Iterable[str]) -> "Backends":
        """From `[pkg.Service=]target`, in any order; a gRPC target with a port. Raises BadBackend."""
        found = cls()
        for argument in arguments:
            service, separator, target = argument.rpartition("=")
            if not _is_target(target):
                raise BadBackend(
                    f"backend {argument!r}: {target!r} is not host:port, ipv4:host:port,… or dns:///host:port"
                )
            if not separator:
                if found.others is not None:
                    raise BadBackend(f"two backends for all services: {found.others} and {target}")
                found.others = target
            elif service in found.by_service:
                raise BadBackend(f"two backends for {service}: {found.by_service[service]} and {target}")
            else:
                found.by_service[service] = target
        return found

    def target(self, service: str) -> str:
        """Raises BadBackend if the service has none."""
        target = self.by_service.get(service, self.others)
        if target is None:
            raise BadBackend(f"no backend for service {service}")
        return target

    def check(self, services: Iterable[str]) -> None:
        """Raises BadBackend for a backend of a service that there is not."""
        unknown = sorted(self.by_service.keys() - set(services))
        if unknown:
            raise BadBackend(f"a backend is given for {', '.join(unknown)}, which the descriptor set lacks")


def _is_target(text: str) -> bool:
    """`host:port`, `ipv4:address:port,…` (several replicas), or a name that stands for several, `dns:///`."""
    if text.startswith(_ADDRESSES):
        return all(_is_address(address) for address in text.partition(":")[2].split(","))
    return _is_address(text.removeprefix("dns:///"))


def _is_address(text: str) -> bool:
    host, separator, port = text.rpartition(":")
    return bool(host and separator and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16)


class Channels:
    """Open channels, shared by target; to be made and closed inside the loop that uses them."""

    def __init__(self, tls: TlsFiles | None = None, *, plaintext: bool = False) -> None:
        self._tls = tls
        self._plaintext = plaintext
        self._lines: dict[tuple[str, str], Line] = {}

    def unary(self, target: str, path: str) -> Call:
        """Calls a method with bytes and gives back bytes. Raises TlsRefused, as does `stream`."""
        return self._line(target, path).unary_unary(path)

    def stream(self, target: str, path: str) -> Call:
        """The same for a method that answers with a stream."""
        return self._line(target, path).unary_stream(path)

    def connect(self) -> None:
        """Begins connecting, so that the first request does not wait for it."""
        for line in self._lines.values():
            line.get_state(try_to_connect=True)

    def states(self) -> dict[str, str]:
        """The state of every connection by target, e.g. `ready` or `transient failure`."""
        return {target: line.get_state().value[1] for (target, _), line in self._lines.items()}

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()
        self._lines.clear()

    def _line(self, target: str, path: str) -> Line:
        """Over TLS whoever answers must be the workload that serves this method."""
        workload = workload_serving(path[1:].partition("/")[0]) if self._tls else ""
        line = self._lines.get((target, workload))
        if line is None:
            # Mesh ports are ours.
            spread = balancing.of_ours(target) if self._tls else balancing.OF_ANYONE
            line = self._lines[target, workload] = Line(
                target,
                (*_OPTIONS, *spread),
                files=self._tls,
                workload=workload,
                plaintext_anywhere=self._plaintext,
            )
        return line
