"""A request's body: all of it, within bounds."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from gateway.errors import Refusal
from gateway.headers import Incoming
from gateway.http1 import Presence, Receive
from gateway.streams import ClientLeft

# The largest honest one is an order of a thousand lines. gRPC's own default bound.
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
# How much of a body that is too large is read to its end, so that its sender gets to read the answer.
_DISCARDED_BYTES_MAX: Final = 16 * 1024 * 1024

_JSON_TYPE: Final = b"application/json"
_CHARSETS: Final = (b"", b"charset=utf-8", b'charset="utf-8"')
_CLOSE: Final = (b"connection", b"close")


async def read(
    presence: Presence,
    receive: Receive,
    incoming: Incoming,
    *,
    takes_json: bool,
    bytes_max: int,
    sending: Callable[[], AbstractContextManager[None]],
) -> bytes:
    """Raises Refusal for one that is too large or of the wrong kind, and ClientLeft.

    Inside `sending`, which may refuse that, it waits for what has not arrived.
    """
    if incoming.content_encoding not in (None, b"identity"):
        message = "Compressed bodies are not taken."
        raise Refusal(415, "INVALID_ARGUMENT", "UNSUPPORTED_ENCODING", message, headers=[_CLOSE])
    if incoming.content_length > bytes_max:
        if not incoming.asks_first:
            with sending():
                await _discard(receive, incoming.content_length)
        raise _too_large(bytes_max)
    body = presence.body()
    if body is None:
        with sending():
            body = await _received(receive, bytes_max)
    elif len(body) > bytes_max:
        raise _too_large(bytes_max)
    if body and takes_json and not _is_json(incoming.content_type):
        message = "The body must be application/json in UTF-8."
        raise Refusal(415, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE", message)
    return body


async def _received(receive: Receive, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeft
        part = event.get("body", b"")
        more = event.get("more_body", False)
        size += len(part)
        if size > bytes_max:
            if more:
                await _discard(receive, 0)
            raise _too_large(bytes_max)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _discard(receive: Receive, announced: int) -> None:
    """Reads on, within reason: who still sends when the connection closes never sees the answer."""
    done = 0
    while announced <= _DISCARDED_BYTES_MAX and done <= _DISCARDED_BYTES_MAX:
        event = await receive()
        done += len(event.get("body", b""))
        if not event.get("more_body"):
            return


def _is_json(content_type: bytes | None) -> bool:
    """Whether a body may be read as JSON; one without a type is taken at its word."""
    if content_type is None or content_type == _JSON_TYPE:
        return True
    kind, _, parameters = content_type.lower().partition(b";")
    return kind.strip() == _JSON_TYPE and parameters.strip() in _CHARSETS


def _too_large(limit: int) -> Refusal:
    message = f"The body is larger than {limit} bytes."
    return Refusal(413, "INVALID_ARGUMENT", "BODY_TOO_LARGE", message, headers=[_CLOSE])
