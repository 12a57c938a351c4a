"""A TCP proxy that behaves as badly as networks do, from the moment it is told to.

    async with Proxy(lambda: shop.endpoints.services["payment"].mesh) as way:
        …                            # callers are given way.address; everything passes
        way.hang()                   # connections stand and nothing moves, as if the other side were asleep
        way.forward()                # what was held flows on: nothing was lost

It knows nothing of what it carries: TLS goes through it from end to end. Every switch holds for connections
that stand as for those to come.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Any, Final, Self

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 16 * 1024
CHUNKS_MAX: Final = 64  # under way in one direction: 1 MiB, then the sender has to wait, as with any pipe
BACKLOG: Final = 128
PORTIONS_PER_S: Final = 20  # of limited bandwidth: short waits, so that a switch is felt soon

_RST_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER for no time: what is unsent is thrown away


@dataclass(slots=True)
class Lane:
    """One direction."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    """0: as fast as can be."""

    bytes: int = 0
    """Delivered so far."""


class _End(Enum):
    """How a connection ends."""

    ORDERLY = auto()  # with what was sent delivered
    DROPPED = auto()
    RESET = auto()


@dataclass(eq=False, slots=True)
class _Connection:
    """What stands between a caller and the target."""

    accepted: socket.socket
    end: _End = _End.ORDERLY
    sides: list[asyncio.StreamWriter] = field(default_factory=list)


class Proxy:
    """A way to a target, `host:port`, that is looked up at each connection. An async context manager."""

    def __init__(self, target: str | Callable[[], str]) -> None:
        self.connections = 0
        """Accepted so far, whatever became of them."""

        self.there = Lane()
        """From the caller to the target."""

        self.back = Lane()
        self._target = target
        self._moves = asyncio.Event()
        self._ends_all: _End | None = None
        self._standing: dict[asyncio.Task[None], _Connection] = {}
        self._listener: socket.socket | None = None
        self._port_holder = _bound(0)
        self.port: int = self._port_holder.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def standing(self) -> int:
        """Connections at this moment."""
        return len(self._standing)

    async def __aenter__(self) -> Self:
        self.forward()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        standing = dict(self._standing)
        self.refuse()
        await asyncio.gather(*standing, return_exceptions=True)
        closing = [side.wait_closed() for connection in standing.values() for side in connection.sides]
        await asyncio.gather(*closing, return_exceptions=True)
        self._port_holder.close()

    # What it does

    def forward(self) -> None:
        """All is well: everything passes at once."""
        self._ends_all = None
        self.delay()
        self.limit(0)
        self._moves.set()
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def delay(self, *, there_s: float = 0.0, back_s: float = 0.0) -> None:
        """What is sent from now on arrives that much later."""
        self.there.delay_s, self.back.delay_s = there_s, back_s

    def limit(self, bytes_per_s: float) -> None:
        """Each connection carries no more than that in each direction; 0 is no limit."""
        self.there.bytes_per_s = self.back.bytes_per_s = bytes_per_s

    def hang(self) -> None:
        """Accepts, takes what is sent, and delivers nothing before `forward`."""
        self._moves.clear()

    def drop(self) -> None:
        """Closes what stands, and whatever comes, without a word."""
        self._end_all(_End.DROPPED)

    def reset(self) -> None:
        """The same by TCP reset: the caller sees an error at once."""
        self._end_all(_End.RESET)

    def refuse(self) -> None:
        """Nobody listens any more, and what stood is closed. The port stays ours."""
        self._end_all(_End.DROPPED)
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def lead_to(self, target: str | Callable[[], str]) -> None:
        """The target is another one; what stood is closed, so that callers come again."""
        self._target = target
        self._end_standing(_End.DROPPED)

    # How

    def _end_all(self, how: _End) -> None:
        self._ends_all = how
        self._end_standing(how)

    def _end_standing(self, how: _End) -> None:
        for task, connection in self._standing.items():
            connection.end = how
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # gone before we looked
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        connection = _Connection(accepted)
        task = asyncio.create_task(self._serve(connection))
        self._standing[task] = connection
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        connection = self._standing.pop(task)
        for side in connection.sides:
            _close(side, connection.end)
        if not connection.sides:
            connection.accepted.close()

    async def _serve(self, connection: _Connection) -> None:
        incoming, answering = await asyncio.open_connection(sock=connection.accepted)
        connection.sides.append(answering)
        try:
            if self._ends_all is None:
                await self._connected(incoming, connection)
            else:
                connection.end = self._ends_all
        except* OSError:
            connection.end = _End.RESET  # one side broke off: so does the other

    async def _connected(self, incoming: asyncio.StreamReader, connection: _Connection) -> None:
        await self._moves.wait()
        target = self._target if isinstance(self._target, str) else self._target()
        host, _, port = target.rpartition(":")
        replies, asking = await asyncio.open_connection(host, int(port))
        connection.sides.append(asking)
        async with asyncio.TaskGroup() as tasks:
            for carrying in (
                *self._carried(incoming, asking, self.there),
                *self._carried(replies, connection.sides[0], self.back),
            ):
                tasks.create_task(carrying)

    def _carried(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, lane: Lane
    ) -> tuple[Coroutine[Any, Any, None], ...]:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_MAX)
        return self._fetch(source, under_way, lane), self._deliver(under_way, sink, lane)

    async def _fetch(
        self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]], lane: Lane
    ) -> None:
        now = asyncio.get_running_loop().time
        chunk = b"-"
        while chunk:
            chunk = await source.read(_portion(lane))
            await under_way.put((now() + lane.delay_s, chunk))

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter, lane: Lane
    ) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, chunk = await under_way.get()
            if (early_s := due - now()) > 0:
                await asyncio.sleep(early_s)
            if lane.bytes_per_s:
                await asyncio.sleep(len(chunk) / lane.bytes_per_s)
            await self._moves.wait()
            if not chunk:
                sink.write_eof()
                return
            sink.write(chunk)
            await sink.drain()
            lane.bytes += len(chunk)


@asynccontextmanager
async def trouble(way: Proxy, begin: Callable[[], None]) -> AsyncIterator[None]:
    """Something is wrong with the way until the block is left: `trouble(way, way.hang)`."""
    begin()
    try:
        yield
    finally:
        way.forward()


def _portion(lane: Lane) -> int:
    if not lane.bytes_per_s:
        return CHUNK_BYTES
    return max(1, min(CHUNK_BYTES, int(lane.bytes_per_s / PORTIONS_PER_S)))


def _bound(port: int) -> socket.socket:
    """A socket of that port. Several may have it; those that listen get the connections."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setblocking(False)
    bound.bind((HOST, port))
    return bound


def _close(side: asyncio.StreamWriter, end: _End) -> None:
    if end is _End.ORDERLY:
        side.close()
        return
    if end is _End.RESET:
        with contextlib.suppress(OSError):
            side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
    side.transport.abort()
