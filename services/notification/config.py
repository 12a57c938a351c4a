"""What the notification service can be told: nothing of its own yet."""

from services.chassis.config import ServiceSettings


class NotificationSettings(ServiceSettings):
    """Settings of the notification service, `BODEGA_NOTIFICATION__…`: those of every service."""
