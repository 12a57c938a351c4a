"""Domain errors as `google.rpc.Status`, and back.

The code follows from the error's category; `ErrorInfo` is always there, because clients branch on its
`reason` (AIP-193); `BadRequest`, `PreconditionFailure` and `RetryInfo` come along where they help.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from services.kernel import errors

DOMAIN: Final = "bodega"
METADATA_KEY: Final = "grpc-status-details-bin"

# Statuses travel in trailers, of which peers take 8 KiB in all. There the status grows by a third (base64)
# and the message up to ninefold (percent-encoding), so that these two together stay below.
STATUS_BYTES_MAX: Final = 3584
MESSAGE_CHARS_MAX: Final = 300
METADATA_CHARS_MAX: Final = 256
VIOLATIONS_BYTES_MAX: Final = 2048

WEATHER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Of a call: not the neighbour's refusal of it, but the neighbour not being there for it."""

STALE_RETRY_S: Final = 0.05  # whoever won the race has committed by then

_M = TypeVar("_M", bound=Message)


class TooLate(errors.DomainError):
    """The deadline has passed; whether anything happened is unknown."""

    # Transport knows this category, the domain does not: deadlines are no business of a pure function.
    definite = False


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field of a request."""

    field: str
    """Path as in the proto, e.g. `lines[2].quantity`."""

    rule: str
    """Which rule it breaks, e.g. `int32.gt`."""

    description: str


class InvalidRequest(errors.Invalid):
    """The request breaks the rules of its contract: {fields} (violations: {count})."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        fields = ", ".join(dict.fromkeys(violation.field or "(request)" for violation in violations))
        super().__init__(count=len(violations), fields=fields)

    def __reduce__(self) -> tuple[object, ...]:
        return InvalidRequest, (self.violations,)


class Refused(Exception):
    """A refusal in its final form: what the server sends, and what a remembered refusal is raised as."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def code(self) -> grpc.StatusCode:
        return code_of(self.status)

    @property
    def reason(self) -> str:
        return reason(self.status) or ""


# In this order: the first category that fits gives the code.
_CODES: Final[tuple[tuple[type[errors.DomainError], grpc.StatusCode], ...]] = (
    (errors.Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (errors.WrongState, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Stale, grpc.StatusCode.ABORTED),
    (errors.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.TooMuch, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (TooLate, grpc.StatusCode.DEADLINE_EXCEEDED),
)
_BUSY: Final = "busy"  # among the figures of such a refusal
_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


def code(error: errors.DomainError) -> grpc.StatusCode:
    """The code of the error's category; INTERNAL for one that has none, which is a bug."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def code_of(status: Status) -> grpc.StatusCode:
    return _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)


def from_error(error: errors.DomainError) -> Status:
    """What a caller is told of a domain error, small enough to fit into trailers."""
    figures = {name: _cut(value, METADATA_CHARS_MAX) for name, value in error.metadata.items()}
    if isinstance(error, errors.Busy):
        figures[_BUSY] = "true"
    made = build(code(error), error.reason, error.message, figures)
    if (detail := _detail_of(error)) is not None:
        _add(made, detail)
    return made


def build(code: grpc.StatusCode, reason: str, message: str, metadata: dict[str, str] | None = None) -> Status:
    """A status with its ErrorInfo."""
    made = Status(code=code.value[0], message=_cut(message, MESSAGE_CHARS_MAX))
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})
    if not _add(made, info):
        info.ClearField("metadata")  # the reason must arrive, whatever else does not fit
        _add(made, info)
    return made


def parse(error: BaseException | Status) -> Status | None:
    """The status that a failed call (grpc.aio.AioRpcError) carries, if it carries one."""
    if isinstance(error, Status):
        return error
    if isinstance(error, Refused):
        return error.status
    raw = _trailer(error)
    if raw is None:
        return None
    try:
        return Status.FromString(raw)
    except DecodeError:
        return None  # not one of ours; the code and the message still stand


