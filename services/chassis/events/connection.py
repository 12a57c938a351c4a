"""One connection to NATS, from the moment it stands to the moment it breaks.

A broken connection is thrown away whole instead of being mended by the client library, because that one
would keep what was published meanwhile and send it later, past what the relay has published since.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from services.chassis.identity.workload import server_name
from services.chassis.telemetry import logger
from services.chassis.tls import Identity

CONNECT_TIMEOUT_S: Final = 2
CLOSE_MAX_S: Final = 1.0  # after a handshake that failed, nats-py waits for ever for what it has closed
API_TIMEOUT_S: Final = 5.0  # for JetStream's answers, which wait for its disk
PING_EVERY_S: Final = 5  # a peer that vanished without a word is noticed after three of them
PINGS_UNANSWERED_MAX: Final = 2
LOOK_EVERY_S: Final = 0.25  # see `Connection.broken`

BROKER: Final = "nats"
"""The workload that the broker is."""

# What can go wrong between us and a broker. TimeoutError is nats-py's too.
BROKER_ERRORS: Final = (NatsError, OSError, TimeoutError)

T = TypeVar("T")

_NO_RESPONDERS: Final = "503"

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way into a stream."""

    subject: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """The stream has it, on its disk."""

    stream: str
    stream_seq: int
    duplicate: bool
    """Whether the stream had it before (same Nats-Msg-Id); the sequence is then that of the first."""


class Refused(Exception):
    """JetStream did not take a message; the text says why."""


