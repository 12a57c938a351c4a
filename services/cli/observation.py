"""What one program of a running shop says of itself: health, age, and how far it is behind."""

import math
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from services.chassis.policy.circuit import State
from services.cli import probe
from services.cli.endpoints import Endpoints, ServiceEndpoint

ASK_MAX_S: Final = 3.0  # a service takes a second for its checks and another for its figures at most
DEGRADED: Final = "DEGRADED"
NO_ANSWER: Final = "NO ANSWER"

_SERVING: Final = (probe.SERVING, DEGRADED)


@dataclass(frozen=True, slots=True)
class Observation:
    """One program. None or NaN is what it did not say."""

    name: str
    health: str
    """SERVING, DEGRADED, or what else was the answer."""

    missing: tuple[str, ...] = ()
    """What it depends on and does not find, each with why."""

    version: str = ""
    pid: int | None = None
    started_at: float | None = None
    """Unix time."""

    outbox_rows: float | None = None
    outbox_oldest_age_s: float | None = None
    consumer_lags: Mapping[str, float] = field(default_factory=dict)
    """Events that wait, by consumer."""

    writer_transactions: float | None = None
    """Taken and not yet answered."""

    left_alone: tuple[str, ...] = ()
    """Methods of others that failed too often for it, and are not called for now."""

    @property
    def is_serving(self) -> bool:
        return self.health in _SERVING


def service(name: str, at: ServiceEndpoint) -> Observation:
    """Asks a service by its own health protocol, and its operations port for the rest."""
    with grpc.insecure_channel(at.grpc) as channel:
        health = probe.check(channel, timeout_s=ASK_MAX_S)
    missing = tuple(_missing(_page(at.http, "/health/ready")))
    figures = _figures(_page(at.http, "/metrics"))
    return Observation(
        name,
        DEGRADED if health == probe.SERVING and missing else health,
        missing,
        version=figures.version,
        pid=at.pid,
        started_at=figures.get("bodega_start_time_seconds"),
        outbox_rows=figures.get("outbox_rows"),
        outbox_oldest_age_s=figures.get("outbox_oldest_age_seconds"),
        consumer_lags=figures.consumer_lags,
        writer_transactions=figures.get("writer_transactions"),
        left_alone=tuple(figures.left_alone),
    )


def gateway(shop: Endpoints) -> Observation:
    """Asks the edge whether it is ready."""
    answer = _page(urlsplit(shop.gateway).netloc, "/health/ready")
    if answer is None:
        return Observation("gateway", NO_ANSWER, pid=shop.gateway_pid)
    return Observation("gateway", probe.SERVING if answer.is_success else "NOT_SERVING", pid=shop.gateway_pid)


def nats(shop: Endpoints) -> Observation:
    """Reads what the broker greets clients with."""
    where = urlsplit(shop.nats)
    try:
        with (
            socket.create_connection((where.hostname or "", where.port or 0), ASK_MAX_S) as connection,
            connection.makefile("rb") as lines,
        ):
            greeting = orjson.loads(lines.readline().removeprefix(b"INFO "))
    except (OSError, ValueError):
        return Observation("nats", NO_ANSWER, pid=shop.nats_pid)
    health = probe.SERVING if greeting.get("jetstream") else "NO JETSTREAM"
    return Observation("nats", health, version=str(greeting.get("version", "")), pid=shop.nats_pid)


def _page(address: str, path: str) -> httpx.Response | None:
    try:
        return httpx.get(f"http://{address}{path}", timeout=ASK_MAX_S)
    except httpx.HTTPError:
        return None


def _missing(answer: httpx.Response | None) -> Iterable[str]:
    if answer is None:
        yield f"operations port: {NO_ANSWER.lower()}"
        return
    checks: dict[str, dict[str, Any]] = orjson.loads(answer.content).get("checks", {})
    for name, check in checks.items():
        if not check["ok"]:
            yield f"{name}: {check['problem']}"


@dataclass(slots=True)
class _Figures:
    """The metrics of a page that are ours."""

    plain: dict[str, float] = field(default_factory=dict)
    consumer_lags: dict[str, float] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)
    version: str = ""

    def get(self, name: str) -> float | None:
        found = self.plain.get(name)
        return None if found is None or math.isnan(found) else found


def _figures(answer: httpx.Response | None) -> _Figures:
    found = _Figures()
    if answer is None or answer.is_error:
        return found
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "bodega_build_info":
                found.version = sample.labels["version"]
            elif sample.name == "consumer_lag_events":
                found.consumer_lags[sample.labels["consumer"]] = sample.value
            elif sample.name == "grpc_client_circuit_state" and sample.value:
                found.left_alone.append(_circuit(sample.labels, State(int(sample.value))))
            elif not sample.labels:
                found.plain[sample.name] = sample.value
    return found


def _circuit(labels: Mapping[str, str], state: State) -> str:
    words = state.name.lower().replace("_", " ")
    return f"{labels['grpc_service']}/{labels['grpc_method']} at {labels['target']} (circuit {words})"
