"""Spans on their way to a collector, which may be slow or away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.chassis import telemetry
from services.chassis.context import TraceContext
from services.chassis.tracing import Kind, Span
from services.chassis.tracing.queue import Queue

WITHIN_S = 5.0


def span(name: str = "work") -> Span:
    return Span(name, Kind.INTERNAL, TraceContext.fresh(), "", 1, 2, {})


class Collector:
    """Takes what it gets, or hangs until it is released."""

    def __init__(self, *, hangs: bool = False, takes: bool = True) -> None:
        self.got: list[str] = []
        self.takes = takes
        self.busy = threading.Event()
        self._released = threading.Event()
        if not hangs:
            self._released.set()

    def send(self, spans: list[Span]) -> bool:
        self.busy.set()
        self._released.wait(WITHIN_S)
        if self.takes:
            self.got += [span.name for span in spans]
        return self.takes

    def release(self) -> None:
        self.takes = False
        self._released.set()


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


@contextmanager
def queue(collector: Collector, **limits: float) -> Iterator[Queue]:
    made = Queue(collector.send, collector.release, **{"interval_s": 0.001, **limits})  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()
        made._thread.join(WITHIN_S)


def test_spans_arrive_in_order() -> None:
    collector = Collector()
    with queue(collector) as spans:
        for number in range(2000):
            spans.put(span(str(number)))
    assert collector.got == [str(number) for number in range(2000)]
    assert spans.lost == 0


def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    collector = Collector(hangs=True)
    with telemetry.captured(), queue(collector, spans_max=10, flush_max_s=0.0) as spans:
        spans.put(span())
        assert collector.busy.wait(WITHIN_S)  # it has that one
        begun = time.monotonic()
        for _ in range(1000):
            spans.put(span())
        assert time.monotonic() - begun < 1.0
        assert spans.lost == 990


def test_what_the_collector_does_not_take_is_counted_and_told_once() -> None:
    collector = Collector(takes=False)
    with telemetry.captured() as lines, queue(collector) as spans:
        for number in (1, 2, 3):
            spans.put(span())
            eventually(lambda lost=number: spans.lost == lost)  # type: ignore[misc]
        collector.takes = True
        spans.put(span("after"))
        eventually(lambda: collector.got == ["after"])
    assert [line["event"] for line in lines] == [
        "spans are lost: the collector does not take them",
        "the collector takes spans again",
    ]


def test_leaving_sends_what_is_left() -> None:
    collector = Collector()
    spans = Queue(collector.send, interval_s=60.0)
    spans.put(span("last words"))
    spans.close()
    assert collector.got == ["last words"]
    spans.put(span())
    assert spans.lost == 1


def test_leaving_does_not_wait_for_a_collector_that_hangs() -> None:
    collector = Collector(hangs=True)
    with telemetry.captured():
        spans = Queue(collector.send, collector.release, interval_s=0.001, flush_max_s=0.05)
        spans.put(span())
        assert collector.busy.wait(WITHIN_S)
        spans.put(span())
        begun = time.monotonic()
        spans.close()
        assert time.monotonic() - begun < 1.0
        spans._thread.join(WITHIN_S)
        assert spans.lost == 2
        assert collector.got == []
