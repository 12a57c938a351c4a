"""Calls that were refused on this side and never sent: nothing happened, and their errors say so.

They look like any failed call, so that whoever handles a neighbour's absence need not know the difference.
"""

from typing import Any, Final

import grpc

from services.chassis import status
from services.chassis.status import TooLate
from services.kernel import errors


class NoTimeLeft(TooLate):
    """There is no time left to call {method}."""


class RefusedHere(errors.Unavailable):
    """Not now, for a reason of our own."""

    def __init__(self, *, retry_in_s: float, **metadata: object) -> None:
        super().__init__(**metadata)
        self.retry_after_s = retry_in_s


class CircuitOpen(RefusedHere):
    """{method} has failed too often lately; it is left alone for a moment."""


class BulkheadFull(RefusedHere):
    """Too many calls to the service of {method} wait for an answer already."""


REASONS: Final = frozenset(kind.reason for kind in (NoTimeLeft, CircuitOpen, BulkheadFull))
"""With one of these a call was certainly not made."""


def unsent(error: errors.DomainError) -> grpc.aio.AioRpcError:
    """The same as a failed call."""
    told = status.from_error(error)
    trailers: Any = grpc.aio.Metadata(*status.trailers(told))
    return grpc.aio.AioRpcError(status.code(error), grpc.aio.Metadata(), trailers, told.message)


def was_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether the neighbour may have seen the call that ended with this."""
    return status.reason(error) not in REASONS
