"""uvicorn's HTTP/1.1 protocol, less trusting.

It adds what a public port needs: a bound on heads and on the time a request may take to arrive, one Host,
errors in the edge's own shape, word to the application when the client has left, and an end for replies whose
reader is slow.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway import errors

# Request line and headers together; gRPC takes 8 to 16 KiB of metadata, of which we pass on a part.
HEAD_BYTES_MAX: Final = 32 * 1024
# For the whole request, body included: 4 MiB in this time is a slow phone, not an attack.
ARRIVAL_MAX_S: Final = 30.0
# How long what was sent last may take to reach a client that is being parted from.
LINGER_S: Final = 5.0

PRESENCE: Final = "bodega.presence"
"""Key in the scope's state of the `Presence` of whoever asked."""


class Presence:
    """Whether the client is still there, what to do when it leaves before its answer, and a way to part."""

    __slots__ = ("_cycle", "_protocol", "gone", "on_leaving")

    def __init__(self, protocol: "Http1Protocol | None" = None) -> None:
        self.gone = False
        self.on_leaving: Callable[[], object] | None = None
        self._protocol = protocol
        self._cycle: RequestResponseCycle | None = None

    def answered_by(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def leave(self) -> None:
        self.gone = True
        if self.on_leaving is not None:
            self.on_leaving()

    def monopolise(self) -> None:
        """Makes this reply the connection's last; whatever else the client asks on it goes unheard."""
        if self._protocol is not None and self._cycle is not None:
            self._protocol.hear_no_more(self._cycle)

    def part(self, last: bytes | None) -> None:
        """Ends a chunked reply that is under way without waiting for its reader.

        `last` is the end of the body; with None the reply breaks off, so that nobody takes it for whole. What
        the client has not fetched within LINGER_S is dropped.
        """
        if self._protocol is not None and self._cycle is not None:
            self._protocol.part(self._cycle, last)


class _BadHead(Exception):
    """Raised out of the parser, which then gives up on the connection."""


class Http1Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._hosts = 0
        self._status = 400
        self._arrival: TimerHandle | None = None
        self._lingering: TimerHandle | None = None
        self._deaf = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)
        if self.cycle is not None and not self.cycle.response_complete:
            presence: Presence | None = self.cycle.scope["state"].get(PRESENCE)
            if presence is not None:
                presence.leave()

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][PRESENCE] = Presence(self)
        self._head_bytes = self._hosts = 0
        if self._arrival is None:
            self._expect_arrival()

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._hosts > 1:
            raise _BadHead
        super().on_headers_complete()
        presence: Presence = self.scope["state"][PRESENCE]
        presence.answered_by(self.cycle)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arrived()

    def send_400_response(self, msg: str) -> None:
        del msg
        status = self._status
        reason = "The request's head is too large." if status != 400 else "The request is not HTTP."  # noqa: PLR2004
        content = errors.body(status, "INVALID_ARGUMENT", reason, [])
        head = b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
            STATUS_LINE[status],
            len(content),
        )
        self.transport.write(head + content)
        self.transport.close()

    def hear_no_more(self, cycle: RequestResponseCycle) -> None:
        self._deaf = True
        self.pipeline.clear()
        self.cycle = cycle  # whose client has left when the connection is lost
        self._arrived()
        self.flow.resume_reading()  # nothing is kept of it, but it tells when the client has left

    def part(self, cycle: RequestResponseCycle, last: bytes | None) -> None:
        cycle.disconnected = True  # from here on nothing is sent by way of uvicorn
        if self.transport.is_closing():
            return
        if last is not None:
            chunk = b"%x\r\n%b\r\n" % (len(last), last) if last and cycle.scope["method"] != "HEAD" else b""
            self.transport.write(chunk + (b"0\r\n\r\n" if cycle.chunked_encoding else b""))
        self.transport.close()
        self._lingering = self.loop.call_later(LINGER_S, self.transport.abort)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._status = 431
            raise _BadHead

    def _expect_arrival(self) -> None:
        self._arrival = self.loop.call_later(ARRIVAL_MAX_S, self._arrival_overdue)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _arrival_overdue(self) -> None:
        self._arrival = None
        if not self.transport.is_closing():
            self.transport.close()
