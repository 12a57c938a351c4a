"""Envelopes: CloudEvents in NATS headers and back."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from bodega.order.v1 import order_events_pb2
from bodega.user.v1 import user_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.chassis import context
from services.chassis.context import RequestContext, TraceContext
from services.chassis.events.envelope import Envelope, UnreadableEnvelope, envelope, nats_subject
from services.chassis.identity.caller import Caller

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() == text
)


def test_an_event_carries_trace_actor_and_request_of_its_cause() -> None:
    trace = TraceContext.fresh()
    working = RequestContext(trace=trace, caller=Caller(user_id="u"), labels={"request_id": "r-1"})
    with context.working_on(working):
        made = envelope("order", "o-1", order_events_pb2.OrderPlaced(order_id="o-1"), id="e-1", at=AT)

    assert made.headers() == {
        "Nats-Msg-Id": "e-1",
        "ce-specversion": "1.0",
        "ce-id": "e-1",
        "ce-source": "bodega/order",
        "ce-type": "bodega.order.v1.OrderPlaced",
        "ce-subject": "o-1",
        "ce-time": "2026-01-02T03:04:05.678901Z",
        "ce-datacontenttype": "application/protobuf",
        "ce-actor": "user:u",
        "ce-requestid": "r-1",
        "traceparent": str(trace),
    }
    assert made.nats_subject == "bodega.order.v1.order_placed.o-1"
    assert order_events_pb2.OrderPlaced.FromString(made.data).order_id == "o-1"


def test_background_work_begins_a_trace_of_its_own() -> None:
    made = envelope("order", "o-1", order_events_pb2.OrderPlaced(), id="e-1", at=AT)

    assert TraceContext.parse(made.traceparent) is not None
    assert "ce-actor" not in made.headers()


def test_secrets_stay_at_home() -> None:
    made = envelope("user", "u", user_pb2.User(user_id="u", email="someone@example.org"), id="e", at=AT)

    assert b"someone" not in made.data


@given(words, words, words, st.binary())
def test_what_goes_in_comes_out(event_id: str, subject: str, actor: str, data: bytes) -> None:
    sent = Envelope(
        id=event_id,
        source="bodega/order",
        type="bodega.order.v1.OrderPlaced",
        subject=subject,
        time=AT,
        data=data,
        nats_subject="bodega.order.v1.order_placed.x",
        traceparent=str(TraceContext.fresh()),
        actor=actor,
    )
    headers = sent.headers()

    assert Envelope.from_message(sent.nats_subject, headers, data) == sent
    assert all(value.isprintable() and value.isascii() for value in headers.values())


def test_times_are_told_in_utc() -> None:
    there = AT.astimezone(timezone(timedelta(hours=-3)))
    made = envelope("order", "o", order_events_pb2.OrderPlaced(), id="e", at=there)

    assert made.headers()["ce-time"] == "2026-01-02T03:04:05.678901Z"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_aggregate_id_is_one_token_of_a_subject(aggregate_id: str) -> None:
    subject = nats_subject("bodega.order.v1.OrderNeedsAttention", aggregate_id)
    *prefix, token = subject.split(".")

    assert prefix == ["bodega", "order", "v1", "order_needs_attention"]
    assert not set(token) & set("*> \t\r\n")
    assert token


@pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type", "ce-subject", "ce-time"])
def test_what_lacks_a_header_is_no_envelope(missing: str) -> None:
    headers = envelope("order", "o", order_events_pb2.OrderPlaced(), id="e", at=AT).headers()
    del headers[missing]

    with pytest.raises(UnreadableEnvelope, match=missing):
        Envelope.from_message("s", headers, b"")
