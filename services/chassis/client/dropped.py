"""Calls that the other side cancelled: had it been this one, there would be no error with a code."""

from typing import Final

import grpc

DROPPED: Final = "the call was dropped by a server that stops"


def dropped(error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
    """The same as what it means: so grpc's servers end what reaches them just as they stop."""
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        error.initial_metadata(),
        error.trailing_metadata(),
        DROPPED,
        error.debug_error_string(),
    )
