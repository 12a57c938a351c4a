"""How the messages of a stream stand one after another in a body.

Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) for who asks for
`text/event-stream`, one JSON value a line (https://github.com/ndjson/ndjson-spec) for everyone else, bare
bytes for google.api.HttpBody.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway import fields
from gateway.fields import BadField
from gateway.transcode import ReplyRendering
from services.chassis.contract import Method

EVENTS: Final = b"text/event-stream"
LINES: Final = b"application/x-ndjson"

# Browsers' own pause before they come back is 3 to 5 s; a shopper who watches an order should not feel it.
RETRY_MS: Final = 1000

_NO_ID = re.compile(rb"[\r\n\0]")  # would end the line, or be ignored with the whole id
_QUALITY = re.compile(rb"q=([01](?:\.[0-9]{0,3})?)")


class Framing(Protocol):
    """One stream's framing; methods give the bytes to send."""

    content_type: bytes
    """As in the head; complete after the first message."""

    heartbeat: bytes
    """Sent when there has been nothing to say for a while; empty: this framing has no such thing."""

    opens_early: bool
    """Whether the head may go out before the first message."""

    def begin(self) -> bytes: ...

    def message(self, wire: bytes) -> bytes:
        """Raises NoJsonForm."""

    def failed(self, error: bytes) -> bytes | None:
        """The end of a body that is not whole, with the JSON of an error; None: break off."""

    def end(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class StreamRendering:
    """Makes the framings of one route."""

    reply: ReplyRendering
    cursor: Callable[[Any], bytes] | None
    resumes: bool

    def framing(self, accept: bytes) -> Framing:
        """The framing for a client that accepts this."""
        if self.reply.is_raw:
            return _Raw(self.reply)
        return _Events(self) if prefers_events(accept) else _Lines(self.reply)


def rendering(method: Method, reply: ReplyRendering) -> StreamRendering:
    """Raises BadField if the policy's `stream_cursor` is no plain field of the messages."""
    policy = method.policy
    path = "" if policy is None else policy.stream_cursor
    cursor = _cursor(method.descriptor.output_type, path) if path else None
    return StreamRendering(reply, cursor, policy is not None and bool(policy.resume_field))


def prefers_events(accept: bytes) -> bool:
    """Whether server-sent events are named, and no less liked than lines. A wildcard names nothing."""
    liked = {EVENTS: 0.0, LINES: 0.0}
    for part in accept.lower().split(b","):
        kind, *parameters = (piece.strip() for piece in part.split(b";"))
        if kind in liked:
            found = next(filter(None, map(_QUALITY.fullmatch, parameters)), None)
            liked[kind] = float(found[1]) if found else 1.0
    return liked[EVENTS] > 0 and liked[EVENTS] >= liked[LINES]


def _cursor(message: Descriptor, path: str) -> Callable[[Any], bytes]:
    field = fields.resolve(message, path)
    if field.leaf.is_repeated or field.leaf.message_type is not None:
        raise BadField(f"stream_cursor {path} is no plain field")
    name = field.leaf.name
    if field.leaf.cpp_type not in _NUMBERS and field.leaf.type != FieldDescriptor.TYPE_STRING:
        raise BadField(f"stream_cursor {path} is neither an integer nor a string")
    return lambda found: str(getattr(field.parent(found), name)).encode()


_NUMBERS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)


class _Events:
    content_type = EVENTS
    heartbeat = b":\n\n"  # a comment
    opens_early = True

    def __init__(self, rendering: StreamRendering) -> None:
        self._reply = rendering.reply
        self._cursor = rendering.cursor
        self._resumes = rendering.resumes

    def begin(self) -> bytes:
        # Only who can be taken up where it broke off should be hurried to come back.
        return b"retry: %d\n\n" % RETRY_MS if self._resumes else b""

    def message(self, wire: bytes) -> bytes:
        message = self._reply.read(wire)
        data = self._reply.json(message)
        if self._cursor is not None:
            cursor = self._cursor(message)
            if cursor and not _NO_ID.search(cursor):
                return b"id: %b\ndata: %b\n\n" % (cursor, data)
        return b"data: %b\n\n" % data

    def failed(self, error: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % error

    def end(self) -> bytes:
        # A browser takes any end for a lost connection and comes back. That is right for a stream that
        # resumes (its service ends it at a deadline or a restart) and a repetition for every other.
        return b"" if self._resumes else b"event: end\ndata: {}\n\n"


class _Lines:
    content_type = LINES
    heartbeat = b""  # an empty line trips half of the parsers there are
    opens_early = True

    def __init__(self, reply: ReplyRendering) -> None:
        self._reply = reply

    def begin(self) -> bytes:
        return b""

    def message(self, wire: bytes) -> bytes:
        return self._reply.json(self._reply.read(wire)) + b"\n"

    def failed(self, error: bytes) -> bytes:
        return error + b"\n"

    def end(self) -> bytes:
        return b""


class _Raw:
    heartbeat = b""
    opens_early = False  # the first message names the content type

    def __init__(self, reply: ReplyRendering) -> None:
        self._reply = reply
        self.content_type = b""

    def begin(self) -> bytes:
        return b""

    def message(self, wire: bytes) -> bytes:
        data, content_type = self._reply.raw(self._reply.read(wire))
        self.content_type = self.content_type or content_type
        return data

    def failed(self, error: bytes) -> None:
        del error  # words at the end of a picture are no words

    def end(self) -> bytes:
        return b""
