"""Networks, as settings name them, and whether an address is in one."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

_KEPT: Final = 4096


class BadNetwork(ValueError):
    """What is given is no network."""


def networks(given: Iterable[str]) -> Networks:
    """Raises BadNetwork."""
    try:
        return tuple(ip_network(text) for text in given)
    except ValueError as error:
        raise BadNetwork(str(error)) from None


@lru_cache(_KEPT)
def is_in(address: str, among: Networks) -> bool:
    """Whether an address is in one of these networks; what is no address is in none."""
    found = plain(address)
    return found is not None and any(found in network for network in among)


def plain(text: str) -> Address | None:
    """The address a text names, an IPv4 one however it is written; None for anything else."""
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
