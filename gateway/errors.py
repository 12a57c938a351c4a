"""Errors as clients of the edge see them: `{"error": {code, status, message, details}}`.

`code` is the HTTP status, `status` the name of the gRPC code, `details` the google.rpc details with their
`@type`. No exception's text, no address and no stack trace ever gets here.
"""

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import orjson
from google.protobuf import any_pb2
from google.rpc import error_details_pb2

from gateway.encode import Encoder
from gateway.refusals import Refused
from gateway.well_known import NoJsonForm
from services.chassis import status as rich
from services.chassis.client.dropped import DROPPED, dropped
from services.chassis.status import DOMAIN
from services.kernel.errors import DomainError

Headers = list[tuple[bytes, bytes]]

TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."
_DEBUG_INFO: Final = TYPE_PREFIX + "DebugInfo"
_RETRY_INFO: Final = "google.rpc.RetryInfo"

# google/rpc/code.proto names the HTTP status of every code.
HTTP_STATUS: Final = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}

# What gRPC libraries say themselves, with an exception's text or a peer's address in it.
_SAID_BY_SERVER_LIBRARY = re.compile(
    r"Unexpected <class |Exception (?:calling|iterating|serializing|deserializing)|Traceback"
)
_SAID_BY_TRANSPORT = re.compile(
    r"failed to connect|ipv[46]:|unix:|[Ss]ocket closed|[Cc]onnection (?:reset|refused|dropped|closed)"
    r"|recvmsg|sendmsg|GOAWAY|RST_STREAM|[Bb]roken pipe|Endpoint |DNS|[Nn]ame resol"
    r"|HTTP/?2|http2|Stream removed|Transport |^Deadline Exceeded$|^Cancelling all calls$|"
    + re.escape(DROPPED)
)
_PLAIN_WORDS: Final = {
    grpc.StatusCode.UNKNOWN: "Something went wrong.",
    grpc.StatusCode.INTERNAL: "Something went wrong.",
    grpc.StatusCode.UNAVAILABLE: "The service cannot be reached right now.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "The deadline passed before the answer came.",
    grpc.StatusCode.CANCELLED: "The call was cancelled.",
    grpc.StatusCode.UNIMPLEMENTED: "The service does not offer this.",
}
_CANCELLED: Final = "CANCELLED"
_REASONS: Final = {grpc.StatusCode.UNAVAILABLE: "BACKEND_UNREACHABLE"}
_UNAUTHENTICATED: Final = 401
_CHALLENGE: Final = (b"www-authenticate", b"Bearer")
_UNAVAILABLE: Final = 503
_RETRY_SOON: Final = b"1"


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal as it goes out."""

    status: int
    body: bytes
    headers: Headers


class Refusal(Exception):
    """The edge itself refuses a request."""

    def __init__(
        self,
        status: int,
        code: str,
        reason: str,
        message: str,
        *,
        details: Sequence[dict[str, Any]] = (),
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status, body(status, code, message, [_info(reason), *details]), headers or [])

    @classmethod
    def of(cls, failure: Failure) -> "Refusal":
        """A refusal that is rendered already."""
        made = cls.__new__(cls)
        made.failure = failure
        return made


def body(status: int, code: str, message: str, details: Sequence[dict[str, Any]]) -> bytes:
    """The JSON of an error."""
    return orjson.dumps(
        {"error": {"code": status, "status": code, "message": message, "details": list(details)}}
    )


def invalid(refused: Refused) -> Refusal:
    """400 for content that does not fit the contract, with every violation."""
    violations = [
        {"field": violation.field, "description": violation.description} for violation in refused.violations
    ]
    named = ", ".join(dict.fromkeys(violation.field or "body" for violation in refused.violations))
    return Refusal(
        400,
        "INVALID_ARGUMENT",
        "MALFORMED_REQUEST",
        f"The request does not fit its contract: {named}.",
        details=[{"@type": TYPE_PREFIX + "BadRequest", "fieldViolations": violations}],
    )


def malformed(field: str, description: str) -> Refusal:
    """400 for one thing outside the message, such as a header."""
    violations = [{"field": field, "description": description}]
    return Refusal(
        400,
        "INVALID_ARGUMENT",
        "MALFORMED_REQUEST",
        f"{field} {description}.",
        details=[{"@type": TYPE_PREFIX + "BadRequest", "fieldViolations": violations}],
    )


def internal() -> Refusal:
    """500 without a word about why; the log has it."""
    return Refusal(500, "INTERNAL", "INTERNAL", _PLAIN_WORDS[grpc.StatusCode.INTERNAL])


class Renderer:
    """Renders what backends fail with."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def failure(self, error: grpc.aio.AioRpcError) -> Failure:
        """A failed call as HTTP."""
        if is_dropped(error):
            error = dropped(error)
        code = error.code()
        status = HTTP_STATUS.get(code, 500)
        carried = rich.parse(error)
        details = carried.details if carried is not None and carried.code == code.value[0] else ()
        shown = [self._detail(detail) for detail in details if detail.type_url != _DEBUG_INFO]
        message, is_ours = _message(code, error.details())
        if is_ours:
            shown.append(_info(_REASONS.get(code, code.name)))
        headers: Headers = []
        retry_after = _retry_after(details) or (_RETRY_SOON if is_ours and status == _UNAVAILABLE else None)
        if retry_after is not None:
            headers.append((b"retry-after", retry_after))
        if status == _UNAUTHENTICATED:
            headers.append(_CHALLENGE)
        return Failure(status, body(status, code.name, message, shown), headers)

    def refusal(self, error: DomainError) -> Failure:
        """What the edge itself refuses, in the words in which a service would."""
        status, code = rich.from_error(error), rich.code(error)
        http_status = HTTP_STATUS[code]
        shown = [self._detail(detail) for detail in status.details]
        headers: Headers = [_CHALLENGE] if http_status == _UNAUTHENTICATED else []
        if (retry_after := _retry_after(status.details)) is not None:
            headers.append((b"retry-after", retry_after))
        return Failure(http_status, body(http_status, code.name, status.message, shown), headers)

    def _detail(self, detail: any_pb2.Any) -> dict[str, Any]:
        try:
            return self._encoder.any(detail)
        except NoJsonForm:
            return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode()}


def is_dropped(error: grpc.aio.AioRpcError) -> bool:
    """Whether the backend let go of the call without a word: nobody here cancelled it, so it stops."""
    said = error.details()
    return error.code() is grpc.StatusCode.CANCELLED and (
        not said or said.upper() == _CANCELLED or bool(_SAID_BY_TRANSPORT.search(said))
    )


def _info(reason: str) -> dict[str, Any]:
    return {"@type": TYPE_PREFIX + "ErrorInfo", "reason": reason, "domain": DOMAIN}


def _message(code: grpc.StatusCode, said: str | None) -> tuple[str, bool]:
    """What a client may read, and whether it is our wording because only a library spoke."""
    plain = _PLAIN_WORDS.get(code)
    if not said:
        return plain or code.name, False
    if plain and (_SAID_BY_SERVER_LIBRARY.search(said) or _SAID_BY_TRANSPORT.search(said)):
        return plain, True
    return said, False


def _retry_after(details: Sequence[any_pb2.Any]) -> bytes | None:
    """Whole seconds, at least one: the header knows no fractions."""
    for detail in details:
        if detail.TypeName() == _RETRY_INFO:
            info = error_details_pb2.RetryInfo()
            detail.Unpack(info)
            return b"%d" % max(1, math.ceil(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return None
