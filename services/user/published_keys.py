"""The public keys that access tokens may be signed with, for all who check them, this service included."""

from services.chassis.storage.database import Store
from services.kernel.clock import Clock
from services.user import key_schedule, signing_keys
from services.user.store import Transaction


class PublishedKeys:
    """Read from the database each time, so that every replica tells the same."""

    def __init__(self, store: Store[Transaction], *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def key_set(self) -> bytes:
        """As a JWK set."""
        keys = await self._store.read(lambda tx: tx.signing_keys.all())
        return signing_keys.jwk_set(key_schedule.published(keys, self._clock.now()))
