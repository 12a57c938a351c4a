"""The span of a call that is served, on a real server."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from services.chassis import context, telemetry, tracing
from services.chassis.context import TraceContext
from services.chassis.testing import serving, until
from services.chassis.tracing import Kind, Span
from services.chassis.tracing.sampling import Sampling
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong, Stub

PARENT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01")
TRUSTING = Sampling(0.0, is_neighbour=lambda _connection: True)
ALL, NONE = Sampling(1.0), Sampling(0.0)


class ShelfEmpty(errors.WrongState):
    """Shelf {shelf} is empty."""


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    with tracing.captured() as spans:
        yield spans


@asynccontextmanager
async def playing(sampling: Sampling, **handlers: Any) -> AsyncIterator[Stub]:
    async with serving(
        (playground.add_to_server, handlers), files=[playground.FILE], sampling=sampling
    ) as channel:
        yield Stub(channel)


def bare(stub: Stub, name: str) -> Any:
    """The method without our client's layers, taking and giving bytes."""
    channel: Any = stub._channel
    return channel.raw.unary_unary(f"/{playground.SERVICE}/{name}")


async def echo(request: Any, _context: Any) -> Any:
    return Pong(name=request.name)


def raising(error: Exception) -> Any:
    async def handler(_request: Any, _context: Any) -> Any:
        raise error

    return handler


def served(spans: list[Span]) -> Span:
    [span] = [span for span in spans if span.kind is Kind.SERVER]
    return span


async def test_a_sampled_call_is_a_span_below_its_caller_s(spans: list[Span]) -> None:
    seen: list[context.RequestContext | None] = []

    async def handler(_request: Any, _context: Any) -> Any:
        seen.append(context.current())
        return Pong()

    async with playing(TRUSTING, Read=handler) as stub:
        before = time.time_ns()
        await bare(stub, "Read")(b"", metadata=(("traceparent", str(PARENT)),))
    span = served(spans)
    assert span.name == f"{playground.SERVICE}/Read"
    assert (span.trace.trace_id, span.parent_id) == (PARENT.trace_id, PARENT.span_id)
    assert seen[0] is not None
    assert span.trace == seen[0].trace  # what log lines name, and children
    assert before <= span.begun_ns <= span.ended_ns <= time.time_ns()
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{playground.SERVICE}/Read",
        "rpc.response.status_code": "OK",
    }
    assert span.error == ""


async def test_an_unsampled_call_leaves_nothing(spans: list[Span]) -> None:
    async with playing(NONE, Read=echo) as stub:
        await stub.Read(Ping())
        await bare(stub, "Read")(b"", metadata=(("traceparent", str(PARENT.sampled(is_it=False))),))
        await bare(stub, "Read")(b"", metadata=(("traceparent", str(PARENT)),))  # a stranger's wish
    assert spans == []


async def test_the_first_hop_decides_and_begins_the_trace(spans: list[Span]) -> None:
    async with playing(ALL, Read=echo) as stub:
        await bare(stub, "Read")(b"")
    assert served(spans).parent_id == ""


async def test_an_unsampled_call_that_fails_has_one_span_from_when_it_began(spans: list[Span]) -> None:
    async def handler(_request: Any, _context: Any) -> Any:
        await asyncio.sleep(0.05)
        raise ValueError("the vault opens with xyzzy")

    with telemetry.captured():
        async with playing(NONE, Fire=handler) as stub:
            before = time.time_ns()
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Fire(Ping())
    span = served(spans)
    assert span.begun_ns >= before
    assert span.ended_ns - span.begun_ns >= 40_000_000
    assert (span.error, span.attributes["rpc.response.status_code"]) == ("INTERNAL", "INTERNAL")
    assert "xyzzy" not in repr(span)
    assert "ValueError" not in repr(span)


async def test_an_unsampled_call_that_is_slow_has_one_span() -> None:
    with tracing.captured(slow_s=0.0) as spans:
        async with playing(NONE, Read=echo) as stub:
            await stub.Read(Ping())
    assert served(spans).error == ""


async def test_an_outage_does_not_make_thousands_of_spans(
    spans: list[Span], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = int(time.monotonic())
    monkeypatch.setattr(tracing, "_process", replace(tracing._process, second=second, unasked=0))
    taken = sum(tracing.takes_unasked() for _ in range(10_000))
    assert tracing.UNASKED_MAX <= taken < 10_000
    monkeypatch.setattr(tracing, "UNASKED_MAX", 0)
    async with playing(NONE, Fire=raising(errors.Unavailable())) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Fire(Ping())
    assert spans == []


async def test_a_stream_is_not_slow_for_being_long() -> None:
    async def watch(_request: Any, _context: Any) -> Any:
        yield Pong()

    with tracing.captured(slow_s=0.0) as spans:
        async with playing(NONE, Watch=watch) as stub:
            assert [reply async for reply in stub.Watch(Ping())] == [Pong()]
    assert spans == []


async def test_a_refusal_is_an_answer_not_a_failure(spans: list[Span]) -> None:
    async with playing(NONE, Write=raising(ShelfEmpty(shelf="A7"))) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Write(Ping())
    assert spans == []
    async with playing(ALL, Write=raising(ShelfEmpty(shelf="A7"))) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await bare(stub, "Write")(b"")
    span = served(spans)
    assert (span.error, span.attributes["bodega.reason"]) == ("", "SHELF_EMPTY")
    assert "A7" not in repr(span)


async def test_a_call_that_its_caller_gives_up_is_told_as_cancelled(spans: list[Span]) -> None:
    entered = asyncio.Event()

    async def handler(_request: Any, _context: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    async with playing(ALL, Fire=handler) as stub:
        call = bare(stub, "Fire")(b"")
        await asyncio.wait_for(entered.wait(), 5)
        call.cancel()
        await until(lambda: spans)
    assert served(spans).attributes["rpc.response.status_code"] == "CANCELLED"


async def test_a_sampled_stream_is_one_span(spans: list[Span]) -> None:
    async def watch(_request: Any, _context: Any) -> Any:
        yield Pong()
        yield Pong()

    async with playing(TRUSTING, Watch=watch) as stub:
        channel: Any = stub._channel
        call = channel.raw.unary_stream(f"/{playground.SERVICE}/Watch")(
            b"", metadata=(("traceparent", str(PARENT)),)
        )
        assert [reply async for reply in call] == [b"", b""]
    assert served(spans).parent_id == PARENT.span_id
