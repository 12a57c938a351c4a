"""A server stream as one HTTP reply that does not end until the stream does.

One message is read from the backend when the one before it has been handed to the connection, and no sooner:
a slow client slows its backend down by gRPC's own flow control, and the edge holds one message and what the
connection buffers (64 KiB). Who takes nothing for a while is told so and cut.
"""

import asyncio
import time
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from gateway import errors
from gateway.errors import Failure, Headers, Refusal
from gateway.framing import Framing
from gateway.http1 import Presence, Send
from gateway.metrics import StreamMetrics
from gateway.well_known import NoJsonForm
from services.chassis import telemetry
from services.chassis.contract import STREAM_DEADLINE_MAX_S

_OCTETS: Final = b"application/octet-stream"
_HEAD: Final = (
    (b"cache-control", b"no-store"),
    (b"vary", b"accept"),
    (b"x-accel-buffering", b"no"),  # nginx would collect messages until a buffer is full
    (b"connection", b"close"),  # what a client sends behind a request for a stream goes unheard
)

_log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long streams may take, and how many there may be."""

    age_max_s: float = STREAM_DEADLINE_MAX_S
    """Of any stream, whatever contract and client say. Clients come back by themselves, and spread anew."""

    heartbeat_s: float = 15.0
    """After this long a silence a sign of life is sent: proxies drop what is silent for 30 to 60 s."""

    idle_max_s: float = 1800.0
    """A stream that told nothing for this long is ended. Our services do it sooner; others may not."""

    stall_max_s: float = 30.0
    """A client that takes nothing for this long while something waits for it is cut."""

    head_max_s: float = 2.0
    """A backend that has said nothing by then is taken to have accepted, and the head goes out. A refusal
    that comes later is no status any more but the stream's end."""

    open_max: int = 5_000
    """Half of the connections there may be, so that streams leave room for everyone else."""

    open_per_caller_max: int = 100
    """Of one account or API key; of whoever shows neither, from one address: an office behind one. It takes
    fifty such callers to fill this edge. Each edge counts its own, and counts whom rate limits count."""


class ClientLeft(Exception):
    """Nobody waits for the answer."""


class TooSlow(Exception):
    """The client takes nothing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream ended."""

    outcome: str
    """`complete`, `failed`, `left`, `slow`, `idle` or `drained`."""

    messages: int


class Streams:
    """The streams that are open, so that they can be counted, bounded and ended."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: set[Stream] = set()
        self._held: Counter[str] = Counter()
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, holder: str) -> None:
        """Raises Refusal if another stream must not begin. `holder`: on whose account; empty: on nobody's."""
        if self._draining:
            raise _refusal("DRAINING", "The edge is stopping; ask again.")
        if len(self._open) >= self.limits.open_max:
            raise _refusal("TOO_MANY_STREAMS", "There are as many streams as there may be.")
        if holder and self._held[holder] >= self.limits.open_per_caller_max:
            raise Refusal.of(_TOO_MANY_HELD)

    async def run(self, stream: "Stream", holder: str) -> Ended:
        """Raises Refusal or ClientLeft if the stream came to nothing before its head was sent."""
        self._open.add(stream)
        self._held[holder] += 1
        try:
            return await stream.run()
        finally:
            self._open.discard(stream)
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]

    def drain(self) -> None:
        """No new streams; those there are end politely, now: they would outlive any patience."""
        self._draining = True
        for stream in tuple(self._open):
            stream.stop("drained", _failure("UNAVAILABLE", 503, "DRAINING", "The edge is stopping; resume."))


