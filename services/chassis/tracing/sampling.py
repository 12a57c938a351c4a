"""Who decides whether a request is sampled: the first of us whom it meets. Pure.

Whoever is sampled costs everyone on the way, and the collector, some milliseconds. So the wish of a
stranger's `traceparent` is not heard: neither its flag, nor its trace id, from which samplers by ratio
commonly compute their answer, so that strangers could choose one that is always sampled. What a neighbour
says, who proved to be one, stands: a trace is sampled as a whole or not at all.
"""

import random as system_random
from collections.abc import Callable
from typing import Any, Final

from services.chassis.context import TraceContext


class Sampling:
    """Decides at arrival."""

    def __init__(
        self,
        ratio: float = 0.0,
        *,
        is_neighbour: Callable[[Any], object] = lambda _connection: False,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        """`is_neighbour`: whether a connection proves to be one of ours."""
        self._ratio = ratio
        self._is_neighbour = is_neighbour
        self._random = random

    def from_stranger(self, parent: TraceContext | None) -> TraceContext:
        """A new place below that of a browser, or any guest, if they name one."""
        return self._decided(TraceContext.fresh() if parent is None else parent.child())

    def from_anyone(self, traceparent: str | None, connection: Any) -> TraceContext:
        """The same where neighbours call too. Who calls is asked only where it matters: it takes 5 µs."""
        trace = TraceContext.continued(traceparent)
        if trace.is_sampled:
            return trace if self._is_neighbour(connection) else self._decided(trace)
        if traceparent is None and self._ratio:
            return self._decided(trace)
        return trace

    def _decided(self, trace: TraceContext) -> TraceContext:
        is_it = self._ratio > 0 and self._random() < self._ratio
        return trace if trace.is_sampled is is_it else trace.sampled(is_it=is_it)


NO_SAMPLING: Final = Sampling()
