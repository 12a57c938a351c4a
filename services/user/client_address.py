"""Where a call comes from: what failures to sign in are counted by."""

from typing import Any

import grpc

from services.chassis.server.address import address_of
from services.user import lockout

Context = grpc.aio.ServicerContext[Any, Any]


def client_site(context: Context) -> str:
    """The site (see lockout) of whoever calls; of anything but IP, the peer as grpc names it.

    Empty if the edge does not say whose call it is: everybody's failures would be counted as one place's.
    """
    return lockout.site(address_of(context))
