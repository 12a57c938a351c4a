"""The event loop of our programs: uvloop where there is one, with an open door for grpc.

grpc's thread hands each of its events to the loop with a byte through a pair of sockets, of which the loop
reads one a turn. What is left over adds up while turns are long. At 278 bytes the pair is full, that thread
waits to write the next, and from then on *one* event comes in each turn: a loop that refuses three hundred
requests a turn gets fifty answers a second. So all bytes but one, which is grpc's to read, are taken before.
"""

import asyncio
from collections.abc import Callable, Coroutine
from socket import MSG_PEEK, socket
from typing import Any, Final, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_Loop: Callable[[], asyncio.AbstractEventLoop] | None = None

try:
    import uvloop
except ImportError:  # it is not on every platform
    pass
else:

    class Loop(uvloop.Loop):
        """Takes in all that grpc has to tell, each time it tells anything."""

        def add_reader(self, fd: Any, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
            super().add_reader(fd, emptying(fd, callback) if is_grpcs(callback) else callback, *args)

    _Loop = Loop


def run(program: Coroutine[Any, Any, _T]) -> _T:
    """Runs a program's coroutine to its end."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(program)


_BYTES: Final = 4096  # more than the pair ever holds
_QUEUE: Final = "PollerCompletionQueue"


def is_grpcs(callback: Callable[..., object]) -> bool:
    """Whether it is this that grpc reads its events by, a method of its queue that is bound to a loop."""
    method = getattr(callback, "func", callback)
    return type(getattr(method, "__self__", None)).__name__ == _QUEUE


def emptying(pair: socket, callback: Callable[..., object]) -> Callable[..., None]:
    """Takes all bytes but one before. Never after: an event that comes in between would have none left."""
    receive = pair.recv

    def woken(*args: Any) -> None:
        waiting = len(receive(_BYTES, MSG_PEEK))
        if waiting > 1:
            receive(waiting - 1)
        callback(*args)

    return woken
