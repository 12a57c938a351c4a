"""What the payment service can be told, beyond what every service can."""

from typing import Final

from pydantic import Field, SecretStr, field_validator

from services.chassis.config import ServiceSettings
from services.payment.webhook import key

# "not a secret: for laptops and tests"; production refuses it.
LAPTOP_WEBHOOK_SECRET: Final = "whsec_bm90IGEgc2VjcmV0OiBmb3IgbGFwdG9wcyBhbmQgdGVzdHM="  # noqa: S105


class PaymentSettings(ServiceSettings):
    """Settings of the payment service: `BODEGA_PAYMENT__…`."""

    provider_database_url: str = Field(min_length=1, repr=False)
    """The sandbox provider's own books, e.g. `sqlite:///sandbox_provider.db`."""

    driver: str = Field(default="payment-0", min_length=1, max_length=64)
    """Names this replica, the same after a restart: what it held when it died, it takes up again at once."""

    provider_answers_within_s: float = Field(default=3.0, gt=0, le=30)
    """How long one question to the provider may take; below the deadlines of those who wait for us."""

    sandbox_slow_s: float = Field(default=1.0, ge=0, le=60)
    """How long the sandbox takes to answer for `tok_slow`."""

    webhook_secret: SecretStr = SecretStr(LAPTOP_WEBHOOK_SECRET)
    """What the provider signs its webhooks with: `whsec_` and base64, as Standard Webhooks has it."""

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_key(cls, secret: SecretStr) -> SecretStr:
        key(secret.get_secret_value())
        return secret
