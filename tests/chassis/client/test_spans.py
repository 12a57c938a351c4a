"""The span of a call that is made, and how it joins that of its server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.chassis import client, context, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.testing import free_port, serving, until
from services.chassis.tracing import Kind, Span
from services.chassis.tracing.sampling import Sampling
from services.kernel import errors
from tests.chassis import playground
from tests.chassis.playground import Ping, Pong, Stub

TRUSTING = Sampling(0.0, is_neighbour=lambda _connection: True)
AT_HAND = TraceContext.fresh().sampled(is_it=True)


class ShelfBusy(errors.Unavailable):
    """Shelf {shelf} is busy."""


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    with tracing.captured() as spans:
        yield spans


@asynccontextmanager
async def playing(**handlers: Any) -> AsyncIterator[Stub]:
    async with serving(
        (playground.add_to_server, handlers), files=[playground.FILE], sampling=TRUSTING
    ) as channel:
        yield Stub(channel)


async def echo(request: Any, _context: Any) -> Any:
    return Pong(name=request.name)


def the(kind: Kind, spans: list[Span]) -> Span:
    [span] = [span for span in spans if span.kind is kind]
    return span


async def test_request_call_and_server_are_one_line(spans: list[Span]) -> None:
    async with playing(Read=echo) as stub:
        with context.working_on(RequestContext(AT_HAND)):
            await stub.Read(Ping())
    made, served = the(Kind.CLIENT, spans), the(Kind.SERVER, spans)
    assert made.parent_id == AT_HAND.span_id != made.trace.span_id
    assert served.parent_id == made.trace.span_id
    assert {made.trace.trace_id, served.trace.trace_id} == {AT_HAND.trace_id}
    assert made.name == served.name == f"{playground.SERVICE}/Read"
    assert made.begun_ns <= served.begun_ns <= served.ended_ns <= made.ended_ns


@pytest.mark.parametrize("request_at_hand", [None, RequestContext(AT_HAND.sampled(is_it=False))])
async def test_without_a_sampled_request_nothing_is_written(
    spans: list[Span], request_at_hand: RequestContext | None
) -> None:
    async with playing(Read=echo) as stub:
        if request_at_hand is None:
            await stub.Read(Ping())
        else:
            with context.working_on(request_at_hand):
                await stub.Read(Ping())
    assert spans == []


async def test_several_attempts_are_one_call_that_tells_of_each(spans: list[Span]) -> None:
    tries: list[int] = []

    async def handler(_request: Any, _context: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise ShelfBusy(shelf="A7")
        return Pong()

    async with playing(Read=handler) as stub:
        with context.working_on(RequestContext(AT_HAND)):
            await stub.Read(Ping())
    made = the(Kind.CLIENT, spans)
    assert made.error == ""
    assert [event.attributes["bodega.attempt"] for event in made.events] == [1, 2]
    assert {event.attributes["rpc.response.status_code"] for event in made.events} == {"UNAVAILABLE"}
    assert all(made.begun_ns <= event.at_ns <= made.ended_ns for event in made.events)
    servers = [span for span in spans if span.kind is Kind.SERVER]
    assert [span.error for span in servers] == ["SHELF_BUSY", "SHELF_BUSY", ""]
    assert {span.parent_id for span in servers} == {made.trace.span_id}


async def test_a_call_that_is_given_up_is_told_on_both_sides(spans: list[Span]) -> None:
    entered = asyncio.Event()

    async def handler(_request: Any, _context: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    async with playing(Fire=handler) as stub:
        with context.working_on(RequestContext(AT_HAND)):
            call = asyncio.ensure_future(stub.Fire(Ping()))
        await asyncio.wait_for(entered.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: len(spans) == 2)
    assert {span.attributes["rpc.response.status_code"] for span in spans} == {"CANCELLED"}


async def test_a_stream_takes_place_in_the_request_itself(spans: list[Span]) -> None:
    async def watch(_request: Any, _context: Any) -> Any:
        yield Pong()

    async with playing(Watch=watch) as stub:
        with context.working_on(RequestContext(AT_HAND)):
            assert [reply async for reply in stub.Watch(Ping())] == [Pong()]
    [span] = spans
    assert (span.kind, span.parent_id) == (Kind.SERVER, AT_HAND.span_id)


async def test_a_server_that_is_not_there_is_an_error_of_the_call(spans: list[Span]) -> None:
    async with client.connect(f"127.0.0.1:{free_port()}", playground.FILE) as channel:
        with context.working_on(RequestContext(AT_HAND)), pytest.raises(grpc.aio.AioRpcError):
            await Stub(channel).Fire(Ping())
    assert the(Kind.CLIENT, spans).error == "UNAVAILABLE"
