"""Follows one service's events as its stream gets them, in order and each once, leaving no trace.

An ephemeral push consumer without acknowledgements, kept in the broker's memory. Like NATS' "ordered
consumer": at a gap, a silence or a new connection another one goes on behind the last event seen. (nats-py's
own leaves its consumers behind, and what it does at a gap belongs to nobody.)
https://docs.nats.io/using-nats/developer/develop_jetstream/consumers#ephemeral-consumers
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

from services.chassis.events.connection import BROKER_ERRORS, Connection
from services.chassis.events.jetstream import JetStream, stream_name

HEARTBEAT_S: Final = 2.0
SILENCE_MAX_S: Final = 3 * HEARTBEAT_S  # then the consumer is gone, and is made anew
UNUSED_MAX_S: Final = 30.0  # if we are killed, the broker removes the consumer after so long
AGAIN_S: Final = 0.5
QUEUE_MAX: Final = 1000  # events not yet told; behind them flow control holds the broker back

_STALLED: Final = "Nats-Consumer-Stalled"
_LAST_SENT: Final = "Nats-Last-Consumer"


class Gap(Exception):
    """Events were lost on the way from the broker."""


class Tail:
    """One service's events, from now or from a time on."""

    def __init__(self, jetstream: JetStream, service: str, *, since: datetime | None = None) -> None:
        self.attached = asyncio.Event()
        """Set once nothing that happens from now on will be missed."""

        self._jetstream = jetstream
        self._service = service
        self._since = since
        self._next: int | None = None  # sequence in the stream

    async def run(self, tell: Callable[[Msg], None]) -> None:
        """Tells every event until cancelled; a broker that goes away is waited for."""
        while True:
            connection = await self._jetstream.connection()
            try:
                await self._follow(connection, tell)
            except NotFoundError:  # nothing was ever told there
                self._next = self._next or 1
                self.attached.set()
            except (*BROKER_ERRORS, Gap):
                pass
            await asyncio.sleep(AGAIN_S)

    async def _follow(self, connection: Connection, tell: Callable[[Msg], None]) -> None:
        stream = stream_name(self._service)
        if self._next is None and self._since is None:
            info = await connection.ask(connection.jetstream.stream_info(stream))
            self._next = info.state.last_seq + 1
        inbox = connection.client.new_inbox()
        arrived: asyncio.Queue[Msg] = asyncio.Queue(QUEUE_MAX)
        subscription = await connection.subscribe(inbox, arrived.put)
        try:
            made = await connection.ask(connection.jetstream.add_consumer(stream, self._config(inbox)))
            self.attached.set()
            try:
                await self._read(connection, arrived, tell)
            finally:
                with contextlib.suppress(*BROKER_ERRORS):
                    await connection.ask(connection.jetstream.delete_consumer(stream, made.name))
        finally:
            with contextlib.suppress(*BROKER_ERRORS):
                await subscription.unsubscribe()

    async def _read(
        self, connection: Connection, arrived: "asyncio.Queue[Msg]", tell: Callable[[Msg], None]
    ) -> None:
        told = 0
        while True:
            async with asyncio.timeout(SILENCE_MAX_S):
                message = await arrived.get()
            headers = message.headers or {}
            if "Status" in headers:  # a heartbeat, or flow control asking whether we keep up
                if answer := message.reply or headers.get(_STALLED):
                    await connection.publish(answer)
                elif int(headers.get(_LAST_SENT, told)) != told:
                    raise Gap
                continue
            place = message.metadata.sequence
            if place.consumer != told + 1:
                raise Gap
            told += 1
            self._next = place.stream + 1
            tell(message)

    def _config(self, inbox: str) -> api.ConsumerConfig:
        config = api.ConsumerConfig(
            deliver_subject=inbox,
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=UNUSED_MAX_S,
            mem_storage=True,
            num_replicas=1,
        )
        if self._next is not None:
            config.deliver_policy = api.DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._next
        else:
            config.deliver_policy = api.DeliverPolicy.BY_START_TIME
            config.opt_start_time = self._since
        return config
