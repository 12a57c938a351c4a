"""Turns what handlers raise into what callers may see.

Domain errors become their status. Neighbours that do not answer make us unavailable. Anything else is a bug
or the weather: logged here, once, with stack and trace id, and sent as INTERNAL without a word of it.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import grpc

from services.chassis import context as request_context
from services.chassis import status, telemetry
from services.chassis.contract import Method
from services.chassis.server.deadline import DeadlineExceeded
from services.chassis.server.layer import Context, Stream, Unary
from services.chassis.status import Refused
from services.kernel.errors import DomainError, Unavailable

_log = telemetry.logger("errors")

INTERNAL: Final = "INTERNAL"

# Not the neighbour's refusal of this request, but the neighbour not being there for it.
_WEATHER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class NeighbourUnavailable(Unavailable):
    """A service that this depends on is not answering; the same request may succeed later."""


class WrongReply(TypeError):
    """A handler returned something else than its contract's reply."""


class Errors:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic

    def unary(self, method: Method, inner: Unary) -> Unary:
        refusal = self._refusal
        reply_type = method.reply_type

        async def mapped(request: Any, context: Context) -> Any:
            try:
                reply = await inner(request, context)
                if not isinstance(reply, reply_type):
                    _complain(method, reply)
            except (Refused, grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:
                raise refusal(error, method) from error
            return reply

        return mapped

    def stream(self, method: Method, inner: Stream) -> Stream:
        refusal = self._refusal
        reply_type = method.reply_type

        async def mapped(request: Any, context: Context) -> Any:
            try:
                async with aclosing(inner(request, context)) as replies:
                    async for reply in replies:
                        if not isinstance(reply, reply_type):
                            _complain(method, reply)
                        yield reply
            except (Refused, grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:
                raise refusal(error, method) from error

        return mapped

    def _refusal(self, error: Exception, method: Method) -> Refused:
        if isinstance(error, DomainError):
            return Refused(status.from_error(error))
        if isinstance(error, grpc.aio.AioRpcError) and error.code() in _WEATHER:
            _log.warning("neighbour failed", method=method.path, code=error.code().name, said=error.details())
            return Refused(status.from_error(self._weather()))
        _log.exception("handler failed", method=method.path)
        return internal()

    def _weather(self) -> DomainError:
        request = request_context.current()
        late = request is not None and request.deadline is not None and self._monotonic() >= request.deadline
        return DeadlineExceeded() if late else NeighbourUnavailable()


def internal() -> Refused:
    """What callers see of a bug: enough to ask about it, nothing of what it was."""
    request = request_context.current()
    metadata = {"trace_id": request.trace.trace_id} if request else {}
    return Refused(status.build(grpc.StatusCode.INTERNAL, INTERNAL, "internal error", metadata))


def _complain(method: Method, reply: object) -> None:
    raise WrongReply(f"{method.path} returned {type(reply).__name__}, not {method.reply_type.__name__}")
