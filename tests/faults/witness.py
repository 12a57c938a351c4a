"""Stands between a caller and a service as one who sees every call, and may refuse or keep it.

Both sides take it for the other: it has the service's certificate for the caller, and the caller's for the
service. So it tells what really was on the wire, deadlines among it, without a word of ours in any program.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import grpc

from services.chassis import app, tls
from services.chassis.context import TRACEPARENT, TraceContext
from services.chassis.tls import Identity, TlsFiles

HOST: Final = "127.0.0.1"
HEALTH: Final = "/grpc.health.v1.Health/Watch"
_OPTIONS: Final = (("grpc.enable_retries", 0),)  # it makes none of its own
_OURS: Final = frozenset({"user-agent"})  # metadata that grpc itself writes anew


@dataclass(slots=True)
class Seen:
    """One call, as it came."""

    method: str
    """Without its service: `GetPayment`."""

    trace_id: str
    at: float
    """Monotonic."""

    left_s: float | None
    """Until its deadline; None if it has none."""

    ended_at: float | None = None
    code: str = ""
    """What it ended with; CANCELLED if the caller left."""


@dataclass
class Witness:
    """Of the calls that `caller` makes of `workload`, which is at `target`. An async context manager."""

    workload: str
    caller: TlsFiles
    service: TlsFiles
    target: Callable[[], str]
    calls: list[Seen] = field(default_factory=list)
    refuses: grpc.StatusCode | None = None
    """With what it answers itself instead of asking the service."""

    keeps: bool = False
    """Whether calls get no answer at all for now."""

    address: str = field(init=False)

    async def __aenter__(self) -> Self:
        shown = Identity(self.caller).present()
        self._channel = grpc.aio.secure_channel(
            self.target(),
            tls.channel_credentials(shown),
            options=(*_OPTIONS, *tls.channel_options(self.workload)),
        )
        self._server = grpc.aio.server(handlers=(_Every(self._relay, self._watch),), options=app.OPTIONS)
        credentials = Identity(self.service).for_server(asks_who_calls=True)
        self.address = f"{HOST}:{self._server.add_secure_port(f'{HOST}:0', credentials)}"
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(None)
        await self._channel.close()

    def since(self, began: float, until: float = float("inf")) -> list[Seen]:
        return [seen for seen in self.calls if began <= seen.at < until]

    async def _relay(self, path: str, request: bytes, context: Any) -> bytes:
        metadata = tuple(context.invocation_metadata() or ())
        trace = TraceContext.parse(str(dict(metadata).get(TRACEPARENT, "")))
        left_s = context.time_remaining()
        seen = Seen(path.rpartition("/")[2], trace.trace_id if trace else "", time.monotonic(), left_s)
        self.calls.append(seen)
        seen.code = "CANCELLED"
        try:
            if self.refuses is not None:
                seen.code = self.refuses.name
                await context.abort(self.refuses, "the service is not well")
            if self.keeps:
                await asyncio.Event().wait()
            passed = tuple(pair for pair in metadata if pair[0] not in _OURS)
            ask: Callable[..., Awaitable[bytes]] = self._channel.unary_unary(path)
            reply = await ask(request, timeout=left_s, metadata=passed)
            seen.code = "OK"
        except grpc.aio.AioRpcError as error:
            seen.code = error.code().name
            await context.abort(error.code(), error.details() or "", error.trailing_metadata() or ())
            raise
        else:
            return reply
        finally:
            seen.ended_at = time.monotonic()

    async def _watch(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        watch: Any = self._channel.unary_stream(HEALTH)
        async for reply in watch(request):
            yield reply


class _Every(grpc.GenericRpcHandler):
    """Takes whatever unary call comes, as bytes, and those who watch the service's health."""

    def __init__(
        self,
        relay: Callable[[str, bytes, Any], Awaitable[bytes]],
        watch: Callable[[bytes, Any], AsyncIterator[bytes]],
    ) -> None:
        self._relay = relay
        self._watch = watch

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        if path == HEALTH:
            return grpc.unary_stream_rpc_method_handler(self._watch)

        async def relayed(request: bytes, context: Any) -> bytes:
            return await self._relay(path, request, context)

        return grpc.unary_unary_rpc_method_handler(relayed)
