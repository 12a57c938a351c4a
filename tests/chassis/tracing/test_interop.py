"""Programs that are traced by OpenTelemetry's own package for gRPC, beside ours: one trace all the same."""

from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from opentelemetry import trace as api
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.chassis import client, context, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.testing import serving
from services.chassis.tracing import Span
from services.chassis.tracing.sampling import Sampling
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong, Stub

READ = f"/{playground.SERVICE}/Read"
TRUSTING = Sampling(0.0, is_neighbour=lambda _connection: True)

_server: Any = aio_server_interceptor
_client: Any = aio_client_interceptors


class Theirs:
    """A program of somebody else's."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def span(self) -> ReadableSpan:
        [span] = self._exporter.get_finished_spans()
        return span


@pytest.fixture
def theirs() -> Iterator[Theirs]:
    before = get_global_textmap()
    set_global_textmap(TraceContextTextMapPropagator())
    yield Theirs()
    set_global_textmap(before)


@pytest.fixture
def ours() -> Iterator[list[Span]]:
    with tracing.captured() as spans:
        yield spans


def place(span: ReadableSpan) -> tuple[str, str]:
    found = cast("api.SpanContext", span.context)
    return api.format_trace_id(found.trace_id), api.format_span_id(found.span_id)


async def echo(request: Any, _context: Any) -> Any:
    return Pong(name=request.name)


async def test_our_server_joins_their_client(theirs: Theirs, ours: list[Span]) -> None:
    async with serving(
        (playground.add_to_server, {"Read": echo}), files=[playground.FILE], sampling=TRUSTING
    ) as channel:
        interceptors = _client(tracer_provider=theirs.provider)
        async with grpc.aio.insecure_channel(channel.target, interceptors=interceptors) as their_channel:
            read: Any = their_channel.unary_unary(READ)
            await read(b"")
    [span] = ours
    assert (span.trace.trace_id, span.parent_id) == place(theirs.span())


async def test_their_server_joins_our_client(theirs: Theirs, ours: list[Span]) -> None:
    server = grpc.aio.server(
        interceptors=[_server(tracer_provider=theirs.provider)], options=(("grpc.so_reuseport", 0),)
    )

    async def answer(_request: bytes, _context: Any) -> bytes:
        return b""

    handlers: Any = {"Read": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(playground.SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with client.connect(f"127.0.0.1:{port}", playground.FILE) as channel:
            with context.working_on(RequestContext(TraceContext.fresh().sampled(is_it=True))):
                await Stub(channel).Read(Ping())
    finally:
        await server.stop(1)
    [span] = ours
    parent = theirs.span().parent
    assert parent is not None
    assert (span.trace.trace_id, span.trace.span_id) == (
        api.format_trace_id(parent.trace_id),
        api.format_span_id(parent.span_id),
    )
