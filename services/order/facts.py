"""What may happen to an order: the facts its history consists of. Pure values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.kernel.money import Money


class Step(StrEnum):
    """What the house does for an order: four steps forward, two that undo, two for each refund."""

    RESERVE_STOCK = "RESERVE_STOCK"
    AUTHORIZE_PAYMENT = "AUTHORIZE_PAYMENT"
    COMMIT_STOCK = "COMMIT_STOCK"
    CAPTURE_PAYMENT = "CAPTURE_PAYMENT"
    VOID_PAYMENT = "VOID_PAYMENT"
    RELEASE_STOCK = "RELEASE_STOCK"
    REFUND_PAYMENT = "REFUND_PAYMENT"
    RETURN_STOCK = "RETURN_STOCK"


class Capture(StrEnum):
    """When the money of an order is taken; decided when it is accepted."""

    CONFIRM = "confirm"
    SHIPMENT = "shipment"


@dataclass(frozen=True, slots=True)
class Line:
    """One product of an order, as it was named and priced when the order was accepted."""

    product_id: str
    sku: str
    name: str
    quantity: int
    unit_price: Money

    @property
    def total(self) -> Money:
        return self.unit_price * self.quantity


@dataclass(frozen=True, slots=True)
class Placed:
    """The order was accepted."""

    user_id: str
    lines: tuple[Line, ...]
    total: Money
    payment_method_id: str
    capture: Capture = Capture.CONFIRM


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step was done, in `attempts` calls; `reference` is what the participant calls it."""

    step: Step
    attempts: int
    reference: str = ""


@dataclass(frozen=True, slots=True)
class StepRefused:
    """A step was refused for a reason that the step itself lists."""

    step: Step
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class StepGivenUp:
    """Patience with a step ended; it MAY have been done."""

    step: Step
    attempts: int
    last_outcome: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody called the order off."""

    reason: str


@dataclass(frozen=True, slots=True)
class CompensationForced:
    """An operator had the order give back everything."""

    reason: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Stock and money are settled."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The order holds nothing any more and came to nothing."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The order holds nothing any more and was called off."""


@dataclass(frozen=True, slots=True)
class NeedsAttention:
    """The order has tried a step for so long that a person should look."""

    step: Step
    attempts: int


@dataclass(frozen=True, slots=True)
class LateMoneyReturned:
    """Money that turned up after the order was given up went back."""

    payment_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class CaptureRequested:
    """The order is to be shipped: of what is held this much is to be taken first."""

    amount: Money


@dataclass(frozen=True, slots=True)
class Shipped:
    """The goods are on their way."""

    tracking_reference: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The goods have arrived."""


@dataclass(frozen=True, slots=True)
class RefundRequested:
    """Somebody had some of the price given back; `quantities` are pieces by product."""

    refund_id: str
    quantities: tuple[tuple[str, int], ...]
    amount: Money
    return_stock: bool
    reason: str = ""
    before_capture: bool = False
    """Whether nothing was taken yet: then so much less will be."""

    @property
    def steps(self) -> tuple[Step, ...]:
        payment = () if self.before_capture else (Step.REFUND_PAYMENT,)
        return (*payment, Step.RETURN_STOCK) if self.return_stock else payment


@dataclass(frozen=True, slots=True)
class Refunded:
    """A refund is done; `full`: nothing of the price is left with the shop."""

    refund_id: str
    amount: Money
    full: bool


Fact = (
    Placed
    | StepDone
    | StepRefused
    | StepGivenUp
    | CancelRequested
    | CompensationForced
    | Confirmed
    | Rejected
    | Cancelled
    | NeedsAttention
    | LateMoneyReturned
    | CaptureRequested
    | Shipped
    | Delivered
    | RefundRequested
    | Refunded
)
Outcome = StepDone | StepRefused | StepGivenUp


@dataclass(frozen=True, slots=True)
class Event:
    """One fact, and when it happened."""

    fact: Fact
    at: datetime
