"""Writes log lines from a thread of its own, so that no request ever waits for whoever reads the log."""

import threading
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, Final, TypeAlias

Line: TypeAlias = bytes | Callable[[], bytes]
"""A whole line, or what renders it."""

LINES_MAX: Final = 10_000  # a few seconds at full load; beyond it lines are counted and dropped
INTERVAL_S: Final = 0.1  # lines gather this long, so that a busy server makes ten writes a second
FLUSH_WAIT_MAX_S: Final = 2.0  # leaving must not hang on a reader that stopped reading


class LogWriter:
    """Takes whole lines without ever blocking, writes them in order.

    A killed process loses what it gathered last; `flush` before leaving loses nothing.
    """

    def __init__(
        self, stream: BinaryIO, *, lines_max: int = LINES_MAX, lost_line: Callable[[int], bytes] | None = None
    ) -> None:
        self._stream = stream
        self._lines_max = lines_max
        self._lost_line = lost_line
        self._lost = 0
        self._lines: deque[Line] = deque()
        self._waiting = threading.Event()
        self._hurry = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, line: Line, *, urgent: bool = False) -> None:
        """Queues a line; urgent ones are written at once, and those before them."""
        if len(self._lines) >= self._lines_max:
            self._lost += 1
            return
        self._lines.append(line)
        if urgent:
            self._hurry.set()
        if not self._waiting.is_set():
            self._waiting.set()
            if self._thread is None:
                self._start()

    def flush(self) -> None:
        """Writes what was put so far, unless the reader is stuck."""
        if self._writing.acquire(timeout=FLUSH_WAIT_MAX_S):
            try:
                self._write()
            finally:
                self._writing.release()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._waiting.wait()
            self._hurry.wait(INTERVAL_S)
            self._hurry.clear()
            self._waiting.clear()  # before writing: a line put meanwhile wakes us again
            with self._writing:
                self._write()

    def _write(self) -> None:
        lines = list[bytes]()
        for _ in range(len(self._lines)):
            try:
                lines.append(rendered(self._lines.popleft()))
            except Exception:  # noqa: BLE001 (one odd line must not take the others with it)
                self._lost += 1
        if self._lost and self._lost_line is not None:
            lost, self._lost = self._lost, 0
            lines.append(self._lost_line(lost))
        if lines:
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                pass  # the reader is gone; there is nobody left to tell


def rendered(line: Line) -> bytes:
    return line if isinstance(line, bytes) else line()
