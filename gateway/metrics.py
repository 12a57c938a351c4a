"""What the edge counts, per route and pre-bound."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.chassis import tracing
from services.chassis.metrics import BUCKETS_S

_ROUTE: Final = ("http_method", "http_route")


class Metrics:
    """The HTTP figures of a process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "http_server_requests", "Requests answered.", (*_ROUTE, "http_status"), registry=self.registry
        )
        self._seconds = Histogram(
            "http_server_request_seconds",
            "How long requests took.",
            _ROUTE,
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._in_flight = Gauge("http_server_in_flight", "Requests being answered.", registry=self.registry)
        self._limited = Counter(
            "http_server_rate_limited", "Requests refused as too many.", ("limit",), registry=self.registry
        )
        self._streams = Gauge("http_server_streams_open", "Streams under way.", registry=self.registry)
        self._messages = Counter(
            "http_server_stream_messages", "Messages sent on streams.", _ROUTE, registry=self.registry
        )
        self._ends = Counter(
            "http_server_stream_ends", "How streams ended.", (*_ROUTE, "outcome"), registry=self.registry
        )

        Gauge(
            "tracing_spans_lost", "Spans that the collector did not get.", registry=self.registry
        ).set_function(tracing.lost)

    def rate_limited(self, limit: str) -> None:
        """Counts a request that this limit refused."""
        self._limited.labels(limit).inc()

    def show_in_flight(self, read: Callable[[], float]) -> None:
        """Shows a count that the edge keeps; read at each scrape."""
        self._in_flight.set_function(read)

    def show_streams(self, read: Callable[[], float]) -> None:
        """The same for open streams."""
        self._streams.set_function(read)

    def stream(self, http_method: str, template: str) -> "StreamMetrics":
        """What only streams have."""
        return StreamMetrics(self._messages, self._ends, (http_method, template))

    def route(self, http_method: str, template: str) -> "RouteMetrics":
        """The figures of one route; requests that lead nowhere count under an empty template."""
        return RouteMetrics(self._requests, self._seconds, (http_method, template))


class RouteMetrics:
    """The figures of one route."""

    def __init__(self, requests: Counter, seconds: Histogram, labels: tuple[str, str]) -> None:
        self._requests = requests
        self._labels = labels
        self._by_status: dict[int, Counter] = {}
        self._seconds = seconds.labels(*labels)

    def answered(self, status: int, duration_s: float | None) -> None:
        """`duration_s`: None for a stream, whose length says nothing about how fast anything was."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._requests.labels(*self._labels, str(status))
        counter.inc()
        if duration_s is not None:
            self._seconds.observe(duration_s)


class StreamMetrics:
    """The figures of one route's streams."""

    def __init__(self, messages: Counter, ends: Counter, labels: tuple[str, str]) -> None:
        self.message = messages.labels(*labels).inc
        self._ends = ends
        self._labels = labels

    def ended(self, outcome: str) -> None:
        self._ends.labels(*self._labels, outcome).inc()
