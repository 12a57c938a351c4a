"""Metrics and one log line for every call, however it ends."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

from services.chassis import context as request_context
from services.chassis import telemetry
from services.chassis.contract import Method
from services.chassis.metrics import CallMetrics, Metrics
from services.chassis.server.layer import Context, Stream, Unary
from services.chassis.status import Refused

_log = telemetry.logger("access")

OK: Final = "OK"
CANCELLED: Final = "CANCELLED"
DEADLINE_EXCEEDED: Final = "DEADLINE_EXCEEDED"
UNKNOWN: Final = "UNKNOWN"


class Telemetry:
    """Requests and replies themselves are never logged."""

    def __init__(self, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._monotonic = monotonic

    def unary(self, method: Method, inner: Unary) -> Unary:
        figures, monotonic, path = self._metrics.served(method), self._monotonic, method.path

        async def observed(request: Any, context: Context) -> Any:
            begun = monotonic()
            figures.begun()
            code = OK
            reason = ""
            try:
                return await inner(request, context)
            except BaseException as error:
                code, reason = _outcome(error, monotonic())
                raise
            finally:
                _tell(figures, path, code, reason, monotonic() - begun)

        return observed

    def stream(self, method: Method, inner: Stream) -> Stream:
        figures, monotonic, path = self._metrics.served(method), self._monotonic, method.path

        async def observed(request: Any, context: Context) -> Any:
            begun = monotonic()
            figures.begun()
            code = OK
            reason = ""
            try:
                async with aclosing(inner(request, context)) as replies:
                    async for reply in replies:
                        yield reply
            except BaseException as error:
                code, reason = _outcome(error, monotonic())
                raise
            finally:
                _tell(figures, path, code, reason, monotonic() - begun)

        return observed


def _tell(figures: CallMetrics, path: str, code: str, reason: str, duration_s: float) -> None:
    figures.ended(code, duration_s)
    _log.info("call", method=path, code=code, reason=reason, duration_ms=round(duration_s * 1000, 3))


def _outcome(error: BaseException, now: float) -> tuple[str, str]:
    """Code and reason of a call that did not end well."""
    if isinstance(error, Refused):
        return error.code.name, error.reason
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        # grpc cancels the handler both when the client goes away and when its deadline has passed.
        request = request_context.current()
        late = request is not None and request.deadline is not None and now >= request.deadline
        return DEADLINE_EXCEEDED if late else CANCELLED, ""
    return UNKNOWN, ""  # a handler that aborted by itself, past all our layers
