"""Reactions to other services' events: each has its effect once, in order per aggregate.

An event's effect and its inbox row are one transaction, and the acknowledgement follows the commit; a crash
in between delivers the event again, and the inbox row then says that nothing is left to do.

Order. Events of one aggregate (the envelope's subject) walk in a lane: the next one is begun when the one
before is settled, while other lanes go on. What the broker had delivered to a former life, or over a broken
connection, is not waited for: the durable consumer is reset to its acknowledgement floor, so that everything
after it comes again from there, in order, and the inbox (or the lane that still holds it) sorts out the rest.
One process at a time may run a consumer of one name: of several replicas the one that leads (`Store.alone`).

Failures. Passing errors (the database is busy) are tried for as long as they last. Others are tried
TRIES_MAX times, with growing waits that hold up their own lane only; then the event goes to the dead letters
and the lane goes on.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg

from services.chassis import context, failpoints
from services.chassis.context import RequestContext, TraceContext
from services.chassis.events import deadletter, inbox
from services.chassis.events.connection import BROKER_ERRORS, Connection, Refused
from services.chassis.events.deadletter import DeadLetter, Reason
from services.chassis.events.delivery import Delivery, Undecodable
from services.chassis.events.envelope import Envelope
from services.chassis.events.jetstream import JetStream
from services.chassis.events.pull import Pull, PullLost
from services.chassis.events.spans import processing
from services.chassis.fault import PlayedFault
from services.chassis.identity.caller import Caller
from services.chassis.policy.backoff import Backoff
from services.chassis.storage.database import Store
from services.chassis.storage.session import Session
from services.chassis.telemetry import logger
from services.kernel.clock import Clock
from services.kernel.errors import DomainError

Tx = TypeVar("Tx")

Reaction = Callable[[Tx, Envelope, Any], None]
"""What an event leads to: a plain function inside the transaction that also notes the event as done."""

HELD_MAX: Final = 128
"""Events taken from the broker and not yet settled; enough to fill a commit of the database's writer."""

TRIES_MAX: Final = 5
"""Tries of an event whose reaction fails; with the waits between them about a second and a half."""

BACKOFF: Final = Backoff(first_s=0.1, max_s=5.0)

BEFORE_COMMIT: Final = failpoints.site("consumer.commit.before")
BEFORE_ACK: Final = failpoints.site("consumer.ack.before")

_log = logger(__name__)


