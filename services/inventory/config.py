"""What the inventory service can be told."""

from services.chassis.config import ServiceSettings


class Settings(ServiceSettings):
    """Nothing beyond what every service can."""
