"""The ledger: whatever is captured and refunded, it sums to zero and says what is left."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.money import AMOUNT_MINOR_MAX, CurrencyMismatch, Money
from services.payment.domain import Done, Kind, Payment, Refused, Standing
from services.payment.facts import Authorized, Captured, Declined, Refunded, Voided
from services.payment.ledger import Account, Entry, Line, entry_for

AT = datetime(2026, 1, 1, tzinfo=UTC)
AMOUNTS = st.integers(1, AMOUNT_MINOR_MAX)


@pytest.mark.parametrize("event", [Authorized(Money(5, "USD")), Declined(Money(5, "USD"), "no"), Voided()])
def test_where_no_money_moves_there_is_no_entry(event: Authorized | Declined | Voided) -> None:
    assert entry_for(event) is None


def test_a_capture_is_owed_by_the_provider_and_earned_by_sales() -> None:
    assert entry_for(Captured("op", Money(5, "USD"))) == Entry(
        "op",
        Kind.CAPTURE,
        (Line(Account.PROVIDER_CLEARING, Money(5, "USD")), Line(Account.SALES, Money(-5, "USD"))),
    )


def test_an_entry_that_does_not_sum_to_zero_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        Entry(
            "op", Kind.CAPTURE, (Line(Account.SALES, Money(5, "USD")), Line(Account.SALES, Money(5, "USD")))
        )
    with pytest.raises(CurrencyMismatch):
        Entry(
            "op", Kind.CAPTURE, (Line(Account.SALES, Money(5, "USD")), Line(Account.SALES, Money(-5, "EUR")))
        )


@given(st.lists(st.tuples(st.booleans(), AMOUNTS)), st.sampled_from(["USD", "JPY", "KWD"]))
def test_random_captures_and_refunds_sum_to_zero(moves: list[tuple[bool, int]], currency: str) -> None:
    totals: Counter[Account] = Counter()
    for number, (is_capture, amount_minor) in enumerate(moves):
        kind = Captured if is_capture else Refunded
        entry = entry_for(kind(str(number), Money(amount_minor, currency)))
        assert entry
        for line in entry.lines:
            totals[line.account] += line.amount.amount_minor
    assert sum(totals.values()) == 0
    taken = sum(amount if is_capture else -amount for is_capture, amount in moves)
    assert totals[Account.PROVIDER_CLEARING] == taken


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_what_a_payment_tells_is_what_its_ledger_says(later: list[int]) -> None:
    """However the provider's books run ahead, entries add up to captured less refunded."""
    payment = Payment.begun(
        order_id="o", payment_id="p", user_id="u", payment_method_id="m", amount=Money(7, "USD"), at=AT
    )
    payment = payment.settle("p/authorize", Done("auth"), at=AT).close(at=AT)
    captured = 0
    for amount_minor in later:
        captured += amount_minor
        standing = Standing("auth", "p", False, Money(captured, "USD"), payment.refunded)
        payment = payment.adopt(standing, at=AT).go_on(at=AT)
        assert payment.pending
        payment = payment.settle(payment.pending.key, Done("refund"), at=AT)
    entries = [entry for event in payment.pending_events if (entry := entry_for(event))]
    assert len({entry.entry_id for entry in entries}) == len(entries)
    cleared = sum(
        line.amount.amount_minor
        for entry in entries
        for line in entry.lines
        if line.account is Account.PROVIDER_CLEARING
    )
    assert cleared == 0
    assert payment.captured == payment.refunded == Money(captured, "USD")


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.integers(1, 400), st.booleans()), max_size=6),
    st.booleans(),
)
def test_captures_and_refunds_in_part_sum_to_zero_and_to_what_is_left(
    taken: int,
    refunds: list[tuple[int, bool]],
    is_closed: bool,  # noqa: FBT001
) -> None:
    """Whatever part is captured, whichever parts of it go back or are refused, and be it undone or not."""
    payment = Payment.begun(
        order_id="o", payment_id="p", user_id="u", payment_method_id="m", amount=Money(1000, "USD"), at=AT
    )
    payment = payment.settle("p/authorize", Done("auth"), at=AT).capture(Money(taken, "USD"), at=AT)
    payment = payment.settle("p/capture", Done("capture"), at=AT)
    for number, (amount_minor, is_done) in enumerate(refunds):
        amount = Money(amount_minor, "USD")
        assert payment.can_refund(f"r{number}", amount) == (amount <= payment.left)
        if amount <= payment.left:
            payment = payment.refund(refund_id=f"r{number}", amount=amount, at=AT)
            answer = Done("refund") if is_done else Refused("no")
            payment = payment.settle(f"p/refund/r{number}", answer, at=AT)
    if is_closed:
        payment = payment.close(at=AT)
        while payment.next_step:
            payment = payment.go_on(at=AT)
            assert payment.pending
            payment = payment.settle(payment.pending.key, Done("undone"), at=AT)
        assert not payment.left
    lines = [line for event in payment.pending_events if (entry := entry_for(event)) for line in entry.lines]
    assert sum(line.amount.amount_minor for line in lines) == 0
    cleared = [line.amount.amount_minor for line in lines if line.account is Account.PROVIDER_CLEARING]
    assert sum(cleared) == payment.left.amount_minor
