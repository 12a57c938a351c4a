"""HTTP headers → call metadata and back, by allow-lists.

Nothing passes that is not named here: no forwarded identities, no `x-bodega-*` of clients, no `grpc-*`, no
hop-by-hop headers. Ids are taken over if they are sane and made otherwise; both go to the backend and
back to the client.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from grpc.aio import Metadata

from gateway.errors import malformed
from services.chassis.context import STALE, TraceContext
from services.chassis.tracing.sampling import NO_SAMPLING, Sampling

AUTHORIZATION: Final = b"authorization"
API_KEY: Final = b"x-api-key"
IDEMPOTENCY_KEY: Final = b"idempotency-key"
IDEMPOTENCY_KEY_CHARS_MAX: Final = 255  # as contracts allow for request_id

# Passed on as they are. (The ids and traceparent are passed on too, remade.)
_WEBHOOK: Final = {
    b"webhook-id",
    b"webhook-timestamp",
    b"webhook-signature",
}  # https://www.standardwebhooks.com
_PASSED: Final = {
    name: name.decode()
    for name in (AUTHORIZATION, b"accept-language", b"tracestate", IDEMPOTENCY_KEY, *_WEBHOOK)
}
UNDERSTOOD: Final = frozenset(
    {
        *_PASSED,
        b"accept",
        b"access-control-request-method",
        b"content-type",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"forwarded",
        b"grpc-timeout",
        b"last-event-id",
        b"origin",
        b"traceparent",
        API_KEY,
        b"x-correlation-id",
        b"x-forwarded-for",
        b"x-request-id",
        b"x-request-timeout",
    }
)
_LISTS: Final = frozenset(
    {b"accept", b"accept-language", b"forwarded", b"tracestate", b"x-forwarded-for"}
)  # may be given in parts (RFC 9110, 5.3)

# Metadata of replies that clients of HTTP know what to do with.
_RETURNED: Final = frozenset(
    {
        "cache-control",
        "content-language",
        "deprecation",
        "etag",
        "last-modified",
        "retry-after",
        "sunset",
        STALE,
    }
)

_PRINTABLE = re.compile(rb"[ -~]*")
_ID = re.compile(rb"[!-~]{1,128}")
_GRPC_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = re.compile(rb"[0-9]{1,8}(?:\.[0-9]{1,9})?")
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Sent(Metadata):
    """Metadata of a call as a list. (grpc's own goes into a dictionary first and out again.)"""

    def __init__(self, pairs: list[tuple[str, str | bytes]]) -> None:
        self._pairs = pairs

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, key: str, value: str | bytes) -> None:
        self._pairs.append((key, value))

    def replace(self, name: str, value: str | None) -> None:
        """Puts this in place of whatever there is of that name; None: nothing."""
        self._pairs = [pair for pair in self._pairs if pair[0] != name]
        if value is not None:
            self._pairs.append((name, value))


@dataclass(slots=True)  # not frozen: that triples the price of making one, and one is made per request
class Incoming:
    """What the headers of a request say."""

    metadata: "Sent"
    timeout_s: float | None
    """What the client asked for, however long."""

    idempotency_key: str | None
    trace: TraceContext
    parent_id: str
    """The client's own place in it; empty if it names none."""

    request_id: str
    content_type: bytes | None
    content_encoding: bytes | None
    content_length: int
    asks_first: bool
    """The client waits for `100 Continue` before it sends its body."""

    accept: bytes
    last_event_id: bytes
    """Of a stream that broke off and is taken up again; empty if there is none."""

    returned: tuple[tuple[bytes, bytes], ...]
    """The ids, for the reply."""

    authorization: bytes | None
    api_key: bytes | None
    origin: bytes | None
    """Of the page that asks, if a browser says so."""

    forwarded: Mapping[bytes, bytes]
    """What proxies say of where it comes from, if they do; so may anyone."""

    is_preflight: bool
    """A browser asks on behalf of a page whether it may ask."""

    @property
    def has_credentials(self) -> bool:
        return self.authorization is not None or self.api_key is not None


