"""One message as a durable consumer got it."""

from dataclasses import dataclass

from nats.aio.msg import Msg

from services.chassis.events.envelope import MESSAGE_ID, Envelope, UnreadableEnvelope


class Undecodable(Exception):
    """An event that nobody can read, now or later; the message says what is wrong."""


@dataclass(eq=False, slots=True)
class Delivery:
    """A message on its way through a lane."""

    identity: str
    """The event's id; for a message without one, its place in the stream."""

    lane: str
    """What keeps its order: the aggregate's id; for a message without one, its subject."""

    subject: str
    headers: dict[str, str]
    body: bytes
    stream: str
    sequence: int
    ack_subject: str
    """Where to acknowledge it; of the latest delivery, if there were several."""

    @classmethod
    def of(cls, message: Msg) -> "Delivery":
        headers = dict(message.headers or {})
        where = message.metadata
        return cls(
            identity=headers.get(MESSAGE_ID) or f"{where.stream}:{where.sequence.stream}",
            lane=headers.get("ce-subject") or message.subject,
            subject=message.subject,
            headers=headers,
            body=message.data,
            stream=where.stream,
            sequence=where.sequence.stream,
            ack_subject=message.reply,
        )

    def envelope(self) -> Envelope:
        """What the headers say. Raises Undecodable."""
        try:
            return Envelope.from_message(self.subject, self.headers, self.body)
        except UnreadableEnvelope as error:
            raise Undecodable(str(error)) from error
