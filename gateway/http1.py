"""uvicorn's HTTP/1.1 protocol, less trusting.

It adds what a public port needs: a bound on heads and on the time a request may take to arrive, one Host,
errors in the edge's own shape, and word to the application when the client has left.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from gateway import errors

# Request line and headers together; gRPC takes 8 to 16 KiB of metadata, of which we pass on a part.
HEAD_BYTES_MAX: Final = 32 * 1024
# For the whole request, body included: 4 MiB in this time is a slow phone, not an attack.
ARRIVAL_MAX_S: Final = 30.0

PRESENCE: Final = "bodega.presence"
"""Key in the scope's state of the `Presence` of whoever asked."""


class Presence:
    """Whether the client is still there, and what to do when it leaves before its answer."""

    __slots__ = ("gone", "on_leaving")

    def __init__(self) -> None:
        self.gone = False
        self.on_leaving: Callable[[], object] | None = None

    def leave(self) -> None:
        self.gone = True
        if self.on_leaving is not None:
            self.on_leaving()


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

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)
        if self.cycle is not None and not self.cycle.response_complete:
            presence: Presence | None = self.cycle.scope["state"].get(PRESENCE)
            if presence is not None:
                presence.leave()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][PRESENCE] = Presence()
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
