"""Where a call comes from, as a network address without a port, and who shares one place with it."""

import ipaddress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from services.chassis.identity.workload import workload_of

CLIENT_ADDRESS: Final = "x-bodega-client-address"
"""Metadata by which the edge says whose call it passes on. Anyone else may say what they like."""

EDGE: Final = "gateway"

_CHARS_MAX: Final = 64  # the longest IPv6 address with a zone has fewer
_SITE_BITS: Final = 64  # of an IPv6 address: one customer of a provider has at least so many to choose from
_SITES_KEPT: Final = 4096


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


@lru_cache(_SITES_KEPT)
def site(address: str) -> str:
    """Where an address is, to be counted by: of IPv6 the first half, since the rest is its owner's to choose.

    Of anything but IP, the address itself.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _SITE_BITS), strict=False))
    return str(found)
