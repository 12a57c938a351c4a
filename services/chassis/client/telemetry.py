"""Metrics and spans of the calls made, each counted once however many attempts it took."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from services.chassis.client.layer import Outgoing, Send
from services.chassis.client.spans import tracing_of
from services.chassis.contract import Method
from services.chassis.metrics import Metrics


class Telemetry:
    def __init__(self, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._monotonic = monotonic

    def around(self, method: Method, inner: Send) -> Send:
        figures, monotonic = self._metrics.called(method), self._monotonic
        traced = tracing_of(method)

        async def measured(call: Outgoing) -> Any:
            begun = monotonic()
            figures.begun()
            code = "OK"
            try:
                return await inner(call)
            except BaseException as error:
                code = _code(error)
                raise
            finally:
                duration_s = monotonic() - begun
                figures.ended(code, duration_s)
                traced(call, code, duration_s)

        return measured


def _code(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code().name
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "UNKNOWN"
