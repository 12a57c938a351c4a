"""A server interceptor for each concern: the same concerns as our onion's, written the ordinary way."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc
import protovalidate
from grpc_interceptor.server import AsyncServerInterceptor
from prometheus_client import Counter, Gauge, Histogram

DEADLINE_S = 10.0

STARTED = Counter("requests_started", "Calls begun.", ("service", "method"))
HANDLED = Counter("requests_handled", "Calls ended.", ("service", "method", "code"))
SECONDS = Histogram("requests_seconds", "How long they took.", ("service", "method"))
IN_FLIGHT = Gauge("requests_in_flight", "Calls under way.", ("service", "method"))

request_id: ContextVar[str] = ContextVar("request_id", default="")
_log = logging.getLogger("access")

Method = Callable[[Any, Any], Awaitable[Any]]
Context = grpc.aio.ServicerContext[Any, Any]


class RequestId(AsyncServerInterceptor):
    async def intercept(self, method: Method, request: Any, context: Context, method_name: str) -> Any:
        found = dict(context.invocation_metadata() or ()).get("x-request-id")
        request_id.set(str(found or uuid.uuid4()))
        return await method(request, context)


class Logging(AsyncServerInterceptor):
    async def intercept(self, method: Method, request: Any, context: Context, method_name: str) -> Any:
        begun = time.perf_counter()
        try:
            return await method(request, context)
        finally:
            fields = {
                "method": method_name,
                "duration_ms": round((time.perf_counter() - begun) * 1000, 3),
                "request_id": request_id.get(),
            }
            _log.info("call", extra={"fields": fields})


class Metrics(AsyncServerInterceptor):
    async def intercept(self, method: Method, request: Any, context: Context, method_name: str) -> Any:
        _, service, name = method_name.split("/")
        STARTED.labels(service, name).inc()
        IN_FLIGHT.labels(service, name).inc()
        begun = time.perf_counter()
        code = "OK"
        try:
            return await method(request, context)
        except BaseException:
            code = "ERROR"
            raise
        finally:
            HANDLED.labels(service, name, code).inc()
            SECONDS.labels(service, name).observe(time.perf_counter() - begun)
            IN_FLIGHT.labels(service, name).dec()


class Errors(AsyncServerInterceptor):
    async def intercept(self, method: Method, request: Any, context: Context, method_name: str) -> Any:
        try:
            return await method(request, context)
        except grpc.aio.AbortError:
            raise
        except LookupError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except ValueError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except Exception:  # noqa: BLE001 (whatever it was)
            _log.exception("failed")
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")


class Deadline(AsyncServerInterceptor):
    async def intercept(self, method: Method, request: Any, context: Context, method_name: str) -> Any:
        async with asyncio.timeout(min(context.time_remaining() or DEADLINE_S, DEADLINE_S)):
            return await method(request, context)


class Validation(AsyncServerInterceptor):
    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    async def intercept(self, method: Method, request: Any, context: Context, method_name: str) -> Any:
        if violations := self._validator.collect_violations(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(violations[0].proto.message))
        return await method(request, context)


def stack() -> list[AsyncServerInterceptor]:
    """All of them, outermost first."""
    return [RequestId(), Logging(), Metrics(), Errors(), Deadline(), Validation()]
