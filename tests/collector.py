"""A collector in memory: a real OTLP receiver that keeps the spans it is sent, from however many programs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class Received:
    """One span."""

    service: str
    instance: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    begun_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    events: tuple[str, ...]
    is_error: bool
    message: str


@dataclass
class Collector:
    """What has come so far."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    raw: list[Message] = field(default_factory=list)
    """The requests as they came, for those who search them."""

    def traces(self) -> dict[str, list[Received]]:
        found: dict[str, list[Received]] = defaultdict(list)
        for span in [*self.spans]:
            found[span.trace_id].append(span)
        return dict(found)


class _Receiver(rpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self._collector.raw.append(request)
        for of_resource in request.resource_spans:
            resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self._collector.spans += [_received(resource, span) for span in of_scope.spans]
        return pb.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listens on a free port, in threads of its own: it is nobody's business what the caller's loop does."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2, "collector"), options=[("grpc.so_reuseport", 0)])
    rpc.add_TraceServiceServicer_to_server(_Receiver(collector), server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()


def orphans(spans: Iterable[Received]) -> list[Received]:
    """Spans whose parent never came."""
    spans = list(spans)
    known = {span.span_id for span in spans}
    return [span for span in spans if span.parent_id and span.parent_id not in known]


def roots(spans: Iterable[Received]) -> list[Received]:
    """Spans that began their trace."""
    return [span for span in spans if not span.parent_id]


def _received(resource: dict[str, Any], span: Any) -> Received:
    return Received(
        service=resource["service.name"],
        instance=resource["service.instance.id"],
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        begun_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        events=tuple(event.name for event in span.events),
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        message=span.status.message,
    )


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in attributes}
