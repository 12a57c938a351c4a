"""uvicorn's HTTP/1.1 protocol, less trusting.

It adds what a public port needs: a bound on heads and on the time a request may take to arrive, one Host,
errors in the edge's own shape, word to the application when the client has left, and an end for replies whose
reader is slow. And it is quicker where most requests go: a body that has arrived is taken without waiting, a
whole reply is one write (ASGI's two cost a system call and a segment more).
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway import errors
from gateway.errors import Failure, Headers, Refusal
from gateway.holdings import Holdings

if TYPE_CHECKING:
    from gateway.shedding import Shedding

# What ASGI applications are called with.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Request line and headers together; gRPC takes 8 to 16 KiB of metadata, of which we pass on a part.
HEAD_BYTES_MAX: Final = 32 * 1024
# Browsers send twenty, proxies add ten.
HEADERS_MAX: Final = 100
# For the whole request, body included: 4 MiB in this time is a slow phone, not an attack.
ARRIVAL_MAX_S: Final = 30.0
# How long what was sent last may take to reach a client that is being parted from.
LINGER_S: Final = 5.0

PRESENCE: Final = "bodega.presence"
"""Key in the scope's state of the `Presence` of whoever asked."""

_BODILESS: Final = frozenset({204, 304})
_CLOSE: Final = (b"connection", b"close")
_JSON: Final = (b"content-type", b"application/json")
# Of a header's name and value; any other character there would be an end of line, or worse.
_TEXT: Final = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))


class Presence:
    """Whether the client is still there, what to do when it leaves, and what ASGI has no words for."""

    __slots__ = ("_cycle", "_protocol", "gone", "on_leaving")

    def __init__(self, protocol: "Http1Protocol", cycle: RequestResponseCycle) -> None:
        self.gone = False
        self.on_leaving: Callable[[], object] | None = None
        self._protocol = protocol
        self._cycle = cycle

    def body(self) -> bytes | None:
        """The request's body, once; None if it has not arrived in full, hence is to be received."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Sends a whole reply at once; its length need not be among its headers."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            self._protocol.reply(cycle, status, headers, body)

    def leave(self) -> None:
        self.gone = True
        if self.on_leaving is not None:
            self.on_leaving()

    def monopolise(self) -> None:
        """Makes this reply the connection's last; whatever else the client asks on it goes unheard."""
        self._protocol.hear_no_more(self._cycle)

    def part(self, last: bytes | None) -> None:
        """Ends a chunked reply that is under way without waiting for its reader.

        `last` is the end of the body; with None the reply breaks off, so that nobody takes it for whole. What
        the client has not fetched within LINGER_S is dropped.
        """
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
        *,
        holdings: Holdings | None = None,
    ) -> None:
        """`holdings`: how many connections each address has; None: as many as it likes."""
        super().__init__(config, server_state, app_state, _loop)
        self._holdings = holdings
        self._holder = ""
        self._head_bytes = 0
        self._hosts = 0
        self._status = 400
        self._arrival: TimerHandle | None = None
        self._lingering: TimerHandle | None = None
        self._arriving = False
        self._deaf = False
        self._shedding: Shedding | None = getattr(self.app, "shedding", None)
        self._is_turned_away = False
        self._silence: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self._holdings is not None and self.client is not None:
            try:
                self._holder = self._holdings.enter(self.client[0])
            except Refusal as refusal:
                self._refuse(refusal.failure)
                return
        self._expect_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        if self._lingering is not None:
            self._lingering.cancel()
        if self._silence is not None:
            self._silence.cancel()
        if self._holdings is not None:
            self._holdings.leave(self._holder)
        super().connection_lost(exc)
        if self.cycle is not None and not self.cycle.response_complete:
            _state(self.cycle)[PRESENCE].leave()

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)
            if self._arriving and self._arrival is None:  # most requests arrive at once and need no clock
                self._expect_arrival()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._hosts = 0
        self._arriving = True

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
        shedding = self._shedding
        if shedding is not None and shedding.is_pressed() and self._turns_away(shedding):
            return
        super().on_headers_complete()
        _state(self.cycle)[PRESENCE] = Presence(self, self.cycle)

    def on_body(self, body: bytes) -> None:
        if not self._is_turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_turned_away:
            self._is_turned_away = False
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().on_message_complete()
        self._arrived()

    def _turns_away(self, shedding: "Shedding") -> bool:
        """Answers at once if the request is refused, and if nothing else is to be said on this connection."""
        cycle, parser = self.cycle, self.parser
        is_plain = (
            (cycle is None or cycle.response_complete)
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )
        if not is_plain:
            return False
        peer = self.client[0] if self.client else ""
        answer = shedding.at_once(parser.get_method().decode(), self.url, self.headers, peer)
        if answer is None:
            return False
        self._is_turned_away = True
        self.transport.write(answer)
        if self._silence is None and (silence_s := shedding.silence_s()):
            self.flow.pause_reading()
            self._silence = self.loop.call_later(silence_s, self._hear_again)
        return True

    def _hear_again(self) -> None:
        self._silence = None
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        del msg
        status = self._status
        reason = "The request's head is too large." if status != 400 else "The request is not HTTP."  # noqa: PLR2004
        self._refuse(Failure(status, errors.body(status, "INVALID_ARGUMENT", reason, []), [_CLOSE]))

    def reply(self, cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> None:
        if not cycle.keep_alive:
            headers.append(_CLOSE)
        elif _CLOSE in headers:
            cycle.keep_alive = False
        answer = whole(status, headers, body, head_only=cycle.scope["method"] == "HEAD")
        cycle.response_started = cycle.response_complete = True
        self.transport.write(answer)
        del _state(cycle)[PRESENCE]  # they refer to each other; without this only the collector parts them
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

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

    def _refuse(self, failure: Failure) -> None:
        """Says why and closes the connection."""
        headers = [_JSON, (b"content-length", b"%d" % len(failure.body)), *failure.headers]
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[failure.status], lines, failure.body))
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX or len(self.headers) >= HEADERS_MAX:
            self._status = 431
            raise _BadHead

    def _expect_arrival(self) -> None:
        self._arrival = self.loop.call_later(ARRIVAL_MAX_S, self._arrival_overdue)

    def _arrived(self) -> None:
        self._arriving = False
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _arrival_overdue(self) -> None:
        self._arrival = None
        if not self.transport.is_closing():
            self.transport.close()


def whole(status: int, headers: Headers, body: bytes, *, head_only: bool = False) -> bytes:
    """An answer as it goes out; its length need not be among its headers. Raises ValueError."""
    if status not in _BODILESS:
        headers.append((b"content-length", b"%d" % len(body)))
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.translate(None, _TEXT) != b"\r\n" * len(headers):
        raise ValueError("a header of the reply has a control character")
    return b"%b%b\r\n%b" % (STATUS_LINE[status], lines, b"" if head_only else body)


def _state(cycle: RequestResponseCycle) -> dict[str, Any]:
    return cycle.scope["state"]
