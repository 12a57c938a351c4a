"""The backend of the cases: answers as `about.server` in the table says, and remembers what it was asked."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from tests.gateway.conformance.table import SERVICE, TABLE, Contract

_FIXTURES: Final[dict[str, Any]] = TABLE["fixtures"]
_SAYABLE = re.compile(r"(?!grpc-)[0-9a-z_.-]+=[ -~]*")


@dataclass
class Call:
    """One call that arrived."""

    rpc: str
    metadata: list[tuple[str, str | bytes]]
    left_s: float
    requests: list[bytes] = field(default_factory=list)
    cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class _Code:
    """A status as grpcio takes it; the cases want numbers that its enum lacks."""

    value: tuple[int, str]


class Echo(grpc.GenericRpcHandler):
    """Serves the contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.calls: list[Call] = []
        self._answers: dict[str, Callable[[bytes, Any], Awaitable[bytes | None]]] = {
            "DeleteItem": self._nothing,
            "Probe": self._nothing,
            "GetFixture": self._fixture,
            "PickItem": self._picked,
            "Download": self._download,
            "Fail": self._fail,
            "Sleep": self._sleep,
            "Headers": self._headers,
        }
        self._streams: dict[str, Callable[[bytes, Any], Awaitable[None]]] = {
            "StreamItems": self._items,
            "StreamPicked": self._titles,
            "StreamDownload": self._chunks,
        }

    def service(self, details: Any) -> Any:
        rpc = details.method.removeprefix(f"/{SERVICE}/")
        answer: Any = self._streams.get(rpc) or self._answers.get(rpc) or self._echo(rpc)

        async def handle(request: bytes, context: Any) -> bytes | None:
            call = Call(rpc, list(details.invocation_metadata), context.time_remaining(), [request])
            self.calls.append(call)
            try:
                reply: bytes | None = await answer(request, context)
            except asyncio.CancelledError:
                call.cancelled = True
                raise
            finally:
                call.ended.set()
            return reply

        if rpc in self._streams:
            return grpc.unary_stream_rpc_method_handler(handle)
        return grpc.unary_unary_rpc_method_handler(handle)

    def _echo(self, rpc: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def echo(request: bytes, context: Any) -> bytes:
            message = self._contract.request(rpc)
            try:
                message.ParseFromString(request)
            except DecodeError:
                await context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return bytes(message.SerializeToString())

        return echo

    async def _nothing(self, _request: bytes, _context: Any) -> bytes:
        return b""

    async def _fixture(self, request: bytes, context: Any) -> bytes:
        name = self._read("NameRequest", request).name
        found = _FIXTURES.get(name)
        if found is None or name.startswith("raw:"):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no fixture {name}")
        assert found
        if "build" in found:
            parts = {key: part["repeat"] * part["times"] for key, part in found["build"].items()}
            return bytes(type(self._contract.new("Everything"))(**parts).SerializeToString())
        return base64.b64decode(found["wire_b64"])

    async def _picked(self, _request: bytes, _context: Any) -> bytes:
        return base64.b64decode(_FIXTURES["picked"]["wire_b64"])

    async def _raw(self, request: bytes, context: Any) -> dict[str, Any]:
        found: dict[str, Any] | None = _FIXTURES.get("raw:" + self._read("RawRequest", request).name)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        assert found
        return found

    async def _download(self, request: bytes, context: Any) -> bytes:
        return base64.b64decode((await self._raw(request, context))["wire_b64s"][0])

    async def _chunks(self, request: bytes, context: Any) -> None:
        found = await self._raw(request, context)
        for chunk in found["wire_b64s"]:
            await context.write(base64.b64decode(chunk))
        if "then_status" in found:
            await context.abort(_Code((found["then_status"], "")), "broken off")

    async def _fail(self, request: bytes, context: Any) -> bytes:
        asked = self._read("FailRequest", request)
        if asked.message == "raise":
            raise RuntimeError("secret-in-exception")
        if asked.message == "after_headers":
            await context.send_initial_metadata((("x-early", "1"),))
        if asked.code == 0:
            return b""
        status = status_pb2.Status(code=asked.code, message=asked.message)
        for detail in _details(asked):
            status.details.add().Pack(detail)
        if asked.message == "unknown_detail":
            url = "type.googleapis.com/conformance.other.Unknown"
            status.details.append(any_pb2.Any(type_url=url, value=b"\x0a\x01x"))
        trailing = (("grpc-status-details-bin", status.SerializeToString()),) if status.details else ()
        await context.abort(_Code((asked.code, "")), asked.message, trailing)
        raise AssertionError("abort returned")

    async def _sleep(self, request: bytes, _context: Any) -> bytes:
        duration = self._read("SleepRequest", request).duration.ToTimedelta()
        await asyncio.sleep(duration.total_seconds())
        return b""

    async def _headers(self, request: bytes, context: Any) -> bytes:
        asked = self._read("HeadersRequest", request)
        if asked.headers:
            await context.send_initial_metadata(_sayable(asked.headers))
        if asked.trailers:
            context.set_trailing_metadata(_sayable(asked.trailers))
        return b""

    async def _items(self, request: bytes, context: Any) -> None:
        padding = "x" * self._read("StreamRequest", request).padding
        await self._stream(
            request, context, lambda at: {"name": f"item-{at}{padding}", "quantity": at}, "Item"
        )

    async def _titles(self, request: bytes, context: Any) -> None:
        await self._stream(request, context, lambda at: {"title": f"title-{at}"}, "Picked")

    async def _stream(
        self, request: bytes, context: Any, make: Callable[[int], dict[str, Any]], kind: str
    ) -> None:
        asked = self._read("StreamRequest", request)
        for at in range(asked.count):
            await asyncio.sleep(asked.gap_ms / 1000)
            await context.write(type(self._contract.new(kind))(**make(at)).SerializeToString())
        if asked.fail_code:
            await context.abort(_Code((asked.fail_code, "")), asked.fail_message)

    def _read(self, kind: str, data: bytes) -> Any:
        message = self._contract.new(kind)
        message.ParseFromString(data)
        return message


def _details(asked: Any) -> list[Any]:
    details: list[Any] = []
    if asked.details:
        details.append(error_details_pb2.ErrorInfo(reason="TEST", domain="conformance.test"))
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field="name", description="must not be empty")
        details.append(bad)
    if asked.retry_after > 0:
        delay = duration_pb2.Duration(seconds=asked.retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _sayable(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple((k.lower(), v) for k, v in sorted(pairs.items()) if _SAYABLE.fullmatch(f"{k.lower()}={v}"))


class Rude:
    """Speaks just enough HTTP/2 to be sent a request, and hangs up on it."""

    def __init__(self) -> None:
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(24)  # the preface
            writer.write(b"\0\0\0\4\0\0\0\0\0")  # SETTINGS
            ends = False
            while not ends:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == 4 and not flags & 1:
                    writer.write(b"\0\0\0\4\1\0\0\0\0")  # SETTINGS, acknowledged
                ends = kind in (0, 1) and bool(flags & 1)  # DATA or HEADERS with END_STREAM
            self.requests += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
