"""Prometheus metrics, their children bound once per method: looking one up by labels per call costs more.

Names follow go-grpc-prometheus, so that the dashboards the world has made for it fit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.chassis.contract import Method

# From a cached read to the longest deadline.
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_METHOD: Final = ("grpc_service", "grpc_method")


class CallMetrics:
    """The figures of one method on one side."""

    def __init__(self, family: "_Family", labels: tuple[str, str]) -> None:
        self._handled_family = family.handled
        self._labels = labels
        self._handled: dict[str, Counter] = {}
        self._started = family.started.labels(*labels)
        self._seconds = family.seconds.labels(*labels)
        self._in_flight = family.in_flight.labels(*labels)

    def begun(self) -> None:
        self._started.inc()
        self._in_flight.inc()

    def ended(self, code: str, duration_s: float) -> None:
        """The call begun last, or another of the same method, ended with this code."""
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = self._handled_family.labels(*self._labels, code)
        handled.inc()
        self._seconds.observe(duration_s)
        self._in_flight.dec()


class Metrics:
    """Everything a process measures, in one registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._server = _Family("grpc_server", "served", self.registry)
        self._client = _Family("grpc_client", "made", self.registry)
        self._refreshes: list[Callable[[], Awaitable[object]]] = []
        self.retries = Counter(
            "grpc_client_retries",
            "Attempts after the first.",
            _METHOD,
            registry=self.registry,
        )

    def served(self, method: Method) -> CallMetrics:
        """The figures of a method served here."""
        return CallMetrics(self._server, (method.service, method.name))

    def called(self, method: Method) -> CallMetrics:
        """The figures of a method called from here, retries included in one call."""
        return CallMetrics(self._client, (method.service, method.name))

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Shows a figure that someone else keeps, such as the outbox's lag; read at each scrape."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

    def before_scrape(self, refresh: Callable[[], Awaitable[object]]) -> None:
        """Has figures that must be waited for refreshed at each scrape; `refresh` is quick, or gives up."""
        self._refreshes.append(refresh)

    async def refresh(self) -> None:
        """Brings everything up to date that is not so by itself."""
        await asyncio.gather(*(refresh() for refresh in self._refreshes))


class _Family:
    def __init__(self, prefix: str, verb: str, registry: CollectorRegistry) -> None:
        self.started = Counter(f"{prefix}_started", f"Calls {verb}, begun.", _METHOD, registry=registry)
        self.handled = Counter(
            f"{prefix}_handled", f"Calls {verb}, ended, by code.", (*_METHOD, "grpc_code"), registry=registry
        )
        self.seconds = Histogram(
            f"{prefix}_handling_seconds",
            f"How long calls {verb} took.",
            _METHOD,
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge(f"{prefix}_in_flight", f"Calls being {verb}.", _METHOD, registry=registry)
