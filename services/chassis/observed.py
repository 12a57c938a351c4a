"""What every service shows of itself on its operations port: who it is, and how far it is behind.

Figures that take asking for (a query, the broker) are asked for at each scrape, so that nobody pays for them
in between and nobody reads an old one. What does not answer in time is shown as NaN: unknown, not zero.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from prometheus_client import Gauge

from services.chassis import tracing
from services.chassis.events.connection import BROKER_ERRORS
from services.chassis.events.consumer import Consumer
from services.chassis.events.outbox import Lag
from services.chassis.events.relay import Relay
from services.chassis.metrics import Metrics, observe_program
from services.chassis.storage.database import Store
from services.chassis.storage.denials import Denials
from services.kernel.errors import Unavailable

ASK_MAX_S: Final = 1.0  # shorter than any scraper waits

T = TypeVar("T")


def observe_process(metrics: Metrics, store: Store[Any]) -> None:
    """Adds the figures of a process that is being put together now."""
    observe_program(metrics.registry)
    metrics.gauge(
        "tracing_spans_lost", "Spans that the collector did not get.", lambda: float(tracing.lost())
    )
    metrics.gauge(
        "writer_transactions", "Transactions taken and not yet answered.", lambda: float(store.under_way)
    )


def observe_denials(metrics: Metrics, denials: Denials) -> None:
    """Adds what the audit trail lacks."""
    metrics.gauge(
        "audit_denials_lost",
        "Refused calls that could not be written into the audit trail, since the process began.",
        lambda: float(denials.lost),
    )


def observe_outbox(metrics: Metrics, relay: Relay) -> None:
    """Adds how far the world is behind what happened here."""
    rows = Gauge("outbox_rows", "Events that the broker does not have yet.", registry=metrics.registry)
    age = Gauge(
        "outbox_oldest_age_seconds", "How long the oldest of them has waited.", registry=metrics.registry
    )

    async def refresh() -> None:
        lag = await _asked(relay.lag, Lag(rows=0, oldest_age_s=math.nan))
        unknown = math.isnan(lag.oldest_age_s)
        rows.set(math.nan if unknown else lag.rows)
        age.set(lag.oldest_age_s)

    metrics.before_scrape(refresh)


def observe_consumers(metrics: Metrics, consumers: Mapping[str, Consumer[Any]]) -> None:
    """Adds how far consumers are behind the world, by their names."""
    lag = Gauge(
        "consumer_lag_events", "Events that wait for a consumer.", ("consumer",), registry=metrics.registry
    )
    children = {name: lag.labels(name) for name in consumers}

    async def refresh() -> None:
        found = await asyncio.gather(*(_asked(consumer.lag, math.nan) for consumer in consumers.values()))
        for child, events in zip(children.values(), found, strict=True):
            child.set(events)

    metrics.before_scrape(refresh)


async def _asked(ask: Callable[[], Awaitable[T]], unknown: T) -> T:
    try:
        async with asyncio.timeout(ASK_MAX_S):
            return await ask()
    except (*BROKER_ERRORS, TimeoutError, Unavailable):
        return unknown