def details(error: BaseException | Status) -> list[Message]:
    """Every detail of a kind known here, unpacked; empty for errors without a status."""
    status = parse(error)
    found = []
    for packed in status.details if status else ():
        kind = _KINDS.get(packed.TypeName())
        if kind is not None:
            detail = kind()
            packed.Unpack(detail)
            found.append(detail)
    return found


def detail(error: BaseException | Status, kind: type[_M]) -> _M | None:
    """The first detail of this kind."""
    return next((found for found in details(error) if isinstance(found, kind)), None)


def reason(error: BaseException | Status) -> str | None:
    """What clients branch on, e.g. `ORDER_NOT_CANCELLABLE`; None for errors without an ErrorInfo."""
    info = detail(error, error_details_pb2.ErrorInfo)
    return info.reason if info else None


def metadata(error: BaseException | Status) -> dict[str, str]:
    """The figures behind the reason."""
    info = detail(error, error_details_pb2.ErrorInfo)
    return dict(info.metadata) if info else {}


def is_busy(error: BaseException | Status) -> bool:
    """Whether whoever refused is well and has too much of this to do: `errors.Busy`."""
    return _BUSY in metadata(error)


def retry_after_s(error: BaseException | Status) -> float | None:
    """Seconds after which the server asks to be tried again; None if it did not say."""
    info = detail(error, error_details_pb2.RetryInfo)
    return info.retry_delay.ToTimedelta().total_seconds() if info else None


def trailers(status: Status) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries a status (the same convention as grpc_status uses)."""
    return ((METADATA_KEY, status.SerializeToString()),)


_KINDS: Final[dict[str, type[Message]]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.RetryInfo,
        error_details_pb2.QuotaFailure,
        error_details_pb2.ResourceInfo,
    )
}


def _detail_of(error: errors.DomainError) -> Message | None:
    detail: Message | None = None
    match error:
        case InvalidRequest():
            detail = _bad_request(*error.violations)
        case errors.Invalid() if error.field:
            detail = _bad_request(FieldViolation(error.field, error.reason, error.message))
        case errors.WrongState():
            detail = _precondition(error)
        case errors.Stale():
            detail = _retry(STALE_RETRY_S)
        case errors.TooMuch() | errors.Unavailable():
            detail = _retry(error.retry_after_s)
    return detail


def _bad_request(*violations: FieldViolation) -> error_details_pb2.BadRequest:
    """As many violations as fit; a client that sent thousands of bad lines learns of the first of them."""
    made = error_details_pb2.BadRequest()
    for violation in violations:
        made.field_violations.add(
            field=_cut(violation.field, METADATA_CHARS_MAX),
            reason=violation.rule,
            description=_cut(violation.description, METADATA_CHARS_MAX),
        )
        if made.ByteSize() > VIOLATIONS_BYTES_MAX:
            del made.field_violations[-1]
            break
    return made


def _precondition(error: errors.WrongState) -> error_details_pb2.PreconditionFailure:
    made = error_details_pb2.PreconditionFailure()
    subject = next(iter(error.metadata.values()), "")  # by habit the id of the thing comes first
    made.violations.add(
        type=error.reason,
        subject=_cut(subject, METADATA_CHARS_MAX),
        description=_cut(error.message, METADATA_CHARS_MAX),
    )
    return made


def _retry(after_s: float) -> error_details_pb2.RetryInfo:
    made = error_details_pb2.RetryInfo()
    made.retry_delay.FromNanoseconds(round(after_s * 1e9))
    return made


def _add(status: Status, detail: Message) -> bool:
    packed = Any()
    packed.Pack(detail)
    fits: bool = status.ByteSize() + packed.ByteSize() <= STATUS_BYTES_MAX
    if fits:
        status.details.append(packed)
    return fits


def _trailer(error: BaseException) -> bytes | None:
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == METADATA_KEY:
            return value if isinstance(value, bytes) else None
    return None


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
