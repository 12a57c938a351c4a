"""The envelope of an event: CloudEvents 1.0, binary mode over NATS, the body a protobuf message.

https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final
from urllib.parse import quote, unquote

from google.protobuf.message import Message

from services.chassis import context
from services.chassis.redaction import redacted
from services.kernel.names import snake_case

MESSAGE_ID: Final = "Nats-Msg-Id"  # what JetStream recognises duplicates by
CONTENT_TYPE: Final = "application/protobuf"

_HEADER_SAFE: Final = (
    " !#$&'()*+,-./:;<=>?@[]^_`{|}~"  # printable ASCII but for the two that the binding escapes
)

# Nearly every event is made of these alone, and quoting them would cost more than storing the event.
_PLAIN_HEADERS: Final = re.compile(r"[ !#$&-~]*")
_PLAIN_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]*")


class UnreadableEnvelope(Exception):
    """A message lacks a header that every event has; the message says which."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event, with what is known about it."""

    id: str
    source: str
    """Who says so, e.g. `bodega/order`."""

    type: str
    """Full name of the body's protobuf message, e.g. `bodega.order.v1.OrderPlaced`."""

    subject: str
    """Id of the aggregate it happened to; events of one subject are told in order."""

    time: datetime
    data: bytes
    nats_subject: str
    """Where it is published: `bodega.order.v1.order_placed.<aggregate id>`."""

    traceparent: str = ""
    actor: str = ""
    """Who caused it, e.g. `user:0190…`; empty if nobody was known."""

    on_behalf_of: str = ""
    """Whose wish the actor carried out; empty if it was its own."""

    request_id: str = ""

    def headers(self) -> dict[str, str]:
        """As NATS headers, the message id for JetStream's deduplication included."""
        made = {
            MESSAGE_ID: self.id,
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-source": self.source,
            "ce-type": self.type,
            "ce-subject": self.subject,
            "ce-time": self.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "ce-datacontenttype": CONTENT_TYPE,
            "ce-actor": self.actor,
            "ce-onbehalfof": self.on_behalf_of,
            "ce-requestid": self.request_id,
        }
        escaped = {name: value for name, value in made.items() if value}
        if not _PLAIN_HEADERS.fullmatch("".join(escaped.values())):
            escaped = {name: quote(value, safe=_HEADER_SAFE) for name, value in escaped.items()}
        if self.traceparent:
            escaped["traceparent"] = self.traceparent
        return escaped

    @classmethod
    def from_message(cls, nats_subject: str, headers: Mapping[str, str] | None, data: bytes) -> "Envelope":
        """From what NATS delivered. Raises UnreadableEnvelope."""
        found = {name.lower(): unquote(value) for name, value in (headers or {}).items()}
        try:
            return cls(
                id=found["ce-id"],
                source=found["ce-source"],
                type=found["ce-type"],
                subject=found["ce-subject"],
                time=datetime.fromisoformat(found["ce-time"]),
                data=data,
                nats_subject=nats_subject,
                traceparent=found.get("traceparent", ""),
                actor=found.get("ce-actor", ""),
                on_behalf_of=found.get("ce-onbehalfof", ""),
                request_id=found.get("ce-requestid", ""),
            )
        except KeyError as missing:
            raise UnreadableEnvelope(f"no {missing.args[0]} header") from None
        except ValueError:
            raise UnreadableEnvelope("ce-time is not a time") from None


def envelope(service: str, aggregate_id: str, message: Message, *, id: str, at: datetime) -> Envelope:  # noqa: A002 (CloudEvents' own word)
    """The event that says `message` of an aggregate, with trace and actor of the request at hand.

    `debug_redact` fields are left out: events are kept, and read by many.
    """
    current = context.current()
    return Envelope(
        id=id,
        source=f"bodega/{service}",
        type=message.DESCRIPTOR.full_name,
        subject=aggregate_id,
        time=at,
        data=redacted(message).SerializeToString(),
        nats_subject=nats_subject(message.DESCRIPTOR.full_name, aggregate_id),
        traceparent=context.traceparent(),
        actor=current.caller.name if current else "",
        on_behalf_of=current.caller.on_behalf_of if current else "",
        request_id=current.labels.get("request_id", "") if current else "",
    )


def nats_subject(type_name: str, aggregate_id: str) -> str:
    """`bodega.order.v1.OrderPlaced` is told on `bodega.order.v1.order_placed.<aggregate id>`."""
    if not _PLAIN_TOKEN.fullmatch(aggregate_id):
        # What NATS gives a meaning to (dots, wildcards, blanks) is escaped; ids of ours have none of it.
        aggregate_id = quote(aggregate_id, safe="").replace(".", "%2E").replace("~", "%7E")
    return f"{_subject_of(type_name)}.{aggregate_id}"


@cache
def _subject_of(type_name: str) -> str:
    package, _, name = type_name.rpartition(".")
    return f"{package}.{snake_case(name)}"
