"""Pulling from a durable consumer: one lingering request at a time, as large as there is room.

nats-py's own `fetch(n)` waits for all n until its timeout once the first has come; this delivers each
message as it arrives.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import orjson
from nats.aio.msg import Msg
from nats.js import api

from services.chassis.events.connection import BROKER_ERRORS, Connection

ACK_WAIT_S: Final = 30.0
"""After this the broker delivers again what is not acknowledged. It matters only for acknowledgements that
got lost: a consumer that comes back resets itself and waits for nothing."""

EXPIRES_S: Final = 20.0  # how long one request lingers at the broker before it is made again
ANSWER_MARGIN_S: Final = 5.0  # a request that nobody ended so long after its time was lost

_IDLE: Final = "100"
_ENDED: Final = frozenset({"404", "408"})  # nothing there, time is up: ask again


class PullLost(Exception):
    """The durable consumer is no longer what it was; attach again. The text is the broker's."""


class Pull:
    """The flow of messages over one connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        stream: str,
        durable: str,
        held_max: int,
        held: Callable[[], int],
        deliver: Callable[[Msg], None],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._durable = durable
        self._held_max = held_max
        self._held = held
        self._deliver = deliver
        self._inbox = connection.client.new_inbox()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._requests = 0
        self._wake = asyncio.Event()
        self._expected = 0
        self._lost: str | None = None

    async def attach(self) -> None:
        """Makes the durable consumer, or takes it over where it was last acknowledged.

        Raises one of BROKER_ERRORS.
        """
        config = api.ConsumerConfig(
            name=self._durable,
            durable_name=self._durable,
            ack_policy=api.AckPolicy.EXPLICIT,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,  # we count tries ourselves: a restart is none
            max_ack_pending=self._held_max,
        )
        jetstream = self._connection.jetstream
        info = await self._connection.ask(jetstream.add_consumer(self._stream, config))
        if info.num_ack_pending:
            await self._connection.ask(jetstream.reset_consumer(self._stream, self._durable))
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)
        self._connection.on_broken(self._wake.set)

    async def run(self) -> None:
        """Delivers for as long as the connection stands. Raises PullLost or one of BROKER_ERRORS."""
        try:
            while not self._connection.is_broken:
                room = self._held_max - self._held()
                if room > 0:
                    await self._request(room)
                else:
                    await self._woken()
        finally:
            await self._unsubscribe()

    def room(self) -> None:
        """Something held was settled."""
        self._wake.set()

    async def _request(self, room: int) -> None:
        """Asks for as many as there is room for, and returns when they are there or no more will come."""
        self._expected = room
        self._requests += 1
        asked = orjson.dumps({"batch": room, "expires": int(EXPIRES_S * 1e9)})
        await self._connection.publish(self._next, asked, reply=f"{self._inbox}.{self._requests}")
        deadline = asyncio.get_running_loop().time() + EXPIRES_S + ANSWER_MARGIN_S
        while self._expected > 0 and self._lost is None and not self._connection.is_broken:
            if not await self._woken(deadline):
                return
        if self._lost is not None:
            raise PullLost(self._lost)

    async def _woken(self, deadline: float | None = None) -> bool:
        """Whether anything happened before the deadline (in the loop's time)."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _on_message(self, message: Msg) -> None:
        if not message.subject.startswith(self._inbox):
            self._expected -= 1
            self._deliver(message)
        elif message.subject == f"{self._inbox}.{self._requests}":
            self._heed(message.headers or {})
        if self._expected <= 0 or self._lost is not None:
            self._wake.set()

    def _heed(self, headers: Mapping[str, str]) -> None:
        """What the broker says of the request instead of delivering."""
        status = headers.get("Status", "")
        if status in _ENDED:
            self._expected = 0
        elif status != _IDLE:
            self._lost = f"{status} {headers.get('Description', '')}".strip()

    async def _unsubscribe(self) -> None:
        try:
            await self._subscription.unsubscribe()
        except BROKER_ERRORS:
            return  # it ended with its connection
