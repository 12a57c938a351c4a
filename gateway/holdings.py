"""How much one address may hold here at once, however slowly: connections, and bodies on their way.

How often someone asks does not tell how long each request takes to arrive. Who sends a byte now and then
(slowloris) holds a connection, and once the head is there a place among the requests that are worked on: a
thousand of them would keep out everyone else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from gateway.errors import TYPE_PREFIX, Failure, Headers, Refusal
from services.chassis.networks import Networks, is_in
from services.chassis.server.address import site

RETRY_IN_S: Final = 1  # honest ones are done by then


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one address may hold."""

    connections: int = 1000
    """A tenth of all. Browsers open six: an office of a hundred and sixty behind one address."""

    bodies: int = 64
    """A quarter of the least that the edge works on at once. Not counted is what comes along with its head,
    as all but large ones do."""


class Holdings:
    """What each address holds of one kind of thing. All addresses of an IPv6 /64 are one."""

    def __init__(self, kind: str, most: int, exempt: Networks) -> None:
        self._kind = kind
        self._most = most
        self._exempt = exempt
        self._held: dict[str, int] = {}
        self._refusal = _too_many(kind)
        self.on_refusal: Callable[[str], object] = lambda _kind: None
        """Called with the kind."""

    def enter(self, address: str) -> str:
        """What to tell `leave`; empty for whoever is not counted. Raises Refusal."""
        if not address or is_in(address, self._exempt):
            return ""
        holder = site(address)
        held = self._held.get(holder, 0)
        if held >= self._most:
            self.on_refusal(self._kind)
            raise Refusal.of(self._refusal)
        self._held[holder] = held + 1
        return holder

    def leave(self, holder: str) -> None:
        if holder:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]

    @contextmanager
    def holding(self, address: str) -> Iterator[None]:
        """Raises Refusal."""
        holder = self.enter(address)
        try:
            yield
        finally:
            self.leave(holder)


def _too_many(kind: str) -> Failure:
    headers: Headers = [(b"retry-after", b"%d" % RETRY_IN_S), (b"connection", b"close")]
    return Refusal(
        429,
        "RESOURCE_EXHAUSTED",
        f"TOO_MANY_OWN_{kind.upper()}",
        f"There are as many {kind} from your address as it may have at once.",
        details=[{"@type": f"{TYPE_PREFIX}RetryInfo", "retryDelay": f"{RETRY_IN_S}s"}],
        headers=headers,
    ).failure