class Connection:
    """A live connection. Everything on it raises one of BROKER_ERRORS once it is broken."""

    def __init__(self) -> None:
        self.client = Client()
        self.jetstream: JetStreamContext = self.client.jetstream(timeout=API_TIMEOUT_S)
        self._broken = asyncio.Event()
        self._waiting: dict[str, tuple[_Window, int]] = {}
        self._published = 0
        self._on_broken: list[Callable[[], object]] = []

    async def open(self, url: str, *, name: str, identity: Identity | None = None) -> None:
        """Connects; raises one of BROKER_ERRORS if nobody is there, or TlsRefused."""
        try:
            async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
                await self.client.connect(
                    url.split(","),
                    name=name,
                    inbox_prefix=inbox_prefix(name),
                    **_encrypted(identity),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # a limit at all, else the first attempt would never end
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    ping_interval=PING_EVERY_S,
                    max_outstanding_pings=PINGS_UNANSWERED_MAX,
                    error_cb=_on_error,
                    disconnected_cb=self._on_disconnected,
                    closed_cb=self._on_disconnected,
                )
                # One wildcard inbox for all acknowledgements: a subscription each would cost ten times more.
                self._inbox = self.client.new_inbox()
                await self.client.subscribe(f"{self._inbox}.*", cb=self._on_ack)
            _heed_cancellation()
        except BaseException:
            await self.close()
            _heed_cancellation()
            raise

    async def broken(self) -> None:
        """Returns when the connection is of no more use."""
        # nats-py skips its callbacks when the last flush of a dying connection fails; hence the look.
        while not self.client.is_closed:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._broken.wait()
            except TimeoutError:
                continue
            return

    def on_broken(self, wake: Callable[[], object]) -> None:
        """Has `wake` called in the loop when the connection is of no more use."""
        self._on_broken.append(wake)

    @property
    def is_broken(self) -> bool:
        return self._broken.is_set() or self.client.is_closed

    async def close(self) -> None:
        """Ends the connection without draining it, which would block for as long as pulls last."""
        await self._on_disconnected()
        try:
            async with asyncio.timeout(CLOSE_MAX_S):
                await self.client.close()
        except Exception as error:  # noqa: BLE001 (it is being thrown away in any case)
            _log.debug("nats connection ended badly", error=repr(error))

    async def ask(self, request: Coroutine[Any, Any, T]) -> T:
        """The answer to a request made with the client, which alone would wait for a dead broker's timeout.

        Raises ConnectionError as soon as the connection breaks.
        """
        asking = asyncio.ensure_future(request)
        self._on_broken.append(asking.cancel)
        if self.is_broken:
            asking.cancel()
        try:
            return await asking
        except asyncio.CancelledError:
            here = asyncio.current_task()
            if here is not None and here.cancelling():
                raise
            raise ConnectionError("the connection broke before the answer came") from None
        finally:
            if asking.cancel in self._on_broken:
                self._on_broken.remove(asking.cancel)
            _heed_cancellation()

    async def publish_window(
        self, messages: Sequence[Outgoing], *, timeout_s: float = API_TIMEOUT_S
    ) -> list[Ack | Exception]:
        """Publishes all at once and waits for every acknowledgement; results in the same order.

        A result that is not an Ack says nothing about whether the stream has the message.
        """
        window = _Window(len(messages))
        tokens = [str(self._published + number) for number in range(1, len(messages) + 1)]
        self._published += len(messages)
        try:
            async with asyncio.timeout(timeout_s):
                for place, message in enumerate(messages):
                    self._waiting[tokens[place]] = window, place
                    await self._publish(message, tokens[place])
                await window.complete
        except TimeoutError:
            pass
        finally:
            for token in tokens:
                self._waiting.pop(token, None)
        return [result or TimeoutError("no acknowledgement in time") for result in window.results]

    async def subscribe(self, subject: str, cb: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """A plain subscription, which ends with the connection."""
        return await self.client.subscribe(subject, cb=cb)

    async def publish(self, subject: str, body: bytes = b"", *, reply: str = "") -> None:
        """A plain message, nobody acknowledges it."""
        await self.client.publish(subject, body, reply=reply)

    async def _publish(self, message: Outgoing, token: str) -> None:
        try:
            await self.client.publish(
                message.subject, message.body, reply=f"{self._inbox}.{token}", headers=message.headers
            )
        except BROKER_ERRORS as error:
            self._settle(token, error)

    async def _on_ack(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        try:
            self._settle(token, _ack(message.data, message.headers))
        except (Refused, ValueError, KeyError) as error:
            self._settle(token, error)

    def _settle(self, token: str, result: Ack | Exception) -> None:
        waiting = self._waiting.pop(token, None)
        if waiting is not None:  # else it came later than anyone waited
            window, place = waiting
            window.settle(place, result)

    async def _on_disconnected(self) -> None:
        self._broken.set()
        self._fail_waiting()
        for wake in [*self._on_broken]:
            wake()
        self._on_broken.clear()

    def _fail_waiting(self) -> None:
        for token in [*self._waiting]:
            self._settle(token, ConnectionError("the connection broke before the acknowledgement came"))


class _Window:
    """Messages published together: one future for all, since one each would cost as much as publishing."""

    def __init__(self, count: int) -> None:
        self.results: list[Ack | Exception | None] = [None] * count
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing = count
        if not count:
            self.complete.set_result(None)

    def settle(self, place: int, result: Ack | Exception) -> None:
        self.results[place] = result
        self._missing -= 1
        if not self._missing and not self.complete.done():
            self.complete.set_result(None)


def _heed_cancellation() -> None:
    """Raises the cancellation that nats-py has swallowed, for whoever cancelled waits for it.

    It waits by `asyncio.wait_for`, which in Python 3.11 gives the answer and forgets a cancellation that came
    in the same turn of the loop (python/cpython#86296).
    """
    here = asyncio.current_task()
    if here is not None and here.cancelling():
        raise asyncio.CancelledError


def _ack(data: bytes, headers: Mapping[str, str] | None) -> Ack:
    if headers and headers.get("Status") == _NO_RESPONDERS:
        raise Refused("no stream takes this subject")
    reply: dict[str, Any] = orjson.loads(data)
    if error := reply.get("error"):
        raise Refused(str(error.get("description", error)))
    return Ack(reply["stream"], reply["seq"], bool(reply.get("duplicate")))


def inbox_prefix(name: str) -> str:
    """Where answers to a client of this name arrive; no other service may listen there: permissions.py."""
    return f"_INBOX_{name}"


def _encrypted(identity: Identity | None) -> dict[str, Any]:
    """What the client library is told. TLS from the first byte: a broker that would rather talk in plaintext
    is not spoken to. Raises TlsRefused.
    """
    if identity is None:
        return {}
    logging.getLogger("asyncio").addFilter(_is_news)
    return {
        "tls": identity.for_client(),
        "tls_hostname": server_name(BROKER),
        "tls_handshake_first": True,
    }


def _is_news(record: logging.LogRecord) -> bool:
    """nats-py does not tell asyncio's streams that they are over TLS, and each is warned of when it ends."""
    return "eof_received() has no effect when using ssl" not in record.getMessage()


async def _on_error(error: Exception) -> None:
    _log.debug("nats client error", error=repr(error))
