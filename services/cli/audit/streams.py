"""What the broker's streams have of each service's events, read without disturbing any consumer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from services.chassis.events.connection import BROKER_ERRORS, Connection
from services.chassis.events.deadletter import CONSUMER, ORIGIN_STREAM, STREAM
from services.chassis.events.envelope import MESSAGE_ID
from services.chassis.events.jetstream import stream_name
from services.chassis.tls import Identity, TlsFiles, TlsRefused
from services.cli.data_folder import SERVICES
from services.cli.refusal import Refused

FETCH: Final = 500
FETCH_MAX_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in a stream."""

    sequence: int
    type: str
    """Full name of the event."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the streams have."""

    events: Mapping[str, Mapping[str, Entry]]
    """By service, then by event id."""

    first: Mapping[str, int]
    """By service: the oldest sequence the stream still has; what came before has grown old."""

    dead: Mapping[str, str]
    """Event ids that a consumer has given up, and which consumer that was."""


def read(url: str, tls: TlsFiles | None) -> Told:
    """Everything in the streams. Raises Refused if the broker does not answer."""
    return asyncio.run(_read(url, tls))


async def _read(url: str, tls: TlsFiles | None) -> Told:
    connection = Connection()
    try:
        await connection.open(url, name="bodega-verify", identity=Identity(tls) if tls else None)
        jetstream = connection.jetstream
        events, first = {}, {}
        for service in SERVICES:
            messages = await _headers(jetstream, stream_name(service))
            events[service] = _first_of_each(messages)
            first[service] = messages[0][0] if messages else 1
        dead = {
            headers[MESSAGE_ID].removeprefix(f"{headers[CONSUMER]}:"): headers[CONSUMER]
            for _, headers in await _headers(jetstream, STREAM)
            if MESSAGE_ID in headers and CONSUMER in headers and ORIGIN_STREAM in headers
        }
        return Told(events, first, dead)
    except TlsRefused as refused:
        raise Refused(str(refused)) from None
    except BROKER_ERRORS as error:
        raise Refused(f"the broker at {url} does not answer: {type(error).__name__}") from None
    finally:
        await connection.close()


def _first_of_each(messages: list[tuple[int, Mapping[str, str]]]) -> dict[str, Entry]:
    """By event id. An event that was published twice was told when it came first."""
    found: dict[str, Entry] = {}
    for sequence, headers in messages:
        if event_id := headers.get(MESSAGE_ID):
            found.setdefault(event_id, Entry(sequence, headers.get("ce-type", "")))
    return found


async def _headers(jetstream: JetStreamContext, stream: str) -> list[tuple[int, Mapping[str, str]]]:
    """Sequence and headers of every message that was in the stream when this began, in order."""
    try:
        last = (await jetstream.stream_info(stream)).state.last_seq
    except NotFoundError:
        return []  # nothing was ever told there
    found: list[tuple[int, Mapping[str, str]]] = []
    config = api.ConsumerConfig(
        ack_policy=api.AckPolicy.NONE,
        deliver_policy=api.DeliverPolicy.ALL,
        headers_only=True,
        mem_storage=True,
        inactive_threshold=60.0,  # it goes by itself if we cannot remove it
    )
    consumer = await jetstream.add_consumer(stream, config)
    subscription = await jetstream.pull_subscribe_bind(consumer.name, stream)
    try:
        pending = consumer.num_pending or 0
        while pending > 0:
            try:
                messages = await subscription.fetch(min(FETCH, pending), timeout=FETCH_MAX_S)
            except NatsTimeoutError:
                break  # messages have grown old meanwhile
            pending -= len(messages)
            for message in messages:
                sequence = message.metadata.sequence.stream
                if sequence <= last:
                    found.append((sequence, message.headers or {}))
    finally:
        await subscription.unsubscribe()
        await jetstream.delete_consumer(stream, consumer.name)
    return found
