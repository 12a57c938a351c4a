"""What the user service can be told, beyond what every service can."""

from pydantic import Field

from services.chassis.config import ServiceSettings


class UserSettings(ServiceSettings):
    """Settings of the user service: `BODEGA_USER__…`."""

    password_hashes_at_once: int = Field(default=2, ge=1, le=64)
    """Each takes a core and `password_memory_kib` for its time."""

    password_time_cost: int = Field(default=3, ge=1, le=20)
    password_memory_kib: int = Field(default=64 * 1024, ge=8 * 4, le=1024 * 1024)
    password_parallelism: int = Field(default=4, ge=1, le=4)
    """Costs of a hash: the second recommendation of RFC 9106, section 4."""
