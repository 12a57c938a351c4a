"""Money is exact: what goes in comes out, and sums never lose a cent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel import errors
from services.kernel.money import (
    AMOUNT_MINOR_MAX,
    NANOS,
    AmountOutOfRange,
    AmountTooPrecise,
    CurrencyMismatch,
    InvalidCurrency,
    Money,
    exponent,
)

currencies = st.sampled_from(["EUR", "USD", "JPY", "KRW", "KWD", "BHD", "XYZ"])
amounts = st.builds(Money, st.integers(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX), currencies)


def pair(currency: str) -> st.SearchStrategy[tuple[Money, Money]]:
    minor = st.integers(-(10**12), 10**12)
    return st.tuples(st.builds(Money, minor, st.just(currency)), st.builds(Money, minor, st.just(currency)))


pairs = currencies.flatmap(pair)


@given(amounts)
def test_an_amount_survives_the_wire(amount: Money) -> None:
    units, nanos = amount.units_and_nanos

    assert Money.of(units, nanos, amount.currency) == amount
    assert abs(nanos) < NANOS
    assert units * nanos >= 0  # google.type.Money: both of one sign


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-NANOS + 1, NANOS - 1), currencies)
def test_every_wire_amount_is_taken_exactly_or_refused(units: int, nanos: int, currency: str) -> None:
    try:
        amount = Money.of(units, nanos, currency)
    except (AmountTooPrecise, AmountOutOfRange):
        return
    assert amount.amount_minor * NANOS == (units * NANOS + nanos) * 10 ** exponent(currency)


@given(pairs)
def test_adding_and_taking_away_undo_each_other(amounts: tuple[Money, Money]) -> None:
    left, right = amounts

    assert left + right - right == left
    assert left + right == right + left
    assert left - right == -(right - left)
    assert left + Money.zero(left.currency) == left


@given(pairs, st.integers(0, 1000))
def test_so_many_times_a_sum_is_the_sum_of_so_many(amounts: tuple[Money, Money], count: int) -> None:
    left, right = amounts

    assert (left + right) * count == left * count + right * count


@given(pairs)
def test_order_agrees_with_subtraction(amounts: tuple[Money, Money]) -> None:
    left, right = amounts

    assert (left < right) == ((left - right).amount_minor < 0)
    assert (left <= right) == (left < right or left == right)
    assert bool(left - right) == (left != right)


@given(amounts, amounts)
def test_currencies_do_not_mix(left: Money, right: Money) -> None:
    if left.currency == right.currency:
        return
    for mix in (Money.__add__, Money.__sub__, Money.__lt__, Money.__le__):
        with pytest.raises(CurrencyMismatch):
            mix(left, right)


@given(amounts)
def test_what_is_printed_can_be_read_back(amount: Money) -> None:
    figure, currency = str(amount).split()
    sign = -1 if figure.startswith("-") else 1
    whole, _, part = figure.lstrip("-").partition(".")

    assert currency == amount.currency
    assert len(part) == exponent(currency)
    assert sign * int(whole + part) == amount.amount_minor


@pytest.mark.parametrize(
    ("units", "nanos", "currency", "minor"),
    [
        (12, 340_000_000, "EUR", 1234),
        (-12, -340_000_000, "EUR", -1234),
        (0, -10_000_000, "EUR", -1),
        (500, 0, "JPY", 500),
        (1, 234_000_000, "KWD", 1234),
        (10**13, 0, "EUR", AMOUNT_MINOR_MAX),
    ],
)
def test_amounts_of_the_world(units: int, nanos: int, currency: str, minor: int) -> None:
    assert Money.of(units, nanos, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("units", "nanos", "currency", "refusal"),
    [
        (0, 1, "EUR", AmountTooPrecise),
        (0, 5_000_000, "EUR", AmountTooPrecise),
        (1, 500_000_000, "JPY", AmountTooPrecise),
        (0, 100_000, "KWD", AmountTooPrecise),
        (10**13, 10_000_000, "EUR", AmountOutOfRange),
        (-(10**14), 0, "EUR", AmountOutOfRange),
        (1, 0, "eur", InvalidCurrency),
        (1, 0, "EURO", InvalidCurrency),
        (1, 0, "", InvalidCurrency),
        (1, 0, "EUR\n", InvalidCurrency),
    ],
)
def test_what_cannot_be_paid_out_is_refused(
    units: int, nanos: int, currency: str, refusal: type[errors.Invalid]
) -> None:
    with pytest.raises(refusal):
        Money.of(units, nanos, currency)
