"""The steps of the saga are spans in the trace of their order, whoever drives it."""

from collections.abc import Iterator

import pytest

from services.chassis import context, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.storage.database import Store
from services.chassis.tracing import Span
from services.order.domain import FORWARD
from services.order.facts import Step
from services.order.participants import Refused, Unknown
from services.order.store import Transaction
from tests.order.conftest import Script, ScriptedParticipants
from tests.order.test_saga import ID, accept, ended, running, saga_of

REQUEST = RequestContext(TraceContext.fresh().sampled(is_it=True))


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    with tracing.captured() as spans:
        yield spans


def steps(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.name.startswith("saga ")]


async def accepted(store: Store[Transaction], participants: ScriptedParticipants) -> None:
    """By a driver that dies at once."""
    with context.working_on(REQUEST):
        await accept(store, saga_of(store, participants))


async def test_each_step_is_a_span_below_the_request_that_placed_the_order(
    store: Store[Transaction], spans: list[Span]
) -> None:
    participants = ScriptedParticipants({Step.AUTHORIZE_PAYMENT: [Unknown("UNAVAILABLE")]})
    saga = saga_of(store, participants)
    async with running(saga):
        with context.working_on(REQUEST):
            saga.take(await accept(store, saga))
        await ended(store, saga)
    found = steps(spans)
    assert [span.name for span in found] == [f"saga {step}" for step in participants.steps]
    assert {(span.trace.trace_id, span.parent_id) for span in found} == {
        (REQUEST.trace.trace_id, REQUEST.trace.span_id)
    }
    tried = [span for span in found if span.name == "saga AUTHORIZE_PAYMENT"]
    assert [span.attributes["bodega.outcome"] for span in tried] == ["unknown", "done"]
    assert [span.attributes["bodega.attempt"] for span in tried] == [1, 2]
    assert {span.attributes["bodega.order.id"] for span in found} == {ID}


async def test_another_driver_goes_on_in_the_same_trace(store: Store[Transaction], spans: list[Span]) -> None:
    await accepted(store, ScriptedParticipants())
    saga = saga_of(store, ScriptedParticipants())  # the same driver, in its next life
    async with running(saga):
        order = await ended(store, saga)
    found = steps(spans)
    assert [span.name for span in found] == [f"saga {step}" for step in FORWARD]
    assert {span.parent_id for span in found} == {REQUEST.trace.span_id}
    stored = await store.read(lambda tx: tx.orders.timeline(order.id))
    assert {event.trace_id for event in stored} == {REQUEST.trace.trace_id}


async def test_a_refusal_is_an_outcome_and_undoing_a_step(
    store: Store[Transaction], spans: list[Span]
) -> None:
    script: Script = {Step.AUTHORIZE_PAYMENT: [Refused("PAYMENT_DECLINED")]}
    await accepted(store, ScriptedParticipants())
    saga = saga_of(store, ScriptedParticipants(script))
    async with running(saga):
        await ended(store, saga)
    outcomes = {span.name: span.attributes["bodega.outcome"] for span in steps(spans)}
    assert outcomes == {
        "saga RESERVE_STOCK": "done",
        "saga AUTHORIZE_PAYMENT": "refused",
        "saga RELEASE_STOCK": "done",
    }