class Consumer(Generic[Tx]):
    """One service's reactions to another's events."""

    def __init__(
        self,
        jetstream: JetStream,
        store: Store[Tx],
        *,
        name: str,
        service: str,
        reactions: Mapping[str, Reaction[Tx]],
        clock: Clock,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`name` is the durable consumer's: who reacts and to whom, e.g. `notification-order`; `service` is
        whose events are consumed.

        `reactions` go by full name of the message; events of other types are acknowledged and ignored.
        Raises KeyError for a name that no imported proto declares.
        """
        self._jetstream = jetstream
        self._store = store
        self._name = name
        self._service = service
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._reactions = {
            type_name: (_message_class(type_name), reaction) for type_name, reaction in reactions.items()
        }
        self._held: dict[str, Delivery] = {}
        self._lanes: dict[str, deque[Delivery]] = {}
        self._pull: Pull | None = None

    async def run(self) -> None:
        """Never returns. Neither a broker that is away nor a reaction that fails ends it."""
        self._held.clear()
        self._lanes.clear()
        async with asyncio.TaskGroup() as lanes:
            self._tasks = lanes
            failures = 0
            while True:
                connection = await self._jetstream.connection()
                try:
                    pull = await self._attach(connection)
                    failures = 0
                    await pull.run()
                except (*BROKER_ERRORS, PullLost) as error:
                    failures += 1
                    _log.warning("consumer waits for nats", consumer=self._name, error=repr(error))
                    await self._sleep(BACKOFF.delay_s(failures, self._random))

    async def lag(self) -> int:
        """How many events wait for this consumer in the stream; raises one of BROKER_ERRORS."""
        connection = await self._jetstream.connection()
        stream = await self._jetstream.ensure_stream(connection, self._service)
        info = await connection.ask(connection.jetstream.consumer_info(stream.name, self._name))
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def _attach(self, connection: Connection) -> Pull:
        stream = await self._jetstream.ensure_stream(connection, self._service)
        self._pull = Pull(
            connection,
            stream=stream.name,
            durable=self._name,
            held_max=HELD_MAX,
            held=lambda: len(self._held),
            deliver=self._deliver,
        )
        await self._pull.attach()
        return self._pull

    def _deliver(self, message: Msg) -> None:
        """Puts a message into its lane; a message that is held already has come again."""
        delivery = Delivery.of(message)
        held = self._held.get(delivery.identity)
        if held is not None:
            held.ack_subject = delivery.ack_subject
            return
        self._held[delivery.identity] = delivery
        lane = self._lanes.get(delivery.lane)
        if lane is None:
            self._lanes[delivery.lane] = deque((delivery,))
            self._tasks.create_task(self._walk(delivery.lane))
        else:
            lane.append(delivery)

    async def _walk(self, name: str) -> None:
        """Settles the events of one lane, one after the other."""
        lane = self._lanes[name]
        while lane:
            await self._settle(lane[0])
            del self._held[lane.popleft().identity]
            if self._pull is not None:
                self._pull.room()
        del self._lanes[name]

    async def _settle(self, delivery: Delivery) -> None:
        """Returns when the event had its effect, or is among the dead letters."""
        tries = waits = 0
        while True:
            try:
                await self._react(delivery)
            except Exception as error:  # noqa: BLE001 (whatever a reaction raises, the lane goes on)
                tries += not _is_passing(error)
                waits += 1
                self._complain(delivery, error, tries)
                if isinstance(error, Undecodable):
                    await self._bury(delivery, Reason.UNDECODABLE, error, tries)
                    return
                if tries >= TRIES_MAX:
                    await self._bury(delivery, Reason.FAILED, error, tries)
                    return
                await self._sleep(BACKOFF.delay_s(waits, self._random))
            else:
                await self._acknowledge_effect(delivery)
                return

    async def _react(self, delivery: Delivery) -> None:
        envelope = delivery.envelope()
        found = self._reactions.get(envelope.type)
        if found is None:
            return
        message_class, reaction = found
        try:
            message = message_class.FromString(envelope.data)
        except DecodeError as error:
            raise Undecodable(f"{envelope.type} has a body that is not one") from error

        def effect(session: Session) -> None:
            now = self._clock.now()
            if inbox.claim(session, consumer=self._name, event_id=envelope.id, at=now):
                reaction(self._store.transaction(session), envelope, message)
            failpoints.reach(BEFORE_COMMIT)

        request = _request(envelope, self._name.partition("-")[0])
        with context.working_on(request), processing(envelope, consumer=self._name):
            await self._store.transact(effect)

    async def _bury(self, delivery: Delivery, reason: Reason, error: Exception, tries: int) -> None:
        """Puts the event among the dead letters, however long that takes, and takes it off the stream."""
        letter = DeadLetter(
            reason=reason,
            error=error.reason if isinstance(error, DomainError) else type(error).__name__,
            tries=tries,
            consumer=self._name,
            stream=delivery.stream,
            sequence=delivery.sequence,
            subject=delivery.subject,
            headers=delivery.headers,
            body=delivery.body,
        )
        failures = 0
        while True:
            connection = await self._jetstream.connection()
            try:
                await deadletter.ensure(connection, replicas=self._jetstream.replicas)
                await deadletter.send(connection, letter)
                break
            except (*BROKER_ERRORS, Refused) as weather:
                failures += 1
                _log.warning("dead letter not taken", consumer=self._name, error=repr(weather))
                await self._sleep(BACKOFF.delay_s(failures, self._random))
        await self._acknowledge(delivery, b"+TERM")

    async def _acknowledge_effect(self, delivery: Delivery) -> None:
        try:
            await failpoints.areach(BEFORE_ACK)
        except PlayedFault as lost:
            _log.debug("acknowledgement lost", consumer=self._name, error=repr(lost))
        else:
            await self._acknowledge(delivery, b"")

    async def _acknowledge(self, delivery: Delivery, how: bytes) -> None:
        """Tells the broker; if that fails, the event comes again and the inbox knows it."""
        connection = self._jetstream.standing
        if connection is None:
            return
        try:
            await connection.publish(delivery.ack_subject, how)
        except BROKER_ERRORS as error:
            _log.debug("acknowledgement lost", consumer=self._name, error=repr(error))

    def _complain(self, delivery: Delivery, error: Exception, tries: int) -> None:
        figures = {"consumer": self._name, "event_id": delivery.identity, "subject": delivery.subject}
        if isinstance(error, DomainError | Undecodable):
            _log.warning("event not taken", **figures, tries=tries, error=repr(error))
        else:
            _log.exception("event not taken", **figures, tries=tries)


def _message_class(type_name: str) -> type[Message]:
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(type_name))


def _is_passing(error: Exception) -> bool:
    return isinstance(error, DomainError) and not error.definite


def _request(envelope: Envelope, workload: str) -> RequestContext:
    """The reaction continues the trace, and acts on behalf, of whoever caused the event."""
    labels = {"event_id": envelope.id, "event_type": envelope.type}
    if envelope.request_id:
        labels["request_id"] = envelope.request_id
    return RequestContext(
        trace=TraceContext.continued(envelope.traceparent),
        caller=Caller(workload=workload, on_behalf_of=envelope.on_behalf_of or envelope.actor),
        labels=labels,
    )
