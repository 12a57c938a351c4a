"""Spans to a collector, by OpenTelemetry's SDK and its exporter: loaded only where a collector is named.

Ours are over when they come here, and have their ids; the SDK gets both and makes of them what its exporter
takes. Certificates and headers for the collector are told as every OpenTelemetry exporter is told them:
`OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_EXPORTER_OTLP_HEADERS` and their like.
"""

import logging
from importlib.metadata import version
from typing import Final

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from services.chassis.tracing import Kind, Span, names
from services.chassis.tracing.queue import Queue

SEND_MAX_S: Final = 5.0
"""For a batch, further tries included; a second in which nothing is sent is nothing to worry about."""

DISTRIBUTION: Final = "bodega"

_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def exporter(endpoint: str, *, service: str, instance: str) -> Queue:
    """Sends to a collector, `http://host:port` or `https://…`, as this instance of a service."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the queue tells of failures, once
    sending = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_MAX_S)
    made = Made(service, instance)

    def send(spans: list[Span]) -> bool:
        return sending.export(made.of(spans)) is SpanExportResult.SUCCESS

    return Queue(send, sending.shutdown)


class Made:
    """Makes the SDK's spans of ours; in one thread."""

    def __init__(self, service: str, instance: str) -> None:
        release = version(DISTRIBUTION)
        resource = Resource.create(
            {"service.name": service, "service.version": release, "service.instance.id": instance}
        )
        self._ids = _Given()
        self._ended = _Ended()
        # What arrives here was sampled already: nothing may sample twice.
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer(DISTRIBUTION, release)

    def of(self, spans: list[Span]) -> list[ReadableSpan]:
        for span in spans:
            self._make(span)
        return self._ended.taken()

    def _make(self, span: Span) -> None:
        trace_id = int(span.trace.trace_id, 16)
        self._ids.trace_id, self._ids.span_id = trace_id, int(span.trace.span_id, 16)
        made = self._tracer.start_span(
            span.name,
            api.set_span_in_context(NonRecordingSpan(_parent(trace_id, span.parent_id))),
            _KINDS[span.kind],
            dict(span.attributes),
            start_time=span.begun_ns,
        )
        for event in span.events:
            made.add_event(event.name, dict(event.attributes), event.at_ns)
        if span.error:
            made.set_attribute(names.ERROR_TYPE, span.error)
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(span.ended_ns)


def _parent(trace_id: int, parent_id: str) -> SpanContext:
    if not parent_id:
        return api.INVALID_SPAN_CONTEXT
    return SpanContext(trace_id, int(parent_id, 16), is_remote=True, trace_flags=_SAMPLED)


class _Given(IdGenerator):
    """Ids that are known beforehand."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Ended(SpanProcessor):
    """Keeps what the SDK has made until it is fetched."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def taken(self) -> list[ReadableSpan]:
        taken, self._spans = self._spans, []
        return taken
