"""Where each service's calls go: one channel per backend, one callable per method."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import grpc

# A bare reply, as many bytes as a bare request may have.
_MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),  # retries belong to one layer, and the edge is not it
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    # A backend that restarts is found again within a second or so, instead of gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
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
        """From `[pkg.Service=]host:port`, in any order. Raises BadBackend."""
        found = cls()
        for argument in arguments:
            service, separator, target = argument.rpartition("=")
            if not _is_target(target):
                raise BadBackend(f"backend {argument!r}: {target!r} is not host:port")
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
    host, separator, port = text.rpartition(":")
    return bool(host and separator and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16)


class Channels:
    """Open channels, shared by target; to be made and closed inside the loop that uses them."""

    def __init__(self) -> None:
        self._by_target: dict[str, grpc.aio.Channel] = {}

    def unary(self, target: str, path: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
        """Calls a method with bytes and gives back bytes."""
        return self._channel(target).unary_unary(path)

    def stream(self, target: str, path: str) -> "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]":
        """The same for a method that answers with a stream."""
        return self._channel(target).unary_stream(path)

    def connect(self) -> None:
        """Begins connecting, so that the first request does not wait for it."""
        for channel in self._by_target.values():
            channel.get_state(try_to_connect=True)

    def states(self) -> dict[str, str]:
        """The state of every connection by target, e.g. `ready` or `transient failure`."""
        return {target: channel.get_state().value[1] for target, channel in self._by_target.items()}

    async def close(self) -> None:
        for channel in self._by_target.values():
            await channel.close()
        self._by_target.clear()

    def _channel(self, target: str) -> grpc.aio.Channel:
        channel = self._by_target.get(target)
        if channel is None:
            channel = self._by_target[target] = grpc.aio.insecure_channel(target, options=_OPTIONS)
        return channel
