"""What the user service can be told, beyond what every service can."""

from collections.abc import Iterator
from datetime import timedelta

from pydantic import Field, SecretStr

from services.chassis.config import LAPTOP_SECRET, ServiceSettings
from services.user.key_schedule import Schedule


class UserSettings(ServiceSettings):
    """Settings of the user service: `BODEGA_USER__…`."""

    password_hashes_at_once: int = Field(default=2, ge=1, le=64)
    """Each takes a core and `password_memory_kib` for its time."""

    password_time_cost: int = Field(default=3, ge=1, le=20)
    password_memory_kib: int = Field(default=64 * 1024, ge=8 * 4, le=1024 * 1024)
    password_parallelism: int = Field(default=4, ge=1, le=4)
    """Costs of a hash: the second recommendation of RFC 9106, section 4."""

    signing_key_secret: SecretStr = SecretStr(LAPTOP_SECRET)
    """Seals the private keys that sign access tokens. After a change, a new key signs at once."""

    signing_key_period_s: int = Field(default=24 * 3600, gt=0)
    """How long a key signs before the next one does."""

    signing_key_lead_s: int = Field(default=3600, gt=0)
    """How long a key is published before it signs: several times as long as verifiers keep a set of keys."""

    @property
    def key_schedule(self) -> Schedule:
        return Schedule(
            timedelta(seconds=self.signing_key_period_s), timedelta(seconds=self.signing_key_lead_s)
        )

    def _dangers(self) -> Iterator[str]:
        yield from super()._dangers()
        if self.signing_key_lead_s > self.signing_key_period_s:
            yield "signing_key_lead_s must not be longer than signing_key_period_s"
