"""Spans on their way out: a thread of their own sends them, so that no call waits for a collector."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from services.chassis import telemetry
from services.chassis.tracing import Span

SPANS_MAX: Final = 8192
"""Waiting at once: some seconds of every call sampled, and 5 MB. Beyond it spans are counted and dropped."""

BATCH_MAX: Final = 512
"""Sent in one message: some 200 KB, of the 4 MiB that collectors take."""

INTERVAL_S: Final = 1.0  # spans gather this long; nobody looks at a trace any sooner
FLUSH_MAX_S: Final = 2.0  # leaving must not hang on a collector that does not answer

_log = telemetry.logger(__name__)


class Queue:
    """Takes spans without ever blocking, sends them in order. What cannot be sent is lost, and counted.

    `send` says whether the collector has them; it may block, and `abort` makes it return. A killed process
    loses what it gathered last.
    """

    def __init__(
        self,
        send: Callable[[list[Span]], bool],
        abort: Callable[[], None] = lambda: None,
        *,
        spans_max: int = SPANS_MAX,
        interval_s: float = INTERVAL_S,
        flush_max_s: float = FLUSH_MAX_S,
    ) -> None:
        self._send = send
        self._abort = abort
        self._spans_max = spans_max
        self._interval_s = interval_s
        self._flush_max_s = flush_max_s
        self._spans: deque[Span] = deque()
        self._hurry = threading.Event()
        self._closing = self._aborted = False
        self._fails = False
        self._losing = threading.Lock()
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        if len(self._spans) >= self._spans_max or self._closing:
            self._lose(1)
            return
        self._spans.append(span)
        if len(self._spans) >= BATCH_MAX:
            self._hurry.set()

    def close(self) -> None:
        """Sends what was put so far, unless that takes longer than `flush_max_s`."""
        self._closing = True
        self._hurry.set()
        self._thread.join(self._flush_max_s)
        self._aborted = True
        self._abort()
        self._lose(len(self._spans))

    def _run(self) -> None:
        while not self._closing:
            self._hurry.wait(self._interval_s)
            self._hurry.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._spans and not self._aborted:
            batch = [self._spans.popleft() for _ in range(min(BATCH_MAX, len(self._spans)))]
            try:
                sent = self._send(batch)
            except Exception:  # noqa: BLE001 (whatever it is: without this thread nothing would be sent any more)
                _log.exception("spans could not be sent")
                sent = False
            if not sent:
                self._lose(len(batch))
            if sent == self._fails:
                self._fails = not sent
                self._tell()

    def _lose(self, count: int) -> None:
        with self._losing:
            self.lost += count

    def _tell(self) -> None:
        """Once for a collector that goes away, once when it is back."""
        if self._fails:
            _log.warning("spans are lost: the collector does not take them", lost=self.lost)
        else:
            _log.info("the collector takes spans again", lost=self.lost)
