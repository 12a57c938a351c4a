"""The span of a request at the edge."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest

from gateway import app
from gateway.app import Settings
from services.chassis import telemetry, tracing
from services.chassis.context import TraceContext
from services.chassis.tracing import Kind
from services.chassis.tracing.config import TracingSettings
from tests.gateway.world import Backend, Seen, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED_BY_A_STRANGER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@asynccontextmanager
async def edge(world: World, backend: Backend, ratio: float) -> AsyncIterator[httpx.AsyncClient]:
    backend.forget()
    told = TracingSettings(otlp_endpoint="http://localhost:4317", sample_ratio=ratio)
    gateway = app.build(world.files, [f"127.0.0.1:{backend.port}"], Settings(drain_max_s=5, tracing=told))
    async with (
        app.running(gateway) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", timeout=10) as http,
    ):
        yield http


async def breaking(context: Any, _seen: Seen) -> bytes:
    await context.abort(grpc.StatusCode.INTERNAL, "the vault opens with xyzzy")
    raise AssertionError


async def test_a_sampled_request_is_one_span_named_by_its_route(world: World, backend: Backend) -> None:
    with tracing.captured() as spans:
        async with edge(world, backend, 1.0) as http:
            before = time.time_ns()
            await http.get("/v1/shelves/secret-id?name=secret-name")
    [span] = spans
    assert span.name == "GET /v1/shelves/{shelf_id}"
    assert (span.kind, span.parent_id, span.error) == (Kind.SERVER, "", "")
    assert before <= span.begun_ns <= span.ended_ns <= time.time_ns()
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/v1/shelves/{shelf_id}",
        "http.response.status_code": 200,
    }
    sent = TraceContext.parse(str(backend.calls[0].metadata["traceparent"]))
    assert sent == span.trace  # the backend's span is a child of this one


async def test_a_stranger_cannot_wish_to_be_sampled(world: World, backend: Backend) -> None:
    with tracing.captured() as spans:
        async with edge(world, backend, 0.0) as http:
            answer = await http.get("/v1/shelves/1", headers=SAMPLED_BY_A_STRANGER)
    assert spans == []
    sent = str(backend.calls[0].metadata["traceparent"])
    assert sent.startswith(f"00-{TRACE}-")
    assert sent.endswith("-00")
    assert answer.headers["traceparent"] == sent


async def test_a_stranger_s_place_in_the_trace_is_kept(world: World, backend: Backend) -> None:
    with tracing.captured() as spans:
        async with edge(world, backend, 1.0) as http:
            await http.get("/v1/shelves/1", headers=SAMPLED_BY_A_STRANGER)
    [span] = spans
    assert (span.trace.trace_id, span.parent_id) == (TRACE, "b7ad6b7169203331")


async def test_an_unsampled_request_that_fails_has_one_span(world: World, backend: Backend) -> None:
    with tracing.captured() as spans, telemetry.captured():
        async with edge(world, backend, 0.0) as http:
            backend.answers["GetShelf"] = breaking
            assert (await http.get("/v1/shelves/1")).status_code == 500
            backend.forget()
            assert (await http.get("/v1/nothing")).status_code == 404
    [span] = spans
    assert (span.error, span.trace.is_sampled) == ("500", False)
    assert "xyzzy" not in repr(span)


async def test_an_unsampled_request_that_is_slow_has_one_span(world: World, backend: Backend) -> None:
    with tracing.captured(slow_s=0.0) as spans:
        async with edge(world, backend, 0.0) as http:
            await http.get("/v1/shelves/1")
    assert len(spans) == 1


async def test_a_method_of_a_client_s_invention_is_not_repeated(world: World, backend: Backend) -> None:
    with tracing.captured() as spans:
        async with edge(world, backend, 1.0) as http:
            await http.request("PURGE", "/v1/nothing")
    [span] = spans
    assert (span.name, span.attributes["http.request.method"]) == ("HTTP", "_OTHER")
