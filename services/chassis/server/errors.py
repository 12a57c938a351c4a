"""Turns what handlers raise into what callers may see.

Domain errors become their status. Neighbours that do not answer make us unavailable. Anything else is a bug
or the weather: logged here, once, with stack and trace id, and sent as INTERNAL without a word of it.
"""

from typing import Final

import grpc
from google.rpc.status_pb2 import Status

from services.chassis import context as request_context
from services.chassis import status, telemetry
from services.chassis.client.unsent import NoTimeLeft
from services.chassis.contract import Method
from services.chassis.fault import ReplyDropped
from services.chassis.server.deadline import DeadlineExceeded
from services.chassis.status import Refused
from services.kernel.errors import DomainError, Unavailable

_log = telemetry.logger("errors")

INTERNAL: Final = "INTERNAL"


class NeighbourUnavailable(Unavailable):
    """A service that this depends on is not answering; the same request may succeed later."""


class WrongReply(TypeError):
    """A handler returned something else than its contract's reply."""


def refusal(error: Exception, method: Method, *, is_late: bool) -> Refused:
    """What the caller is told; to be called in an `except`. `is_late`: the deadline has passed."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, ReplyDropped):
        return connection_lost()
    if isinstance(error, DomainError):
        return Refused(status.from_error(error))
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in status.WEATHER:
        _log.warning("neighbour failed", method=method.path, code=error.code().name, said=error.details())
        is_late = is_late or status.reason(error) == NoTimeLeft.reason
        return Refused(status.from_error(DeadlineExceeded() if is_late else NeighbourUnavailable()))
    _log.exception("handler failed", method=method.path)
    return internal()


def connection_lost() -> Refused:
    """As grpc itself tells its caller: without a reason, and without any word on whether it happened."""
    return Refused(Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="Socket closed"))


def internal() -> Refused:
    """What callers see of a bug: enough to ask about it, nothing of what it was."""
    request = request_context.current()
    metadata = {"trace_id": request.trace.trace_id} if request else {}
    return Refused(status.build(grpc.StatusCode.INTERNAL, INTERNAL, "internal error", metadata))
