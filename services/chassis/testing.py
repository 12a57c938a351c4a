"""For tests of programs built on this chassis: real servers on free ports, time and ids that obey."""

import asyncio
import contextlib
import itertools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

from services.chassis import app, client
from services.chassis.events.envelope import Envelope
from services.chassis.events.server import NatsServer
from services.chassis.metrics import Metrics
from services.chassis.policy.limiter import Limiter
from services.chassis.server import AddToServer, Denied, Onion
from services.chassis.server.access import Everyone
from services.chassis.server.gate import Gate
from services.chassis.tracing.sampling import NO_SAMPLING, Sampling
from services.kernel.clock import Clock, SystemClock
from services.kernel.ids import Ids

DRAIN_MAX_S: Final = 5.0
POLL_S: Final = 0.002

# Below those that systems give to connections (Linux: 32768 on), one of which, of whoever, might else sit
# on the port before the program does; and above those that `bodega up` takes.
_PORTS: Final = range(32_000, 32_768)
_STRIDE: Final = 97  # tests that run beside each other begin in different places
_asked: Final = itertools.count()

_M = TypeVar("_M", bound=Message)


class FakeClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, at: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = at
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


class SequentialIds:
    """UUIDv7-shaped ids in a row: 00000000-0000-7000-8000-000000000001, …2, …3."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        self._last += 1
        return f"00000000-0000-7000-8000-{self._last:012d}"


class RecordingBus:
    """Stands where an outbox stands and keeps what is told to it, in order."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    def add(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def told(self, kind: type[_M]) -> list[_M]:
        """The events of this kind."""
        name = kind.DESCRIPTOR.full_name
        return [kind.FromString(envelope.data) for envelope in self.envelopes if envelope.type == name]


@asynccontextmanager
async def nats_server() -> AsyncIterator[NatsServer]:
    """A real nats-server with JetStream on a free port, its files gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bodega-nats-") as folder:
        async with NatsServer(Path(folder)) as server:
            yield server


@asynccontextmanager
async def serving(
    *servicers: tuple[AddToServer[Any], Any],
    files: Sequence[FileDescriptor],
    metrics: Metrics | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    access: Gate | None = None,
    denied: Denied | None = None,
    limiter: Limiter | None = None,
    rates: Gate | None = None,
    sampling: Sampling = NO_SAMPLING,
) -> AsyncIterator[client.Channel]:
    """Real calls to servicers behind the onion, on a free port of 127.0.0.1, over a channel with ours.

    Everybody is let in unless `access` says who, and as often as they like unless `rates` counts.

    async with serving((add_UserServiceServicer_to_server, servicer), files=[user_pb2.DESCRIPTOR]) as channel:
        user = await UserServiceStub(channel).GetUser(...)
    """
    onion = Onion(
        metrics or Metrics(),
        clock or SystemClock(),
        access or Everyone(),
        denied=denied,
        limiter=limiter,
        rates=rates,
        sampling=sampling,
    )
    server = grpc.aio.server(options=app.OPTIONS)
    for add_to_server, servicer in servicers:
        onion.serve(server, add_to_server, servicer, *files)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with client.connect(f"127.0.0.1:{port}", *files, ids=ids) as channel:
            yield channel
    finally:
        await server.stop(DRAIN_MAX_S)
        await onion.in_flight.idle()


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Returns as soon as the condition holds; raises TimeoutError if it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 (what is waited for is not always ours to signal)
            await asyncio.sleep(POLL_S)


def free_port() -> int:
    """A port nobody listens on at the moment, for programs that must be told one; each time another."""
    for _ in _PORTS:
        port = _PORTS[(os.getpid() * _STRIDE + next(_asked)) % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port of {_PORTS} is free")
