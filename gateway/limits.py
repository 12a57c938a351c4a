"""How often one may ask: per address, per account or API key, and per route where its contract says so.

Counting is the `limits` library's (a sliding window of two counters). Beyond a limit the answer is 429 with
Retry-After and the fields of draft-ietf-httpapi-ratelimit-headers.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from limits import RateLimitItem, RateLimitItemPerSecond, parse
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from gateway.counters import Counters
from gateway.errors import TYPE_PREFIX, Headers, Refusal
from services.chassis import telemetry
from services.chassis.contract import Method
from services.chassis.networks import BadNetwork, is_in, networks
from services.chassis.policy.rates import rates_of
from services.chassis.server.address import site
from services.chassis.server.rates import RateLimited
from services.kernel.clock import Clock

STORE_MAX_S: Final = 0.25  # a shared store that takes longer costs more than it protects
STORE_AWAY_S: Final = 1.0  # after which one that failed is tried again

_KEPT: Final = 4096  # addresses

_log = telemetry.logger("limits")


class BadLimit(ValueError):
    """What is given is no limit, or no store of limits."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for all routes. Limits are written `600/minute` or `20 per 10 seconds`; empty: none."""

    address: str = ""
    account: str = ""
    key: str = ""
    exempt: tuple[str, ...] = ()
    """Networks whose requests are not counted: load tests, our own monitoring."""

    store: str = field(default="", repr=False)  # a password may be in it
    """`redis://…`, shared by all edges; empty: each counts for itself."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit."""

    name: str
    item: RateLimitItem
    by_caller: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, as far as it is counted."""

    address: str
    account: str = ""
    key: str = ""

    @property
    def caller(self) -> str:
        return self.key or self.account or site(self.address)


class RateLimits:
    """Counts requests and refuses what is too much."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        """Raises BadLimit."""
        self._address = _limit("address", plan.address)
        self._account = _limit("account", plan.account)
        self._key = _limit("key", plan.key)
        try:
            exempt = networks(plan.exempt)
        except BadNetwork as error:
            raise BadLimit(str(error)) from None

        @lru_cache(_KEPT)
        def is_exempt(address: str) -> bool:
            return is_in(address, exempt)

        self._is_exempt = is_exempt  # to look a network up by another takes ten times as long
        self._counters = Counters(clock)
        self._here = SlidingWindowCounterRateLimiter(self._counters)
        self._pool = _pool(plan.store) if plan.store else None
        self._shared = _counting(plan.store, self._pool) if plan.store else None
        self._monotonic = clock.monotonic
        self._away_until = float("-inf")
        self.on_refusal: Callable[[str], object] = lambda _name: None
        """Called with the name of the limit."""

    async def arrived(self, address: str) -> None:
        """Counts a request before anything is known of it. Raises Refusal."""
        if self._address is not None and not self._is_exempt(address):
            await self._count(self._address, site(address))

    def counts(self, address: str) -> bool:
        """Counts one that is refused for another reason; False: it comes too often as well.

        Here alone: to ask a shared store would cost more than the refusal.
        """
        limit = self._address
        if limit is None or self._is_exempt(address):
            return True
        return self._counters.counts(limit.item, limit.item.key_for(limit.name, site(address)))

    async def admitted(self, of_route: Sequence[Limit], asking: Asking) -> None:
        """Counts one of which it is known who asks for what. Raises Refusal."""
        if self._is_exempt(asking.address):
            return
        general, who = (self._key, asking.key) if asking.key else (self._account, asking.account)
        if general is not None and who:
            await self._count(general, who)
        for limit in of_route:
            await self._count(limit, asking.caller if limit.by_caller else site(asking.address))

    def counted_as(self, asking: Asking) -> str:
        """Whose account something is on; empty for whoever is not counted."""
        return "" if self._is_exempt(asking.address) else asking.caller

    async def aclose(self) -> None:
        """Lets go of the shared store."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def _count(self, limit: Limit, who: str) -> None:
        if await self._ask("hit", limit, who):
            return
        self.on_refusal(limit.name)
        stats = await self._ask("get_window_stats", limit, who)
        raise _too_much(limit, max(1, math.ceil(stats.reset_time - time.time())))

    async def _ask(self, what: str, limit: Limit, who: str) -> Any:
        if self._shared is not None and self._monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(STORE_MAX_S):
                    return await getattr(self._shared, what)(limit.item, limit.name, who)
            except Exception as error:  # noqa: BLE001 (whatever a store fails with: counting must not)
                self._away_until = self._monotonic() + STORE_AWAY_S
                _log.warning("limits are counted here alone", error=type(error).__name__)
        return await getattr(self._here, what)(limit.item, limit.name, who)


def of(method: Method) -> tuple[Limit, ...]:
    """The limits that a method's contract names. Raises ContractError."""
    return tuple(
        Limit(rate.name, RateLimitItemPerSecond(rate.requests, rate.per_s), rate.by_caller)
        for rate in rates_of(method)
    )


def _limit(name: str, text: str) -> Limit | None:
    if not text:
        return None
    try:
        return Limit(name, parse(text))
    except ValueError:
        raise BadLimit(f"{text!r} is no limit such as 600/minute") from None


def _pool(url: str) -> Any:
    if not url.startswith(("redis://", "rediss://")):
        raise BadLimit("limits are kept in a store such as redis://127.0.0.1:6379")
    try:
        from redis.asyncio import ConnectionPool  # noqa: PLC0415 (who has one edge needs none)
    except ImportError:
        raise BadLimit("a store of limits needs `pip install bodega[redis]`") from None
    try:
        return ConnectionPool.from_url(url)
    except ValueError:  # whose words quote the address, with what may be a password
        raise BadLimit("the address of the store of limits cannot be understood") from None


def _counting(url: str, pool: Any) -> SlidingWindowCounterRateLimiter:
    store = storage_from_string(f"async+{url}", implementation="redispy", connection_pool=pool)
    assert isinstance(store, Storage)
    return SlidingWindowCounterRateLimiter(store)


def _too_much(limit: Limit, wait_s: int) -> Refusal:
    told = RateLimited(wait_s)  # in the words of a service
    amount, window_s = limit.item.amount, limit.item.get_expiry()
    headers: Headers = [
        (b"retry-after", b"%d" % wait_s),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (limit.name.encode(), amount, window_s)),
        (b"ratelimit", b'"%b";r=0;t=%d' % (limit.name.encode(), wait_s)),
    ]
    return Refusal(
        429,
        "RESOURCE_EXHAUSTED",
        told.reason,
        told.message,
        details=[{"@type": f"{TYPE_PREFIX}RetryInfo", "retryDelay": f"{wait_s}s"}],
        headers=headers,
    )
