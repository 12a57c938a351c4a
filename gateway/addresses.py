"""Where a request comes from: the peer's address, or what proxies that we trust say of it.

Anyone can write `X-Forwarded-For`. It is read from its end, where the proxy next to us wrote, and only as
far as those who wrote are ours.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from services.chassis.networks import Address, is_in, networks, plain

FORWARDED_FOR: Final = "x-forwarded-for"
FORWARDED: Final = "forwarded"

_HOPS_MAX: Final = 16  # nobody has more proxies of their own in a row
_KEPT: Final = 4096
_FOR = re.compile(r'(?:^|;)\s*for=(?:"([^"]*)"|([^;"]*))', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


class Addresses:
    """Finds the address of whoever asks."""

    def __init__(self, trusted: Iterable[str] = (), *, header: str = FORWARDED_FOR) -> None:
        """`trusted`: networks of our proxies, e.g. `10.0.0.0/8`; `header`: which of the two they write.

        Raises BadNetwork.
        """
        self._networks = networks(trusted)
        self._read = _forwarded_for if header == FORWARDED_FOR else _forwarded
        self.header = header.encode()

    @property
    def are_forwarded(self) -> bool:
        """Whether there is anyone whose word is taken."""
        return bool(self._networks)

    def of(self, peer: str, forwarded: bytes | None) -> str:
        """The client's address; empty if not even the peer's is known, as on a Unix socket."""
        if forwarded is None or not self._networks or not is_in(peer, self._networks):
            return _plain(peer)
        found = peer
        for hop in reversed(self._read(forwarded.decode("latin-1"))[-_HOPS_MAX:]):
            address = _address(hop)
            if address is None:
                break  # a proxy that hides its client is the last we know of
            found = str(address)
            if not is_in(found, self._networks):
                break
        return _plain(found)


@lru_cache(_KEPT)
def _plain(address: str) -> str:
    found = _address(address)
    return address if found is None else str(found)


def _address(text: str) -> Address | None:
    match = _WITH_PORT.fullmatch(text.strip())
    return plain((match[1] or match[2]) if match else text)


def _forwarded_for(text: str) -> list[str]:
    return text.split(",")


def _forwarded(text: str) -> list[str]:
    """RFC 7239. A hop that names no `for` is one that hides it."""
    found = []
    for hop in text.split(","):
        match = _FOR.search(hop)
        found.append((match[1] or match[2] or "") if match else "")
    return found
