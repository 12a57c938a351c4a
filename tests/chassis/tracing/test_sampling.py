"""Who decides whether a request is sampled."""

import pytest
from pydantic import ValidationError

from services.chassis.context import TraceContext
from services.chassis.tracing.config import TracingSettings
from services.chassis.tracing.sampling import Sampling

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ABSENT, YES, NO = None, f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
MANGLED = f"00-{TRACE}-{SPAN}-01-"[:-2]


def deciding(ratio: float, *, neighbour: bool = False, drawn: float = 0.5) -> Sampling:
    return Sampling(ratio, is_neighbour=lambda _connection: neighbour, random=lambda: drawn)


@pytest.mark.parametrize(
    ("traceparent", "neighbour", "ratio", "sampled"),
    [
        # A neighbour has decided, whatever our own ratio.
        (YES, True, 0.0, True),
        (YES, True, 1.0, True),
        (NO, True, 1.0, False),
        # A stranger cannot wish for it. One who says no is believed: that costs nobody anything.
        (YES, False, 0.0, False),
        (YES, False, 0.4, False),
        (YES, False, 0.6, True),
        (NO, False, 1.0, False),
        # Nobody before us: ours is the first hop.
        (ABSENT, False, 0.0, False),
        (ABSENT, False, 0.4, False),
        (ABSENT, False, 0.6, True),
        (ABSENT, True, 0.6, True),
    ],
)
def test_at_a_service(traceparent: str | None, neighbour: bool, ratio: float, sampled: bool) -> None:  # noqa: FBT001
    place = deciding(ratio, neighbour=neighbour).from_anyone(traceparent, None)
    assert place.is_sampled is sampled
    assert (place.trace_id == TRACE) is (traceparent is not None)
    assert place.span_id != SPAN


@pytest.mark.parametrize("traceparent", [ABSENT, YES, NO, MANGLED])
@pytest.mark.parametrize(("ratio", "sampled"), [(0.0, False), (0.4, False), (0.6, True), (1.0, True)])
def test_at_the_edge_nobody_is_heard(traceparent: str | None, ratio: float, sampled: bool) -> None:  # noqa: FBT001
    parent = TraceContext.parse(traceparent)
    place = deciding(ratio).from_stranger(parent)
    assert place.is_sampled is sampled
    assert parent is None or (place.trace_id == parent.trace_id and place.span_id != parent.span_id)


def test_who_calls_is_asked_only_of_sampled_calls() -> None:
    asked: list[object] = []

    def is_neighbour(connection: object) -> bool:
        asked.append(connection)
        return True

    sampling = Sampling(0.0, is_neighbour=is_neighbour)
    sampling.from_anyone(NO, "a")
    sampling.from_anyone(ABSENT, "b")
    assert asked == []
    assert sampling.from_anyone(YES, "c").is_sampled
    assert asked == ["c"]


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_of_the_flags_only_the_one_that_is_known_is_passed_on(flags: str, sampled: bool) -> None:  # noqa: FBT001
    place = TraceContext.parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert place is not None
    assert place.is_sampled is sampled
    assert str(place) == (YES if sampled else NO)


@pytest.mark.parametrize(
    "endpoint", ["", "http://localhost:4317", "https://otel.example:4317/", "http://[::1]:4317"]
)
def test_a_collector_is_named_by_its_address(endpoint: str) -> None:
    assert TracingSettings(otlp_endpoint=endpoint).ratio == (0.05 if endpoint else 0.0)


@pytest.mark.parametrize(
    "endpoint", ["localhost:4317", "http://u:p@host:1", "http://host/v1/traces", "ftp://host"]
)
def test_what_is_no_address_is_refused_without_repeating_it(endpoint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TracingSettings(otlp_endpoint=endpoint)
    [mistake] = refused.value.errors(include_input=False)
    assert "http://localhost:4317" in mistake["msg"]
