"""Refuses whoever asks for one thing too often: what the contract says in `rate_limits`.

Each instance counts for itself. Calls that the edge passes on count for the client it names; what the house's
other programs ask for is theirs to bound.
"""

from collections.abc import Callable, Hashable
from typing import Any, Final

from services.chassis.context import RequestContext
from services.chassis.contract import Method
from services.chassis.identity.caller import Caller
from services.chassis.identity.workload import workload_of
from services.chassis.networks import Networks, is_in
from services.chassis.policy.rates import Rate, Windows, rates_of
from services.chassis.server.address import EDGE, address_of, site
from services.chassis.server.gate import Context, Guard
from services.kernel import errors

KEPT_MAX: Final = 20_000  # some 4 MB: few methods are limited


class RateLimited(errors.TooMuch):
    """That is more often than is allowed; ask again later."""

    def __init__(self, retry_in_s: float) -> None:
        super().__init__()
        self.retry_after_s = retry_in_s


class Rates:
    """The gate. `exempt`: networks whose calls are not counted."""

    def __init__(
        self, monotonic: Callable[[], float], exempt: Networks = (), *, kept_max: int = KEPT_MAX
    ) -> None:
        self._monotonic = monotonic
        self._exempt = exempt
        self._windows = Windows(kept_max)

    def guard(self, method: Method) -> Guard | None:
        rates = rates_of(method)
        if not rates:
            return None

        def counted(_request: Any, call: RequestContext, context: Context) -> None:
            if workload_of(context) in ("", EDGE):
                address = address_of(context)
                if address and not is_in(address, self._exempt):
                    for rate in rates:
                        self._count(method, rate, _who(rate, call.caller, address))

        return counted

    def _count(self, method: Method, rate: Rate, who: Hashable) -> None:
        key, now = (method.path, rate.name, who), self._monotonic()
        if not self._windows.admit(key, rate.requests, rate.per_s, now):
            raise RateLimited(self._windows.retry_in_s(key, rate.requests, rate.per_s, now))


def _who(rate: Rate, caller: Caller, address: str) -> Hashable:
    """Whose calls are counted together: an account's own, those by its API keys, or an address's."""
    if rate.by_caller and caller.user_id:
        return caller.user_id, caller.scopes is not None
    return site(address)
