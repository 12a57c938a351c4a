"""What the edge has no room for, turned away as soon as its head is read.

A refusal must cost next to nothing, or refusing is all that an edge in a storm still does. So while there is
much to do, whoever would be refused anyway gets bytes made beforehand: no task is made for it, nobody
is asked who they are, nothing is logged. All else, and whatever is not plain, goes on as ever (exchange.py).
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from gateway.addresses import Addresses
from gateway.errors import Failure, Headers
from gateway.http1 import whole
from gateway.hygiene import Hygiene
from gateway.limits import RateLimits
from gateway.routes import MalformedPath
from gateway.site import Route, Site
from services.chassis.client.unsent import RefusedHere
from services.chassis.policy.spacing import Spacing
from services.chassis.server.shedding import WAITS_S, Overloaded, Refusals
from services.kernel.errors import DomainError

# Of the limit. Listings are the first to be refused, for want of room at their backend: half of it.
PRESSED: Final = 0.5

# A twentieth of the edge's time. Who is turned away beyond that is not heard until their turn comes again:
# what has not been read has cost nothing. With all the connections that there may be, five seconds.
AT_ONCE_PER_S: Final = 2000.0
AT_ONCE: Final = 100  # after a rest: a gust is no storm

JSON: Final = (b"content-type", b"application/json")
NO_STORE: Final = (b"cache-control", b"no-store")

_PATHS_KEPT: Final = 1024  # crowds come for few things
_ORIGIN: Final = b"origin"
_UNAVAILABLE: Final = 503


class Shedding:
    """Refusals, made beforehand."""

    def __init__(self, site: Site, rates: RateLimits | None, addresses: Addresses, hygiene: Hygiene) -> None:
        self._limiter = site.limiter
        self._find = lru_cache(_PATHS_KEPT)(site.router.find)
        self._rates = rates
        self._addresses = addresses
        self._opens_to_pages = hygiene.opens_to_pages
        self._render: Callable[[DomainError], Failure] = site.renderer.refusal
        self._refusals = Refusals(site.limiter, time.perf_counter)
        self._coming = 0  # whose head was read in this turn of the loop: they begin in the next
        self._turns = Spacing(AT_ONCE_PER_S, AT_ONCE)
        self._fixed = hygiene.fixed
        self._overloaded = [self._render(Overloaded(wait_s)) for wait_s in WAITS_S]
        self._overloaded_at_once = [self._whole(failure) for failure in self._overloaded]
        self._left_alone: dict[tuple[str, str], Failure] = {}
        self._left_alone_at_once: dict[tuple[str, str], bytes] = {}

    def is_pressed(self) -> bool:
        """Whether it is worth asking `at_once` about one more, who counts as coming."""
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._came)
        self._coming += 1
        return self._limiter.in_flight + self._coming > PRESSED * self._limiter.limit

    def at_once(
        self, http_method: str, url: bytes, headers: Iterable[tuple[bytes, bytes]], peer: str
    ) -> bytes | None:
        """The whole answer to a request that is refused; None: it is to be looked at in full."""
        if http_method == "HEAD" or (self._opens_to_pages and any(name == _ORIGIN for name, _ in headers)):
            return None  # whose answers are of another form
        try:
            found = self._find(http_method, url.partition(b"?")[0].decode("latin-1"))
        except MalformedPath:
            return None
        if found is None or found.route is None:
            return None
        route = found.route
        refused: type[RefusedHere] | None = None
        others = self._coming - 1
        if route.stream is not None:
            self._coming = others  # it takes no place: a thousand that come back together find room together
        if self._limiter.has_room(route.priority, others if route.stream is None else 0):
            if route.stream is None:
                refused = route.ward.closed(time.perf_counter(), others)
            if refused is None:
                return None
        if self._rates is not None and not self._rates.counts(self._address(peer, headers)):
            return None  # 429 says more
        self._coming = others
        route.metrics.answered(_UNAVAILABLE, None)
        return (
            self._overloaded_at_once[self._refusals.another()]
            if refused is None
            else self._at(route, refused)
        )

    def silence_s(self) -> float:
        """For how long whoever was turned away just now is not listened to; mostly not at all."""
        return self._turns.turn_in_s(time.perf_counter())

    def overloaded(self) -> Failure:
        """The same for a request that was looked at in full."""
        return self._overloaded[self._refusals.another()]

    def left_alone(self, error: RefusedHere) -> Failure:
        """And for one whose method, or backend, is left alone."""
        key = (error.reason, error.metadata["method"])
        failure = self._left_alone.get(key)
        if failure is None:
            failure = self._left_alone[key] = self._render(error)
        return failure

    def _came(self) -> None:
        self._coming = 0

    def _at(self, route: Route, refused: type[RefusedHere]) -> bytes:
        key = (refused.reason, route.method.path)
        answer = self._left_alone_at_once.get(key)
        if answer is None:
            answer = self._whole(self.left_alone(route.ward.refusal(refused)))
            self._left_alone_at_once[key] = answer
        return answer

    def _whole(self, failure: Failure) -> bytes:
        headers: Headers = [*self._fixed, *failure.headers, JSON, NO_STORE]
        return whole(failure.status, headers, failure.body)

    def _address(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        addresses = self._addresses
        if not addresses.are_forwarded:
            return addresses.of(peer, None)
        said = [value for name, value in headers if name == addresses.header]
        return addresses.of(peer, b", ".join(said) if said else None)
