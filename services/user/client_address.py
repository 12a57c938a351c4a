"""Where a call comes from, as a network address: what failures are counted by."""

from typing import Any, Final
from urllib.parse import unquote

import grpc

from services.chassis.identity.workload import workload_of
from services.user import lockout

Context = grpc.aio.ServicerContext[Any, Any]

CLIENT_ADDRESS: Final = "x-bodega-client-address"
"""Metadata by which the edge says whose call it passes on. Anyone else may say what they like."""

_EDGE: Final = "gateway"


def client_site(context: Context) -> str:
    """The site (see lockout) of whoever calls; of anything but IP, the peer as grpc names it.

    Empty if the edge does not say whose call it is: everybody's failures would be counted as one place's.
    """
    if workload_of(context) == _EDGE:
        said = [value for key, value in context.invocation_metadata() or () if key == CLIENT_ADDRESS]
        return lockout.site(str(said[0])) if said else ""
    kind, _, rest = unquote(context.peer()).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return str(context.peer())
    return lockout.site(rest.rpartition(":")[0].strip("[]"))
