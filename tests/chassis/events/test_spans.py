"""From the request that says something, over its publishing, to whoever reacts: one line of spans."""

from collections.abc import Iterator

import pytest

from services.chassis import context, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.events.jetstream import JetStream
from services.chassis.events.relay import Relay
from services.chassis.tracing import Kind, Span
from services.kernel.clock import SystemClock
from tests.chassis.events.ledger import Ledger, Transaction, ids_heard, say
from tests.chassis.events.test_consumer import consumer, has_heard
from tests.chassis.events.waiting import eventually, running

REQUEST = RequestContext(TraceContext.fresh().sampled(is_it=True))


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    with tracing.captured() as spans:
        yield spans


def relay(speaker: Ledger, jetstream: JetStream) -> Relay:
    return Relay(speaker, jetstream, service="order", clock=SystemClock())


def of(kind: Kind, spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.kind is kind]


async def test_publishing_is_below_the_request_and_the_reaction_below_the_publishing(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, spans: list[Span]
) -> None:
    async with running(relay(speaker, jetstream).run()), running(consumer(listener, jetstream).run()):
        with context.working_on(REQUEST):
            await say(speaker, ("a", "order-1"))
        await eventually(lambda: has_heard(listener, 1))
    [published], [processed] = of(Kind.PRODUCER, spans), of(Kind.CONSUMER, spans)
    assert published.parent_id == REQUEST.trace.span_id
    assert processed.parent_id == published.trace.span_id
    assert {published.trace.trace_id, processed.trace.trace_id} == {REQUEST.trace.trace_id}
    assert (published.name, processed.name) == (
        "publish bodega.order.v1.order_cancelled",
        "process bodega.order.v1.order_cancelled",
    )
    assert published.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "bodega.order.v1.order_cancelled",
        "messaging.message.id": "a",
    }
    assert processed.attributes["messaging.consumer.group.name"] == "listener-order"
    assert published.begun_ns <= published.ended_ns


async def test_of_unsampled_requests_there_is_nothing(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, spans: list[Span]
) -> None:
    async with running(relay(speaker, jetstream).run()), running(consumer(listener, jetstream).run()):
        await say(speaker, ("a", "order-1"))
        with context.working_on(RequestContext(TraceContext.fresh())):
            await say(speaker, ("b", "order-1"))
        await eventually(lambda: has_heard(listener, 2))
    assert spans == []


async def test_a_reaction_that_is_tried_again_has_a_span_for_each_try(
    speaker: Ledger, listener: Ledger, jetstream: JetStream, spans: list[Span]
) -> None:
    tries: list[str] = []

    def react(tx: Transaction, event: object, _message: object) -> None:
        tries.append("")
        if len(tries) == 1:
            raise ValueError("the vault opens with xyzzy")
        tx.hear(event)  # type: ignore[arg-type]

    async with running(relay(speaker, jetstream).run()), running(consumer(listener, jetstream, react).run()):
        with context.working_on(REQUEST):
            await say(speaker, ("a", "order-1"))
        await eventually(lambda: has_heard(listener, 1))
    assert await ids_heard(listener) == ["a"]
    processed = of(Kind.CONSUMER, spans)
    assert [span.error for span in processed] == ["ValueError", ""]
    assert len({span.trace.span_id for span in processed}) == 2
    assert len({span.parent_id for span in processed}) == 1
    assert "xyzzy" not in repr(spans)
