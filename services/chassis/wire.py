"""Between protobuf's common types and the kernel's words. Pure."""

from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage

from services.kernel.clock import to_micros
from services.kernel.money import Money

_MICROS_PER_S: Final = 1_000_000


def uuid_key(text: str) -> str:
    """An id as it is kept and compared: a UUID is the same in either case (RFC 9562, section 4)."""
    return text.lower()


def money_to_proto(money: Money) -> MoneyMessage:
    units, nanos = money.units_and_nanos
    return MoneyMessage(currency_code=money.currency, units=units, nanos=nanos)


def money_from_proto(message: MoneyMessage) -> Money:
    """Raises InvalidCurrency, AmountTooPrecise or AmountOutOfRange."""
    return Money.of(message.units, message.nanos, message.currency_code)


def timestamp(at: datetime) -> Timestamp:
    seconds, micros = divmod(to_micros(at), _MICROS_PER_S)  # a third of what `FromDatetime` takes
    return Timestamp(seconds=seconds, nanos=micros * 1000)
