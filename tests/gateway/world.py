"""A contract, a backend that speaks it, and HTTP to an edge in front of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool


class World:
    """The compiled contract. (No dataclass: hypothesis would print the whole set.)"""

    def __init__(self, path: Path, files: descriptor_pb2.FileDescriptorSet, pool: DescriptorPool) -> None:
        self.path = path
        self.files = files
        self.pool = pool

    def type(self, name: str) -> Descriptor:
        return self.pool.FindMessageTypeByName(name if "." in name else f"edge.v1.{name}")

    def new(self, name: str, **fields: Any) -> Any:
        return message_factory.GetMessageClass(self.type(name))(**fields)


@dataclass
class Seen:
    """One call that arrived."""

    method: str
    request: bytes
    metadata: dict[str, str]
    time_remaining_s: float
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


STREAMS = frozenset(("Watch", "Follow", "Fetch", "WatchOrder"))

Answer = Callable[[Any, Seen], Any]


class Backend(grpc.GenericRpcHandler):
    """Answers as a test says; else Echo with the bytes it got, streams with nothing, others with a default.

    The answer of a stream writes its messages to the context.
    """

    def __init__(self) -> None:
        self.calls: list[Seen] = []
        self.arrived = asyncio.Event()
        self.answers: dict[str, Answer] = {}
        self.port = 0

    def forget(self) -> None:
        """Forgets calls and answers: the next test begins afresh."""
        self.calls.clear()
        self.answers.clear()
        self.arrived.clear()

    def service(self, details: Any) -> Any:
        if details.method.startswith("/grpc.health."):
            return None
        name = details.method.rpartition("/")[2]

        async def handle(request: bytes, context: Any) -> bytes | None:
            seen = Seen(details.method, request, dict(details.invocation_metadata), context.time_remaining())
            self.calls.append(seen)
            self.arrived.set()
            answer = self.answers.get(name)
            try:
                if name in STREAMS:
                    return await answer(context, seen) if answer else None
                return await answer(context, seen) if answer else request if name == "Echo" else b""
            except asyncio.CancelledError:
                seen.cancelled.set()
                raise
            finally:
                seen.ended.set()

        if name in STREAMS:
            return grpc.unary_stream_rpc_method_handler(handle)
        return grpc.unary_unary_rpc_method_handler(handle)


@dataclass(repr=False)
class Client:
    """HTTP to an edge, and the backend behind it."""

    http: httpx.AsyncClient
    backend: Backend
    world: World
    port: int
    operations_port: int

    async def __call__(self, method: str, target: str, **arguments: Any) -> httpx.Response:
        return await self.http.request(method, target, **arguments)

    def received(self, name: str) -> Any:
        """The one request that reached the backend."""
        assert len(self.backend.calls) == 1
        message = self.world.new(name)
        message.ParseFromString(self.backend.calls[0].request)
        return message

    def answer(self, method: str, message: Any) -> None:
        """From now on this is what the method answers."""

        async def give(_context: Any, _seen: Seen) -> bytes:
            return bytes(message.SerializeToString())

        self.backend.answers[method] = give
