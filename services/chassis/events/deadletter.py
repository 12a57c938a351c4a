"""Where events go that a consumer could not take: a stream of its own, with the reason and the origin.

The event itself is kept unchanged, headers and body; what is known about the failure stands in headers of
its own. Nothing of an exception's text is kept, since that may quote people's data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.chassis.events.connection import Ack, Connection, Outgoing
from services.chassis.events.envelope import MESSAGE_ID
from services.chassis.events.jetstream import Stream, ensure_stream

STREAM: Final = "BODEGA_DEADLETTER"
SUBJECTS: Final = "bodega.deadletter.>"

REASON: Final = "Bodega-Dead-Reason"
ERROR: Final = "Bodega-Dead-Error"
TRIES: Final = "Bodega-Dead-Tries"
CONSUMER: Final = "Bodega-Dead-Consumer"
ORIGIN_STREAM: Final = "Bodega-Dead-Stream"
ORIGIN_SEQUENCE: Final = "Bodega-Dead-Sequence"
ORIGIN_SUBJECT: Final = "Bodega-Dead-Subject"


class Reason(StrEnum):
    """Why an event was given up."""

    UNDECODABLE = "UNDECODABLE"
    """Its envelope or its body cannot be read; it will never be any better."""

    FAILED = "FAILED"
    """The reaction to it failed as often as was allowed."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up, and what is known about it."""

    reason: Reason
    error: str
    """Class name of the last error, or its reason."""

    tries: int
    consumer: str
    stream: str
    sequence: int
    subject: str
    headers: Mapping[str, str]
    body: bytes

    def outgoing(self) -> Outgoing:
        """The message for the dead-letter stream; the same letter again is the same message."""
        origin = self.headers.get(MESSAGE_ID) or f"{self.stream}:{self.sequence}"
        return Outgoing(
            subject=f"bodega.deadletter.{self.consumer}.{self.subject}",
            headers={
                **self.headers,
                MESSAGE_ID: f"{self.consumer}:{origin}",
                REASON: self.reason,
                ERROR: self.error,
                TRIES: str(self.tries),
                CONSUMER: self.consumer,
                ORIGIN_STREAM: self.stream,
                ORIGIN_SEQUENCE: str(self.sequence),
                ORIGIN_SUBJECT: self.subject,
            },
            body=self.body,
        )


async def ensure(connection: Connection, *, replicas: int) -> Stream:
    """Makes the dead-letter stream. Raises one of BROKER_ERRORS."""
    return await ensure_stream(connection, STREAM, SUBJECTS, replicas=replicas)


async def send(connection: Connection, letter: DeadLetter) -> None:
    """Puts the letter into the stream; raises if that is not certain."""
    (result,) = await connection.publish_window([letter.outgoing()])
    if not isinstance(result, Ack):
        raise result
