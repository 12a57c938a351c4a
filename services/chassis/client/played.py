"""Failpoints on the wire: what is played at them looks like the neighbour's doing, to every layer above."""

import asyncio
from typing import Final

import grpc

from services.chassis import failpoints, status
from services.chassis.contract import Method
from services.chassis.fault import PlayedFault
from services.kernel.errors import DomainError

BEFORE_SEND: Final = failpoints.site("client.call.before")
AFTER_REPLY: Final = failpoints.site("client.reply.after", has_reply=True)


async def reach(site: str, method: Method, *, within_s: float) -> None:
    """Visits a site for as long as the call has time. Raises AioRpcError, as the wire does."""
    try:
        async with asyncio.timeout(within_s):
            await failpoints.areach(site, method.name)
    except TimeoutError:
        raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
    except PlayedFault as fault:
        if not isinstance(fault, DomainError):
            raise _error(fault.code, "Socket closed") from None
        told = status.from_error(fault)
        raise _error(fault.code, told.message, *status.trailers(told)) from None


def _error(code: grpc.StatusCode, details: str, *trailers: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, grpc.aio.Metadata(*trailers), details)
