"""The public keys of an issuer of tokens, a JSON Web Key Set (RFC 7517), kept fresh.

The last good set is kept when the issuer does not answer. A token signed with a key that is not known makes
us look again, but not more often than every few seconds: anybody can invent key ids.
"""

import asyncio
import random as system_random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import jwt
import orjson

from services.chassis import telemetry
from services.chassis.policy.backoff import Backoff
from services.kernel.clock import Clock

REFRESH_EVERY_S: Final = 300.0  # issuers announce keys longer than this before they sign with them
LOOK_AGAIN_AFTER_S: Final = 5.0
FETCH_MAX_S: Final = 5.0
KEYS_MAX: Final = 64  # no honest issuer has more

BACKOFF: Final = Backoff(first_s=0.5, max_s=30.0)

Fetch = Callable[[], Awaitable[bytes]]
"""Gets the issuer's key set, as JSON; raises whatever went wrong."""

_log = telemetry.logger("keys")


class Keys:
    """One issuer's keys by their ids."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        algorithms: frozenset[str],
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        """`algorithms` as JWA names them; keys for others in the set are passed over."""
        self._fetch = fetch
        self._algorithms = algorithms
        self._monotonic = clock.monotonic
        self._sleep = sleep
        self._random = random
        self._keys: dict[str, jwt.PyJWK] = {}
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[bool] | None = None
        self.on_withdrawal: Callable[[], object] = lambda: None
        """Called when a key that was known is not any more."""

    def get(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id; None if it is not known (yet)."""
        return self._keys.get(key_id)

    @property
    def is_empty(self) -> bool:
        """Whether the issuer has not told of any key yet."""
        return not self._keys

    @property
    def may_look_again(self) -> bool:
        """Whether the issuer may be asked for a key that is not known."""
        is_due = self._monotonic() >= self._looked_at + LOOK_AGAIN_AFTER_S
        return is_due or self._looking is not None or self.is_empty

    async def look_again(self) -> bool:
        """Asks the issuer, once for all who wait; whether it answered. Keeps what there is if it did not."""
        if self._looking is None:
            self._looked_at = self._monotonic()
            self._looking = asyncio.create_task(self._look(), name="keys")
        return await asyncio.shield(self._looking)

    async def run(self) -> None:
        """Never returns. Looks now and then, sooner after a failure."""
        failures = 0
        while True:
            failures = 0 if await self.look_again() else failures + 1
            await self._sleep(BACKOFF.delay_s(failures, self._random) if failures else REFRESH_EVERY_S)

    async def _look(self) -> bool:
        try:
            async with asyncio.timeout(FETCH_MAX_S):
                keys = _parsed(await self._fetch(), self._algorithms)
        except Exception as error:  # noqa: BLE001 (an issuer may fail in any way; what we have stays good)
            _log.warning("issuer gives no keys", error=repr(error))
            return False
        finally:
            self._looking = None
        withdrawn = self._keys.keys() - keys.keys()
        self._keys = keys
        if withdrawn:
            self.on_withdrawal()
        return True


def _parsed(key_set: bytes, algorithms: frozenset[str]) -> dict[str, jwt.PyJWK]:
    found: dict[str, jwt.PyJWK] = {}
    for described in orjson.loads(key_set)["keys"][:KEYS_MAX]:
        key = _key(described)
        if key is not None and key.algorithm_name in algorithms:
            found[described["kid"]] = key
    return found


def _key(described: dict[str, Any]) -> jwt.PyJWK | None:
    """None for one that is not for signatures, or of a kind unknown here."""
    if not isinstance(described.get("kid"), str) or described.get("use", "sig") != "sig":
        return None
    try:
        return jwt.PyJWK(described)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
