"""TCP ports of this machine: which are free, and finding some that stay so."""

import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Final

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


def _candidates() -> Iterator[int]:
    width = _LAST - _FIRST
    begin = os.getpid() * _STRIDE
    for step in range(width):
        port = _FIRST + (begin + step) % width
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            yield port
