"""Money: an exact number of minor units of one currency (cents, yen, fils).

Wire amounts are `google.type.Money` (units and nanos). What a currency cannot pay out, such as a tenth
of a cent, is refused at the door instead of rounded, so that every sum in the house is exact.
"""

import re
from dataclasses import dataclass

from services.kernel import errors

NANOS = 1_000_000_000
AMOUNT_MINOR_MAX = 10**15  # ten trillion dollars: sums of a thousand such still fit 63 bits

# ISO 4217 currencies whose minor unit is not a hundredth.
_EXPONENTS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}

_CURRENCY = re.compile(r"[A-Z]{3}")


class InvalidCurrency(errors.Invalid):
    """{currency} is not an ISO 4217 currency code."""


class AmountTooPrecise(errors.Invalid):
    """{units}.{nanos} {currency} is not a whole number of the currency's smallest unit."""


class AmountOutOfRange(errors.Invalid):
    """An amount of {amount_minor} minor units of {currency} is beyond what this shop counts."""


class CurrencyMismatch(errors.Invalid):
    """{left} and {right} cannot be put together: amounts must be in one currency."""


@dataclass(frozen=True, slots=True)
class Money:
    """`amount_minor` minor units of `currency`; negative amounts are debts."""

    amount_minor: int
    currency: str

    @classmethod
    def zero(cls, currency: str) -> "Money":
        return cls(0, currency)

    @classmethod
    def of(cls, units: int, nanos: int, currency: str) -> "Money":
        """From the parts of a `google.type.Money`.

        Raises InvalidCurrency, AmountTooPrecise or AmountOutOfRange.
        """
        if not _CURRENCY.fullmatch(currency):
            raise InvalidCurrency(currency=currency)
        per_minor = NANOS // 10 ** exponent(currency)
        amount_minor, rest = divmod(units * NANOS + nanos, per_minor)
        if rest:
            raise AmountTooPrecise(units=units, nanos=f"{abs(nanos):09}", currency=currency)
        if abs(amount_minor) > AMOUNT_MINOR_MAX:
            raise AmountOutOfRange(amount_minor=amount_minor, currency=currency)
        return cls(amount_minor, currency)

    @property
    def units_and_nanos(self) -> tuple[int, int]:
        """The parts of a `google.type.Money`: both of one sign, as its definition demands."""
        per_minor = NANOS // 10 ** exponent(self.currency)
        sign = -1 if self.amount_minor < 0 else 1
        units, nanos = divmod(abs(self.amount_minor) * per_minor, NANOS)
        return sign * units, sign * nanos

    def __add__(self, other: "Money") -> "Money":
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.amount_minor - self._same(other), self.currency)

    def __mul__(self, count: int) -> "Money":
        return Money(self.amount_minor * count, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.amount_minor, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.amount_minor < self._same(other)

    def __le__(self, other: "Money") -> bool:
        return self.amount_minor <= self._same(other)

    def __bool__(self) -> bool:
        return self.amount_minor != 0

    def __str__(self) -> str:
        places = exponent(self.currency)
        sign = "-" if self.amount_minor < 0 else ""
        whole, part = divmod(abs(self.amount_minor), 10**places)
        return (
            f"{sign}{whole}.{part:0{places}} {self.currency}" if places else f"{sign}{whole} {self.currency}"
        )

    def _same(self, other: "Money") -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(left=self.currency, right=other.currency)
        return other.amount_minor


def exponent(currency: str) -> int:
    """How many decimals the currency has (ISO 4217); 2 for those that say nothing else."""
    return _EXPONENTS.get(currency, 2)
