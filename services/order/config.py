"""What the order service can be told, beyond what every service can."""

from pydantic import Field

from services.chassis.config import ServiceSettings


class OrderSettings(ServiceSettings):
    """Settings of the order service: `BODEGA_ORDER__…`."""

    user_target: str = "127.0.0.1:50051"
    inventory_target: str = "127.0.0.1:50052"
    payment_target: str = "127.0.0.1:50054"
    """Where the neighbours are: gRPC targets."""

    driver: str = Field(default="order-0", min_length=1, max_length=64)
    """Names this replica, the same after a restart: what it held when it died, it takes up again at once."""

    hold_s: int = Field(default=900, ge=60, le=86_400)
    """How long inventory holds the stock of an order that is under way."""

    step_patience_s: float = Field(default=60.0, gt=0, le=600)
    """How long a step that does not answer is tried before the order is given up."""

    backoff_base_s: float = Field(default=0.2, gt=0, le=10)
    backoff_max_s: float = Field(default=30.0, gt=0, le=600)
    """Between two attempts at a step: doubling from the one to the other, with full jitter.

    As long may an order still lie after what it waits for is back, before it stands in line. Shorter costs
    more while that is away: each attempt is two transactions.
    """
