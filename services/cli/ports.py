"""TCP ports of this machine: which are free, finding some that stay so, and those of a shop."""

import itertools
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.cli.data_folder import GATEWAY
from services.cli.refusal import Refused

HOST: Final = "127.0.0.1"
PORT_MAX: Final = 65_535

# Below the range that systems take outgoing ports from (Linux: 32768 on), so that between our looking and a
# program's binding, or while it restarts, no connection of anyone's can come to sit on the port.
_FIRST: Final = 10_000
_LAST: Final = 32_000
_STRIDE: Final = 97  # programs that look at the same time begin in different places

_handed_out: set[int] = set()


def is_free(port: int) -> bool:
    """Whether a server could bind the port right now, as our servers do (SO_REUSEADDR)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def reserve(taken: Iterable[int]) -> None:
    """`free` shall not give these away, though nobody sits on them yet."""
    _handed_out.update(taken)


def free(count: int) -> list[int]:
    """That many free ports, none of them given to this process before.

    Raises OSError if there are not so many.
    """
    found = list(itertools.islice(_candidates(), count))
    if len(found) < count:
        raise OSError(f"no {count} free ports between {_FIRST} and {_LAST}")
    return found


@dataclass(frozen=True, slots=True)
class ShopPorts:
    """Where each program of a shop listens."""

    nats: int
    gateway: int
    gateway_operations: int

    # By program.
    grpc: dict[str, int]
    mesh: dict[str, int]
    operations: dict[str, int]


def of_shop(gateway: int, grpc_base: int, instances: Mapping[str, Sequence[str]]) -> ShopPorts:
    """The ports asked for, which first instances get, and free ones for the rest.

    Raises Refused for one that is in use.
    """
    programs = [program for name in instances for program in instances[name]]
    grpc = (
        {instances[name][0]: grpc_base + offset for offset, name in enumerate(instances)} if grpc_base else {}
    )
    wanted = {GATEWAY: (gateway, "--gateway-port")} if gateway else {}
    wanted |= {name: (port, "--grpc-port-base") for name, port in grpc.items()}
    for name, (port, option) in wanted.items():
        if port > PORT_MAX:
            raise Refused(f"there is no port {port} for {name}; choose a lower one with {option}")
        if not is_free(port):
            raise Refused(f"port {port}, wanted for {name}, is in use; choose another with {option}")
    reserve(port for port, _ in wanted.values())
    count = 2 + 3 * len(programs) - len(grpc) + (0 if gateway else 1)
    chosen = iter(free(count))
    return ShopPorts(
        nats=next(chosen),
        gateway_operations=next(chosen),
        operations={program: next(chosen) for program in programs},
        mesh={program: next(chosen) for program in programs},
        grpc={program: grpc[program] if program in grpc else next(chosen) for program in programs},
        gateway=gateway or next(chosen),
    )


def _candidates() -> Iterator[int]:
    width = _LAST - _FIRST
    begin = os.getpid() * _STRIDE
    for step in range(width):
        port = _FIRST + (begin + step) % width
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            yield port
