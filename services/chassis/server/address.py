"""Where a call comes from, as a network address without a port."""

from typing import Any, Final
from urllib.parse import unquote

from services.chassis.identity.workload import workload_of

CLIENT_ADDRESS: Final = "x-bodega-client-address"
"""Metadata by which the edge says whose call it passes on. Anyone else may say what they like."""

EDGE: Final = "gateway"

_CHARS_MAX: Final = 64  # the longest IPv6 address with a zone has fewer


def address_of(context: Any) -> str:
    """The address of whoever calls; of anything but IP, the peer as grpc names it.

    Empty if the edge does not say whose call it passes on.
    """
    if workload_of(context) == EDGE:
        said = [value for key, value in context.invocation_metadata() or () if key == CLIENT_ADDRESS]
        return str(said[0])[:_CHARS_MAX] if said else ""
    kind, _, rest = unquote(context.peer()).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return str(context.peer())
    return rest.rpartition(":")[0].strip("[]")