def ids(raw: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Request id and correlation id of a request, made where absent or not printable."""
    found = {name: value for name, value in raw if name in (b"x-request-id", b"x-correlation-id")}
    return _ids(found)


def read(raw: Iterable[tuple[bytes, bytes]], sampling: Sampling = NO_SAMPLING) -> Incoming:
    """Raises Refusal (400) for a header that is given twice or does not parse."""
    found: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in UNDERSTOOD:
            if name not in found:
                found[name] = value
            elif name in _LISTS:
                found[name] += b", " + value
            elif name not in (b"x-request-id", b"x-correlation-id", b"traceparent"):
                raise malformed(name.decode(), "is given more than once")
    request_id, correlation_id = _ids(found)
    sent = found.get(b"traceparent")
    parent = TraceContext.parse(sent.decode("latin-1")) if sent else None
    trace = sampling.from_stranger(parent)
    if parent is None:
        found.pop(b"tracestate", None)  # it belongs to a parent there is not
    text, id_text = str(trace), request_id.decode()
    metadata: list[tuple[str, str | bytes]] = [
        (_PASSED[name], _text(name, value)) for name, value in found.items() if name in _PASSED
    ]
    metadata += (
        ("traceparent", text),
        ("x-request-id", id_text),
        ("x-correlation-id", id_text if correlation_id is request_id else correlation_id.decode()),
    )
    key = found.get(IDEMPOTENCY_KEY)
    return Incoming(
        Sent(metadata),
        _timeout_s(found),
        None if key is None else _idempotency_key(key),
        trace,
        "" if parent is None else parent.span_id,
        id_text,
        found.get(b"content-type"),
        found.get(b"content-encoding"),
        int(found.get(b"content-length", 0)),
        found.get(b"expect", b"").lower() == b"100-continue",
        found.get(b"accept", b""),
        found.get(b"last-event-id", b""),
        (
            (b"x-request-id", request_id),
            (b"x-correlation-id", correlation_id),
            (b"traceparent", text.encode()),
        ),
        found.get(AUTHORIZATION),
        found.get(API_KEY),
        found.get(b"origin"),
        found,
        b"access-control-request-method" in found,
    )


def returned(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """The reply's metadata that becomes headers."""
    return [
        (name.encode(), value.encode())
        for name, value in metadata
        if name in _RETURNED and isinstance(value, str)
    ]


def _ids(found: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    request_id = found.get(b"x-request-id")
    if request_id is None or not _ID.fullmatch(request_id):
        request_id = b"%032x" % random.getrandbits(128)  # it must differ, not be secret
    correlation_id = found.get(b"x-correlation-id")
    if correlation_id is None or not _ID.fullmatch(correlation_id):
        correlation_id = request_id
    return request_id, correlation_id


def _text(name: bytes, value: bytes) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise malformed(name.decode(), "must be printable ASCII")
    return value.decode("ascii")


def _idempotency_key(value: bytes) -> str:
    # draft-ietf-httpapi-idempotency-key-header has it in quotes; everyone else sends it bare.
    text = _text(IDEMPOTENCY_KEY, value)
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not 1 <= len(text) <= IDEMPOTENCY_KEY_CHARS_MAX:
        raise malformed("Idempotency-Key", f"must have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters")
    return text


def _timeout_s(found: dict[bytes, bytes]) -> float | None:
    """The shorter of the two timeouts."""
    given = []
    if (seconds := found.get(b"x-request-timeout")) is not None:
        if not _SECONDS.fullmatch(seconds):
            raise malformed("X-Request-Timeout", "must be a number of seconds, e.g. 2.5")
        given.append(float(seconds))
    if (timeout := found.get(b"grpc-timeout")) is not None:
        match = _GRPC_TIMEOUT.fullmatch(timeout)
        if match is None:
            raise malformed("grpc-timeout", "must be up to 8 digits and a unit, e.g. 500m")
        given.append(int(match[1]) * _UNIT_S[match[2]])
    return min(given, default=None)