class Stream:
    """One stream to one client."""

    def __init__(
        self,
        call: "grpc.aio.UnaryStreamCall[bytes, bytes]",
        framing: Framing,
        presence: Presence,
        send: Send,
        *,
        head_only: bool,
        resumes: bool,
        head: Callable[[Any], Headers],
        render: Callable[[grpc.aio.AioRpcError], Failure],
        limits: Limits,
        metrics: StreamMetrics,
    ) -> None:
        """`head`: the headers of the reply beside the stream's own, from the backend's initial metadata.
        `resumes`: whether its client can go on with another where this one ends.
        """
        self._head_only = head_only
        self._idle = _AWAY if resumes else _IDLE
        self._call = call
        self._framing = framing
        self._presence = presence
        self._send = send
        self._head = head
        self._render = render
        self._limits = limits
        self._metrics = metrics
        self._writing = asyncio.Lock()
        self._opened = False
        self._written_at = 0.0
        self._told_at = time.monotonic()
        self._messages = 0
        self._stopped: _End | None = None

    def stop(self, outcome: str, failure: Failure | None) -> None:
        """Ends the stream with this error, now: not even its reader is waited for."""
        if self._stopped is None:
            self._stopped = outcome, failure
            if self._opened:
                self._part(failure)
            self._call.cancel()

    async def run(self) -> Ended:
        self._presence.on_leaving = self._call.cancel
        keeper = (
            asyncio.create_task(self._keep(), name="stream keeper") if self._framing.opens_early else None
        )
        try:
            outcome, failure = await self._pump()
        finally:
            self._presence.on_leaving = None
            self._call.cancel()  # nothing, if it has ended
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait({keeper})
        if not self._opened:
            await self._come_to_nothing(outcome, failure)
        self._part(failure)
        return Ended(outcome, self._messages)

    async def _pump(self) -> "_End":
        try:
            while isinstance(wire := await self._call.read(), bytes):  # else: grpc.aio.EOF
                frame = self._framing.message(wire)
                if not self._opened:
                    await self._open(await self._call.initial_metadata())
                if self._head_only:
                    break
                await self._write(frame)
                self._told_at = self._written_at
                self._messages += 1
                self._metrics.message()
        except NoJsonForm as error:
            _log.error("message has no JSON form", why=str(error))
            return "failed", errors.internal().failure
        except grpc.aio.AioRpcError as error:
            return self._stopped or (_LEFT if self._presence.gone else ("failed", self._render(error)))
        except TooSlow:
            return self._stopped or _SLOW
        except CancelledError:
            end = self._stopped or (_LEFT if self._presence.gone else None)
            if end is None:
                raise
            return end
        return self._stopped or _COMPLETE

    async def _come_to_nothing(self, outcome: str, failure: Failure | None) -> None:
        """It ended before its head was sent, which can still say why."""
        if failure is not None:
            raise Refusal.of(failure)
        if outcome == "left":
            raise ClientLeft
        await self._open(await self._call.initial_metadata())

    def _part(self, failure: Failure | None) -> None:
        self._presence.part(self._framing.end() if failure is None else self._framing.failed(failure.body))

    async def _keep(self) -> None:
        """Sends the head if nothing else does, and signs of life. Ends the stream if nobody takes them, or it
        has nothing to tell.
        """
        try:
            await asyncio.sleep(self._limits.head_max_s)
            await self._open(())
            if self._head_only:
                self.stop(*_COMPLETE)
            while (now := time.monotonic()) - self._told_at < self._limits.idle_max_s:
                silent_s = now - self._written_at
                if silent_s >= self._limits.heartbeat_s:
                    if self._framing.heartbeat:
                        await self._write(self._framing.heartbeat)
                    silent_s = 0.0
                await asyncio.sleep(self._limits.heartbeat_s - silent_s)
            self.stop(*self._idle)
        except TooSlow:
            self.stop(*_SLOW)

    async def _open(self, metadata: Any) -> None:
        head = [
            *self._head(metadata),
            *_HEAD,
            (b"content-type", self._framing.content_type or _OCTETS),
        ]
        async with self._writing:
            if self._opened:
                return
            self._presence.monopolise()
            await self._patiently({"type": "http.response.start", "status": 200, "headers": head})
            self._opened = True
        if begin := self._framing.begin():
            await self._write(begin)

    async def _write(self, frame: bytes) -> None:
        async with self._writing:
            await self._patiently({"type": "http.response.body", "body": frame, "more_body": True})
        self._written_at = time.monotonic()

    async def _patiently(self, event: MutableMapping[str, Any]) -> None:
        """Raises TooSlow. Returns when the connection has room for more, not when the client has it."""
        try:
            async with asyncio.timeout(self._limits.stall_max_s):
                await self._send(event)
        except TimeoutError:
            raise TooSlow from None


def _failure(code: str, status: int, reason: str, message: str) -> Failure:
    return Refusal(status, code, reason, message, headers=[(b"retry-after", b"1")]).failure


def _refusal(reason: str, message: str) -> Refusal:
    return Refusal.of(_failure("UNAVAILABLE", 503, reason, message))


_End = tuple[str, Failure | None]
_COMPLETE: Final[_End] = ("complete", None)
_LEFT: Final[_End] = ("left", None)
_AWAY: Final[_End] = ("idle", None)
_IDLE: Final[_End] = (
    "idle",
    _failure("UNAVAILABLE", 503, "STREAM_IDLE", "Nothing has happened here for long; ask again."),
)
_TOO_MANY_HELD: Final = _failure(
    "RESOURCE_EXHAUSTED", 429, "TOO_MANY_OWN_STREAMS", "You have as many streams as one caller may have."
)
_SLOW: Final[_End] = (
    "slow",
    _failure("RESOURCE_EXHAUSTED", 429, "CLIENT_TOO_SLOW", "What was sent has not been fetched; resume."),
)
