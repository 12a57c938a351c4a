"""What a process measures, for Prometheus.

Calls are counted in plain numbers, which the event loop alone touches, and rendered when somebody looks: a
counter of prometheus_client takes a lock and several checks for each step, at every call, six times.

Names follow go-grpc-prometheus, so that the dashboards the world has made for it fit.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.chassis.contract import Method
from services.chassis.policy.limiter import Limiter

# From a cached read to the longest deadline.
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

DISTRIBUTION: Final = "bodega"

_METHOD: Final = ("grpc_service", "grpc_method")
_BOUNDS: Final = (*(str(bound) for bound in BUCKETS_S), "+Inf")


class CallMetrics:
    """The figures of one method on one side."""

    __slots__ = ("handled", "in_buckets", "labels", "seconds", "started")

    def __init__(self, labels: tuple[str, str]) -> None:
        self.labels = labels
        self.started = 0
        self.handled: dict[str, int] = {}
        self.seconds = 0.0
        self.in_buckets = [0] * len(_BOUNDS)

    def begun(self) -> None:
        self.started += 1

    def ended(self, code: str, duration_s: float) -> None:
        """The call begun last, or another of the same method, ended with this code."""
        self.handled[code] = self.handled.get(code, 0) + 1
        self.seconds += duration_s
        self.in_buckets[bisect_left(BUCKETS_S, duration_s)] += 1


class Metrics:
    """Everything a process measures, in one registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._server = _Calls("grpc_server", "served", self.registry)
        self._client = _Calls("grpc_client", "made", self.registry)
        self._refreshes: list[Callable[[], Awaitable[object]]] = []
        self.retries = Counter(
            "grpc_client_retries",
            "Attempts after the first.",
            _METHOD,
            registry=self.registry,
        )
        # Of neighbours that fail: what follows changes seldom, or is read only when somebody looks.
        self.circuit_state = Gauge(
            "grpc_client_circuit_state",
            "0: closed, calls are made. 1: half open, a few are. 2: open, none is.",
            ("target", *_METHOD),
            registry=self.registry,
        )
        self.circuit_changes = Counter(
            "grpc_client_circuit_changes",
            "Circuits opened and closed.",
            ("target", *_METHOD, "to"),
            registry=self.registry,
        )
        self.bulkhead_in_flight = Gauge(
            "grpc_client_bulkhead_in_flight",
            "Calls to a target that wait for an answer.",
            ("target",),
            registry=self.registry,
        )
        self.bulkhead_refused = Counter(
            "grpc_client_bulkhead_refused",
            "Calls not made because too many waited already.",
            ("target",),
            registry=self.registry,
        )
        self.stale_replies = Counter(
            "grpc_client_stale_replies",
            "Calls answered by the last good reply.",
            _METHOD,
            registry=self.registry,
        )

    def served(self, method: Method) -> CallMetrics:
        """The figures of a method served here."""
        return self._server.of(method)

    def called(self, method: Method) -> CallMetrics:
        """The figures of a method called from here, retries included in one call."""
        return self._client.of(method)

    def served_so_far(self) -> Iterable[CallMetrics]:
        """The figures of all methods that were called here."""
        return (calls for calls in self._server.all() if calls.started)

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Shows a figure that someone else keeps, such as the outbox's lag; read at each scrape."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

    def before_scrape(self, refresh: Callable[[], Awaitable[object]]) -> None:
        """Has figures that must be waited for refreshed at each scrape; `refresh` is quick, or gives up."""
        self._refreshes.append(refresh)

    async def refresh(self) -> None:
        """Brings everything up to date that is not so by itself."""
        await asyncio.gather(*(refresh() for refresh in self._refreshes))


def observe_program(registry: CollectorRegistry) -> None:
    """Adds what runs here, and since when: since now."""
    Info("bodega_build", "What runs here.", registry=registry).info({"version": version(DISTRIBUTION)})
    Gauge(
        "bodega_start_time_seconds", "When this process began, in Unix time.", registry=registry
    ).set_to_current_time()


class LimiterFigures(Collector):
    """What a limiter allows, and whom it refused."""

    def __init__(self, prefix: str, limiter: Limiter) -> None:
        self._prefix = prefix
        self._limiter = limiter

    def collect(self) -> Iterator[Metric]:
        prefix, limiter = self._prefix, self._limiter
        refused = CounterMetricFamily(f"{prefix}_shed", "Calls refused as too many.", labels=("priority",))
        for priority, count in limiter.refused.items():
            refused.add_metric((priority.name.lower(),), count)
        yield GaugeMetricFamily(f"{prefix}_limit", "Calls worked on at once, at most.", limiter.limit)
        yield GaugeMetricFamily(f"{prefix}_limited", "Calls worked on that count.", limiter.in_flight)
        yield refused


class _Calls(Collector):
    """The figures of all methods on one side."""

    def __init__(self, prefix: str, verb: str, registry: CollectorRegistry) -> None:
        self._prefix = prefix
        self._verb = verb
        self._by_method: dict[tuple[str, str], CallMetrics] = {}
        registry.register(self)

    def of(self, method: Method) -> CallMetrics:
        labels = (method.service, method.name)
        return self._by_method.setdefault(labels, CallMetrics(labels))

    def all(self) -> Iterable[CallMetrics]:
        return self._by_method.values()

    def collect(self) -> Iterator[Metric]:
        prefix, verb = self._prefix, self._verb
        started = CounterMetricFamily(f"{prefix}_started", f"Calls {verb}, begun.", labels=_METHOD)
        handled = CounterMetricFamily(
            f"{prefix}_handled", f"Calls {verb}, ended, by code.", labels=(*_METHOD, "grpc_code")
        )
        seconds = HistogramMetricFamily(
            f"{prefix}_handling_seconds", f"How long calls {verb} took.", labels=_METHOD
        )
        in_flight = GaugeMetricFamily(f"{prefix}_in_flight", f"Calls being {verb}.", labels=_METHOD)
        for calls in self._by_method.values():
            started.add_metric(calls.labels, calls.started)
            for code, count in calls.handled.items():
                handled.add_metric((*calls.labels, code), count)
            buckets = list(zip(_BOUNDS, accumulate(calls.in_buckets), strict=True))
            seconds.add_metric(calls.labels, buckets, calls.seconds)
            in_flight.add_metric(calls.labels, calls.started - sum(calls.handled.values()))
        yield from (started, handled, seconds, in_flight)
