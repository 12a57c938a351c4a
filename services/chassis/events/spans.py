"""The spans of events: published below whatever wrote them, taken below their publishing."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from services.chassis import tracing
from services.chassis.context import TRACEPARENT, TraceContext
from services.chassis.events.connection import BROKER, Ack, Outgoing
from services.chassis.events.envelope import Envelope
from services.chassis.events.outbox import Waiting
from services.chassis.tracing import Kind, Span, Value, names

_PUBLISH: Final = "publish"
_PROCESS: Final = "process"


class Publishing:
    """A window of events on its way; those of sampled traces name their publishing as parent."""

    def __init__(self, window: Sequence[Waiting]) -> None:
        self._begun_ns = time.time_ns()
        self._parents: dict[int, TraceContext] = {}
        self._places: dict[int, TraceContext] = {}
        if not tracing.is_on():
            self.messages = [Outgoing(row.subject, row.headers, row.body) for row in window]
            return
        self.messages = [self._message(place, row) for place, row in enumerate(window)]

    def _message(self, place: int, row: Waiting) -> Outgoing:
        parent = TraceContext.parse(row.headers.get(TRACEPARENT))
        if parent is None or not parent.is_sampled:
            return Outgoing(row.subject, row.headers, row.body)
        self._parents[place], self._places[place] = parent, parent.child()
        return Outgoing(row.subject, {**row.headers, TRACEPARENT: str(self._places[place])}, row.body)

    def ended(self, window: Sequence[Waiting], results: Sequence[Ack | Exception]) -> None:
        """Writes the spans."""
        for place, parent in self._parents.items():
            row, result = window[place], results[place]
            error = tracing.problem(result) if isinstance(result, Exception) else ""
            told = _attributes(_PUBLISH, "send", row.subject, row.event_id)
            name = f"{_PUBLISH} {told[names.MESSAGING_DESTINATION]}"
            tracing.write(
                Span(
                    name,
                    Kind.PRODUCER,
                    self._places[place],
                    parent.span_id,
                    self._begun_ns,
                    time.time_ns(),
                    told,
                    error,
                )
            )


@contextmanager
def processing(envelope: Envelope, *, consumer: str) -> Iterator[None]:
    """A try to react to an event, for which the request at hand was made, if that is sampled."""
    place = tracing.sampled()
    if place is None:
        yield
        return
    parent = TraceContext.parse(envelope.traceparent)
    told = _attributes(_PROCESS, _PROCESS, envelope.nats_subject, envelope.id)
    told[names.MESSAGING_CONSUMER] = consumer
    name = f"{_PROCESS} {told[names.MESSAGING_DESTINATION]}"
    with tracing.written(name, Kind.CONSUMER, place, parent.span_id if parent else "", told):
        yield


def _attributes(operation: str, kind: str, nats_subject: str, event_id: str) -> dict[str, Value]:
    """The destination is the subject without what differs from event to event."""
    return {
        names.MESSAGING_SYSTEM: BROKER,
        names.MESSAGING_OPERATION: operation,
        names.MESSAGING_OPERATION_TYPE: kind,
        names.MESSAGING_DESTINATION: nats_subject.rpartition(".")[0],
        names.MESSAGING_MESSAGE_ID: event_id,
    }
