"""Spans to a real collector, by OpenTelemetry's SDK and exporter."""

import asyncio
import subprocess
import sys
import threading
import time
from importlib.metadata import version

from opentelemetry.semconv._incubating.attributes import messaging_attributes as messaging
from opentelemetry.semconv._incubating.attributes import rpc_attributes as rpc
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import error_attributes as error
from opentelemetry.semconv.attributes import http_attributes as http

from services.chassis import app, telemetry, tracing
from services.chassis.config import ServiceSettings
from services.chassis.context import TraceContext
from services.chassis.server.access import Everyone
from services.chassis.testing import free_port, until
from services.chassis.tracing import Event, Kind, Span, names
from services.chassis.tracing.config import TracingSettings
from tests.collector import Received, collecting

PARENT = TraceContext.fresh().sampled(is_it=True)
PLACE = PARENT.child()


def span(kind: Kind = Kind.CLIENT, parent_id: str = PARENT.span_id, error: str = "") -> Span:
    return Span(
        "work",
        kind,
        PLACE,
        parent_id,
        1_700_000_000_000_000_001,
        1_700_000_001_000_000_002,
        {"text": "a", "number": 3, "share": 0.5, "is": True},
        error,
        (Event("retry", 1_700_000_000_500_000_000, {"code": "UNAVAILABLE"}),),
    )


async def test_a_span_arrives_as_it_was_written() -> None:
    with collecting() as collector:
        tracing.configure(TracingSettings(otlp_endpoint=collector.endpoint), service="order", instance="one")
        try:
            assert tracing.is_on()
            tracing.write(span())
            tracing.write(span(Kind.SERVER, parent_id="", error="INTERNAL"))
            await until(lambda: len(collector.spans) == 2)
        finally:
            tracing.close()
        first, second = collector.spans
    assert first == Received(
        service="order",
        instance="one",
        name="work",
        kind=3,
        trace_id=PLACE.trace_id,
        span_id=PLACE.span_id,
        parent_id=PARENT.span_id,
        begun_ns=1_700_000_000_000_000_001,
        ended_ns=1_700_000_001_000_000_002,
        attributes={"text": "a", "number": 3, "share": 0.5, "is": True},
        events=("retry",),
        is_error=False,
        message="",
    )
    assert (second.kind, second.parent_id, second.is_error, second.message) == (2, "", True, "INTERNAL")
    assert second.attributes["error.type"] == "INTERNAL"
    [resource] = {str(of.resource) for request in collector.raw for of in request.resource_spans}  # type: ignore[attr-defined]
    assert version("bodega") in resource


async def test_leaving_hands_over_what_is_left() -> None:
    with collecting() as collector:
        tracing.configure(TracingSettings(otlp_endpoint=collector.endpoint), service="order", instance="one")
        tracing.write(span())
        leaving = threading.Thread(target=tracing.close)
        leaving.start()
        await until(lambda: not leaving.is_alive())
        assert len(collector.spans) == 1
    assert not tracing.is_on()


async def test_a_program_goes_by_the_same_name_at_the_collector_as_elsewhere() -> None:
    with collecting() as collector:
        told = ServiceSettings(
            service="playground",
            guests_plaintext=True,
            tracing=TracingSettings(otlp_endpoint=collector.endpoint),
        )
        program = app.App(told, access=Everyone())
        running = asyncio.create_task(program.run())
        try:
            await until(lambda: program.health.started)
            tracing.write(span())
            await until(lambda: bool(collector.spans))
        finally:
            program.stop()
            await running
            tracing.close()
    assert collector.spans[0].instance == program.instance


def test_without_a_collector_calls_go_on_and_losses_are_counted() -> None:
    with telemetry.captured() as lines:
        endpoint = f"http://127.0.0.1:{free_port()}"
        tracing.configure(TracingSettings(otlp_endpoint=endpoint), service="order", instance="one")
        begun = time.monotonic()
        tracing.write(span())
        assert time.monotonic() - begun < 0.5
        exporter = tracing._process.exporter
        assert exporter is not None
        tracing.close()
        assert time.monotonic() - begun < 10.0
        exporter._thread.join(10)  # type: ignore[attr-defined]
        assert exporter.lost == 1
    assert [line["level"] for line in lines] == ["warning"]


def test_who_exports_nothing_loads_nothing() -> None:
    look = "import sys, services.chassis.service; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", look], text=True).split()
    assert "services.chassis.tracing" in loaded
    assert [module for module in loaded if module.startswith("opentelemetry")] == []


def test_attributes_are_named_as_the_conventions_name_them() -> None:
    ours = {value for name, value in vars(names).items() if name.isupper() and value.count(".")}
    conventions = {
        value
        for module in (db, error, http, messaging, rpc)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    assert {name for name in ours - conventions if not name.startswith("bodega.")} == set()
    assert len(ours & conventions) > 10
